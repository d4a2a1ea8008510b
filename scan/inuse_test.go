package scan

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"e2qcow/internal/testfs"
)

// TestInUse damages the inode of a file: its contents are taken all the same
// where the block bitmap can be believed, and where it cannot they are not.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), 900<<10), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	take := func(image []byte, opt Options) *Result {
		t.Helper()
		opt.Files = true
		res, err := Scan(context.Background(), bytes.NewReader(image), int64(len(image)), opt)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	bitmapOf := func(res *Result) int64 {
		for run := range res.Map.RunsOf(BlockBitmap) {
			return int64(run.Start) * int64(res.BlockSize())
		}
		t.Fatal("no bitmap")
		return 0
	}
	for _, c := range []struct {
		options, damage string
		checksums       bool
	}{
		{"-t ext2", "sif a block[IND] 0", false},
		{"-t ext4", "sif a block[0] 0", true},
		{"-t ext4 -O ^metadata_csum,^resize_inode,meta_bg", "sif a block[0] 0", false},
		{"-t ext4 -O bigalloc -C 16384", "sif a block[0] 0", true},
	} {
		r := testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 " + c.options, Stale: true}
		sound := take(makeImage(t, r, dir), Options{})
		if n, want := sound.Map.Blocks(FileData), uint64(2*900); n != want {
			t.Errorf("%s: %d blocks of files that fill %d", c.options, n, want)
		}
		if less := take(makeImage(t, r, dir), Options{Journal: JournalNone}); less.Map.Blocks(FileData) != sound.Map.Blocks(FileData) {
			t.Errorf("%s: %d blocks of files without the journal, %d with it", c.options, less.Map.Blocks(FileData), sound.Map.Blocks(FileData))
		}
		r.Debugfs = []string{c.damage}
		image := makeImage(t, r, dir)
		missing := func(image []byte) uint64 {
			lost := new(blockSet)
			lost.union(&sound.Map.sets[FileData])
			lost.remove(take(image, Options{}).Map.all())
			return lost.count()
		}
		if n := missing(image); n > 0 {
			t.Errorf("%s: %d blocks of a damaged file are missing", c.options, n)
		}
		bad := slices.Clone(image)
		bad[bitmapOf(sound)] ^= 0x10
		if n := missing(bad); (n > 0) != c.checksums {
			t.Errorf("%s: with a damaged bitmap %d blocks are missing", c.options, n)
		}
	}
}

// TestBadBlocks takes no blocks that are listed as bad, though they are in use.
func TestBadBlocks(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "bad")
	if err := os.WriteFile(list, []byte("5000\n5001\n6000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -l " + list}, dir)
	res, err := Scan(context.Background(), bytes.NewReader(image), int64(len(image)), Options{Files: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range []uint64{5000, 5001, 6000} {
		if res.Map.all().contains(block) {
			t.Errorf("block %d is taken", block)
		}
	}
}

func TestBitRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = []byte{0, 0xff, byte(r.Uint32())}[r.IntN(3)]
		}
		got := make([]byte, len(b))
		last := uint64(0)
		for first, end := range bitRuns(b) {
			if first >= end || first < last || last > 0 && first == last {
				t.Fatalf("%x: [%d, %d) behind %d", b, first, end, last)
			}
			for last = end; first < end; first++ {
				got[first/8] |= 1 << (first % 8)
			}
		}
		if !bytes.Equal(got, b) {
			t.Errorf("%x: got %x", b, got)
		}
	}
}
