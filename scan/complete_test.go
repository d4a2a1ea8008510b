package scan

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
)

func scanBytes(t *testing.T, data []byte, opt Options) *Result {
	t.Helper()
	res, err := Scan(context.Background(), bytes.NewReader(data), int64(len(data)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// e2fsck takes the mark "never written" off the bitmap of the last group, and
// reads that bitmap. It believes the mark of other groups.
func TestUninitBitmapOfLastGroup(t *testing.T) {
	for _, flags := range []string{"2", "3"} { // BLOCK_UNINIT, with INODE_UNINIT
		data := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -g 2048 -O ^flex_bg,^has_journal",
			Debugfs: []string{"set_bg 2 flags " + flags, "set_bg 2 checksum calc", "set_bg 3 flags " + flags, "set_bg 3 checksum calc"}}, t.TempDir())
		res := scanBytes(t, data, Options{})
		desc := func(g int) uint64 { return uint64(le.Uint32(data[2048+64*g:])) } // bg_block_bitmap_lo
		if !res.Map.Contains(BlockBitmap, desc(3)) {
			t.Errorf("flags %s: the bitmap of the last group is left out", flags)
		}
		if res.Map.Contains(BlockBitmap, desc(2)) {
			t.Errorf("flags %s: a bitmap that nobody reads is taken", flags)
		}
	}
}

// A journal whose superblock is lost is taken whole, unless less was asked for.
func TestJournalWithoutSuperblock(t *testing.T) {
	data := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -J size=1"}, t.TempDir())
	whole := scanBytes(t, data, Options{}).Map
	for run := range whole.RunsOf(Journal) {
		clear(data[run.Start*1024:][:1024])
		break
	}
	res := scanBytes(t, data, Options{})
	if !hasProblem(res, BadJournal) {
		t.Error("the damage is not told")
	}
	for run := range whole.RunsOf(Journal) {
		for block := run.Start; block < run.Start+run.Count; block++ {
			if !res.Map.Contains(Journal, block) && !res.Map.Contains(Claimed, block) {
				t.Fatalf("block %d of the journal is left out", block)
			}
		}
	}
	for _, mode := range []JournalMode{JournalLive, JournalNone} {
		if n := scanBytes(t, data, Options{Journal: mode}).Map.Blocks(Claimed); n != 0 {
			t.Errorf("mode %d takes %d blocks that no recovery reads", mode, n)
		}
	}
}

// Values of attributes are contents: left out, but for the inode that each has
// and the tree of its blocks, unless they are asked for.
func TestXattrValues(t *testing.T) {
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, bytes.Repeat(canary, 63), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	data := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -O ea_inode", Debugfs: []string{"ea_set -f " + value + " file user.value"}}, dir)
	res := scanBytes(t, data, Options{})
	checkNoCanary(t, res)
	if n := res.Map.Blocks(XattrValue); n != 0 {
		t.Errorf("%d blocks of values", n)
	}
	res = scanBytes(t, data, Options{XattrValues: true})
	if n := res.Map.Blocks(XattrValue); n != 1 {
		t.Errorf("%d blocks of values were asked for, want 1", n)
	}
	got := make([]byte, len(data))
	_, _ = res.View().ReadAt(got, 0)
	if n := bytes.Count(got, canary); n != 63 {
		t.Errorf("%d words of the value, want 63", n)
	}
}

// A clone of a source that ends early is as long as the filesystem. Other
// images are as long as the source, which e2fsck compares with the filesystem.
func TestSourceEndsEarly(t *testing.T) {
	const size, short = 16 << 20, 9<<20 + 700
	data := makeImage(t, testfs.Spec{Size: size, Mke2fs: "-b 1024 -t ext4"}, t.TempDir())[:short]
	for _, c := range []struct {
		opt        Options
		size       int64
		unreadable bool
	}{{Options{}, short &^ 511, false}, {Options{Files: true}, size, true}} {
		res := scanBytes(t, data, c.opt)
		if got := res.View().Size(); got != c.size {
			t.Errorf("%+v: the view has %d bytes, want %d", c.opt, got, c.size)
		}
		if c.unreadable && res.FilesystemSize() != c.size {
			t.Errorf("%+v: the filesystem has %d bytes", c.opt, res.FilesystemSize())
		}
		if got := res.Unreadable(); (len(got) == 1 && got[0] == Range{short &^ 511, size}) != c.unreadable || len(got) > 1 {
			t.Errorf("%+v: unreadable is %v", c.opt, got)
		}
		if !hasProblem(res, SizeMismatch) {
			t.Errorf("%+v: nothing says that the source ends early", c.opt)
		}
		if n, err := res.View().ReadAt(make([]byte, 4096), c.size-4096); n != 4096 || err != nil {
			t.Errorf("%+v: reading the end: %d, %v", c.opt, n, err)
		}
	}
}
