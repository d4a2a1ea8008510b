package scrub

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/testfs"
)

// TestSameStory damages filesystems and scrubs them. e2fsck says the same of the
// scrubbed image as of the source, but for names: about an inode, an index, an
// attribute, a target, a count. And no word of the source is left.
func TestSameStory(t *testing.T) {
	secrets := []string{"file-0", "link-0", "nnnnnnnn", "tttttttt", "xxxxxxxx", "value-inode", "fast-59", "default-acl", "block block", "shared shared", testfs.Canary}
	for _, options := range []string{
		"-t ext4 -b 1024 -O ea_inode", "-t ext4 -b 2048 -O ^metadata_csum,uninit_bg,quota,inline_data", "-t ext2 -b 1024",
	} {
		source := testfs.Make(t, testfs.Spec{Mke2fs: options, Size: 24 << 20, Fill: testfs.Copied, Fsck: true}).Path
		for _, damage := range [][]string{
			nil, // it is sound
			{"sif /plain/big links_count 7", "sif /plain/file-007 size 99", "sif /plain/file-008 blocks 77"},
			{"sif /htree mode 0100644", "sif /deep mode 0010644"},
			{"sif /links/slow-60 size 70", "sif /links/slow-900 size 800"},
			{"sif /frag links_count 0", "sif /attr/block file_acl 9", "sif /plain/big mode 0060644"},
			{"ssv free_blocks_count 7", "ssv free_inodes_count 9", "set_bg 0 free_inodes_count 5", "set_bg 0 used_dirs_count 77", "set_bg 0 checksum calc"},
			{"unlink /plain/file-011", "clri /htree2", "clri /links/hard"},
			{"link /plain/file-012 /attr", "link /deep /deleted/again", "rm /attr/shared-1"},
			{"sif /htree2 flags 0", "sif /htree block[0] 30", "sif /plain block[2] 999999"},
			{"ssv last_orphan 20", "sif <20> links_count 0", "sif <20> dtime 21"},
		} {
			t.Run(fmt.Sprintf("%s/%q", options, damage), func(t *testing.T) {
				path := testfs.Copy(t, source)
				if damage != nil {
					testfs.DebugfsWrite(t, path, damage...)
				}
				want := testfs.Fsck(t, path, "-fn")
				if (want.Exit != 0) != (damage != nil) {
					t.Fatalf("e2fsck exits %d:\n%s", want.Exit, want.Text)
				}
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				image, _, err := scrubbed(data, 1)
				if err != nil {
					t.Fatal(err)
				}
				scrambled := filepath.Join(filepath.Dir(path), "scrambled.img")
				if err := os.WriteFile(scrambled, image, 0o600); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(testfs.Unnamed(want), testfs.Unnamed(testfs.Fsck(t, scrambled, "-fn"))); d != "" {
					t.Errorf("e2fsck says otherwise (-source +scrubbed):\n%s", d)
				}
				for _, word := range secrets {
					if at := bytes.Index(image, []byte(word)); at >= 0 {
						t.Errorf("%q is left at byte %d", word, at)
					}
				}
			})
		}
	}
}
