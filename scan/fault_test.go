package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"e2qcow/internal/testfs"
)

// readAll reads a view to its end, run by run.
func readAll(t testing.TB, v *View) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		start, end, err := v.NextRun(off)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		n := min(end-start, int64(len(buf)))
		if _, err := v.ReadAt(buf[:n], start); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		off = start + n
	}
}

// Each sector of a filesystem in turn cannot be read. Where it holds metadata
// it is listed, alone; elsewhere nothing is, whatever is read through it.
func TestEverySectorBad(t *testing.T) {
	for _, c := range []testfs.Spec{
		{Size: 2 << 20, Mke2fs: "-b 1024 -t ext4 -O ^has_journal,inline_data -g 512 -N 128 -I 256"},
		{Size: 1 << 20, Mke2fs: "-b 1024 -t ext2 -g 512 -N 96"},
		{Size: 3 << 20, Mke2fs: "-b 4096 -t ext4 -O ^has_journal,bigalloc,^resize_inode -C 16384 -N 128"},
	} {
		t.Run(c.Mke2fs, func(t *testing.T) {
			data := makeImage(t, c, tree(t, []byte("file data ")))
			size := int64(len(data))
			sound, err := Scan(context.Background(), bytes.NewReader(data), size, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if p := sound.Problems(); len(p) > 0 {
				t.Fatalf("a new filesystem has problems: %v", p)
			}
			checkTree(t, sound.Map)
			all := sound.Map.all()
			bs := int64(sound.BlockSize())
			step := int64(2*raceShrink - 1) // odd, so that it goes through all parts of a block
			for s := int64(0); s < size; s += step * sector {
				src := &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{s}, nothing: s/sector%2 == 0}
				res, err := Scan(context.Background(), src, size, Options{Threads: 1})
				if err != nil {
					// The primary superblock of a filesystem without another.
					if s/1024 != 1 || sound.Map.Blocks(Superblock) > 1 {
						t.Fatalf("sector at %d: %v", s, err)
					}
					continue
				}
				readAll(t, res.View())
				lost := res.Unreadable()
				meta := all.contains(uint64(s / bs))
				if len(lost) > 1 || len(lost) == 1 && lost[0] != (Range{s, s + sector}) {
					t.Fatalf("sector at %d: %v listed", s, lost)
				}
				if meta != (len(lost) == 1) {
					t.Errorf("sector at %d, which is metadata: %v, is listed: %v", s, meta, len(lost) == 1)
				}
			}
		})
	}
}

// A filesystem on which nothing but the superblock can be read is a result,
// with all that was looked for listed.
func TestOnlySuperblockReadable(t *testing.T) {
	c := testfs.Spec{Size: 4 << 20, Mke2fs: "-b 1024 -t ext4 -g 1024 -N 128"}
	data := makeImage(t, c, tree(t, []byte("file data ")))
	size := int64(len(data))
	var bad []int64
	for s := int64(2048); s < size; s += sector {
		bad = append(bad, s)
	}
	res, err := Scan(context.Background(), &badDisk{ReaderAt: bytes.NewReader(data), bad: bad}, size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, res.View())
	if len(res.Unreadable()) == 0 || res.Super() == nil {
		t.Errorf("superblock %v, unreadable %v", res.Super(), res.Unreadable())
	}
	checkResult(t, bytes.NewReader(data), size, res)
}
