package scan

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// makeImage makes a filesystem with the contents of a folder, and inode tables
// that are written whole unless the spec says otherwise, and returns its bytes.
func makeImage(t testing.TB, spec testfs.Spec, dir string) []byte {
	t.Helper()
	spec.Mke2fs = "-E lazy_itable_init=0 -d " + dir + " " + spec.Mke2fs
	data, err := os.ReadFile(testfs.Make(t, spec).Path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// blockSizeOf returns the size of the blocks of a filesystem.
func blockSizeOf(image []byte) int {
	return 1024 << le.Uint32(image[ext.SuperblockOffset+0x18:]) // s_log_block_size
}

// tree makes a folder with files of the given contents: small and large, one
// with many extents, links short and long, a directory of several blocks.
func tree(t testing.TB, contents []byte) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, n int) {
		must(os.WriteFile(filepath.Join(dir, name), bytes.Repeat(contents, n/len(contents)+1)[:n], 0o600))
	}
	write("small", 5000)
	write("large", 100<<10)
	write("deleted", 50<<10)
	holes, err := os.Create(filepath.Join(dir, "holes"))
	must(err)
	for i := range int64(100) {
		_, err := holes.WriteAt(contents, i*8192)
		must(err)
	}
	must(holes.Close())
	must(os.Symlink(strings.Repeat("s", 20), filepath.Join(dir, "short-link")))
	must(os.Symlink(strings.Repeat("l", 300), filepath.Join(dir, "long-link")))
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	for i := range 60 {
		must(os.WriteFile(filepath.Join(dir, "folder", fmt.Sprintf("%s-%03d", strings.Repeat("n", 40), i)), nil, 0o600))
	}
	return dir
}

// checkTree checks that a scan has found what the contents of tree lead to: the
// blocks of directories, the target of a long symlink, and the node or indirect
// block of a file in pieces. Tests that compare one scan with another need that:
// two scans that find nothing agree.
func checkTree(t testing.TB, m *Map) {
	t.Helper()
	for kind, least := range map[Kind]uint64{InodeTable: 1, Directory: 4, Symlink: 1} {
		if n := m.Blocks(kind); n < least {
			t.Fatalf("%d blocks of kind %v, want %d at least", n, kind, least)
		}
	}
	if m.Blocks(ExtentNode)+m.Blocks(IndirectBlock) == 0 {
		t.Fatal("no extent node and no indirect block")
	}
}
