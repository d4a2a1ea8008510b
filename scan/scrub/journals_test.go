package scrub

import (
	"math/rand/v2"
	"slices"
	"testing"

	"e2qcow/ext"
	"e2qcow/scan"
)

// TestJournalFile compares where blocks lie with a table of all, in journals
// whose extents overlap, on the disk and in the file.
func TestJournalFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		const places = 200
		var blocks scan.FileMap
		logical := uint32(rng.IntN(3))
		for range 1 + rng.IntN(12) {
			x := ext.Extent{Logical: logical, Start: 1 + rng.Uint64N(places-40), Len: 1 + rng.Uint32N(40)}
			blocks = append(blocks, x)
			logical += rng.Uint32N(x.Len + 3)
		}
		want := make(map[uint64][]uint32)
		for n := range uint32(blocks.Blocks()) {
			if at, ok := blocks.Block(n); ok {
				want[at] = append(want[at], n)
			}
		}
		first := blocks[0].Start
		j := newJournalFile(blocks, nil)
		for n := range uint64(places) {
			at, ok := j.at(n)
			switch {
			case ok != (len(want[n]) > 0 || n == first):
				t.Fatalf("%v: block %d is in the journal: %v", blocks, n, ok)
			case n == first && at != 0:
				t.Fatalf("%v: the first block is number %d", blocks, at)
			case ok && n != first && !slices.Contains(want[n], at):
				t.Fatalf("%v: block %d is number %d, not one of %d", blocks, n, at, want[n])
			}
		}
	}
}
