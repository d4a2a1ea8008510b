package scan

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// TestFilesOfDamaged takes the contents of files of damaged filesystems: all
// that is metadata without them is there too, and no more than the device has.
func TestFilesOfDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), 300<<10), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range []string{"-t ext2", "-t ext4", "-t ext4 -O bigalloc -C 16384"} {
		image := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 " + options}, dir)
		if n := scanBytes(t, image, Options{Files: true}).Map.Blocks(FileData); n < 900 {
			t.Errorf("%s: %d blocks of file data, want 900 at least", options, n)
		}
		for seed := range uint64(25) {
			r := rand.New(rand.NewPCG(1, seed))
			damaged := bytes.Clone(image)
			for range 1 + r.IntN(200) {
				at := r.IntN(len(damaged))
				if r.IntN(2) == 0 {
					at = r.IntN(400 << 10) // where the tables are
				}
				damaged[at] = byte(r.Uint32())
			}
			scanned := func(files bool) *Result {
				res, err := Scan(context.Background(), bytes.NewReader(damaged), int64(len(damaged)), Options{Files: files, Backups: BackupsAll})
				if err != nil {
					t.Fatalf("%s, seed %d: %v", options, seed, err)
				}
				return res
			}
			without, with := scanned(false), scanned(true)
			missing := without.Map.all()
			missing.remove(with.Map.all())
			if n := missing.count(); n > 0 {
				t.Errorf("%s, seed %d: %d blocks of metadata are not taken with file data", options, seed, n)
			}
			if with.UsedBytes() > int64(len(damaged)) || with.MetadataBytes() > with.UsedBytes() {
				t.Errorf("%s, seed %d: %d bytes of %d, %d of them metadata", options, seed, with.UsedBytes(), len(damaged), with.MetadataBytes())
			}
		}
	}
}

// What is counted as metadata is all but blocks of files' contents, also what
// only damage makes structure.
func TestMetadataBytes(t *testing.T) {
	const contents = 100
	fs := newSynthetic(layout{blocks: 4096})
	noNode := fs.block(make([]byte, 4096))
	fs.inode(12, modeRegular, ext.FlagExtents, contents*4096, extentNode(ext.IBlockSize, 0, entry{len: contents, block: 1000}))
	fs.inode(13, modeRegular, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: noNode}))
	for _, files := range []bool{false, true} {
		res := scanBounded(t, fs, fs.size, Options{Files: files})
		wantBlocks(t, res.Map, Claimed, noNode)
		want := res.UsedBytes()
		if files {
			want -= contents * 4096
		}
		if got := res.MetadataBytes(); got != want {
			t.Errorf("files %v: %d bytes of metadata, want %d", files, got, want)
		}
	}
}
