package reduce

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// TestFree frees random blocks but for those that are kept, and compares the bits
// and the counts with what one block after the other would have become.
func TestFree(t *testing.T) {
	b, err := sample()
	if err != nil {
		t.Fatal(err)
	}
	f, err := newDisk(memory(b)).open()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 9))
	for range 200 {
		e := f.edit()
		want := map[uint32][]byte{}
		for group := range f.geo.GroupCount {
			if bitmap := e.blockBitmap(group); bitmap != nil {
				want[group] = bytes.Clone(bitmap)
			}
		}
		var kept []ranges.Range[uint64]
		for at := r.Uint64N(500); at < f.geo.BlocksCount; at += r.Uint64N(6000) {
			n := 1 + r.Uint64N(300)
			kept = ranges.Append(kept, at, at+n)
			at += n
		}
		start, count := r.Uint64N(f.geo.BlocksCount+100), r.Uint64N(20_000)
		e.free(start, count, kept)
		freed := map[uint32]int64{}
		for block := start; block < start+count; block++ {
			i := ranges.Find(kept, block)
			if !f.geo.ValidBlock(block) || i < len(kept) && kept[i].Start <= block {
				continue
			}
			group, bit := f.cluster(block)
			if want[group] != nil && want[group][bit/8]&(1<<(bit%8)) != 0 {
				want[group][bit/8] &^= 1 << (bit % 8)
				freed[group]++
			}
		}
		total := int64(0)
		for group, bitmap := range want {
			if !bytes.Equal(e.blockBitmap(group), bitmap) {
				t.Fatalf("%d blocks from %d: the bitmap of group %d differs", count, start, group)
			}
			if got := freeBlocks(e.desc(group)) - freeBlocks(f.desc(group)); got != freed[group] {
				t.Fatalf("%d blocks from %d: group %d has %d more, want %d", count, start, group, got, freed[group])
			}
		}
		for group := range f.geo.GroupCount { // those without a bitmap too
			total += freeBlocks(e.desc(group)) - freeBlocks(f.desc(group))
		}
		if got := int64(le.Uint32(e.super()[sbFreeBlocksLo:])) - int64(le.Uint32(f.sb.Bytes()[sbFreeBlocksLo:])); got != total {
			t.Fatalf("%d blocks from %d: %d more in all, want %d", count, start, got, total)
		}
	}
}

// freeBlocks returns how many blocks a descriptor says are free.
func freeBlocks(d ext.GroupDesc) int64 { return count(d, bgFreeBlocksLo, bgFreeBlocksHi) }
