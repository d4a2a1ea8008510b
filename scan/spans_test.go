package scan

import (
	"math/rand/v2"
	"testing"

	"e2qcow/internal/ranges"
)

// Windows of spans are taken until one overlaps what is there, which a list of
// booleans knows too.
func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		var set blockSet
		var taken [400]bool
		for range 6 {
			more := newSpans(0)
			overlap := false
			at := [3]uint64{r.Uint64N(390), r.Uint64N(390), r.Uint64N(390)}
			for g := range 1 + r.Uint32N(4) {
				for kind := range at {
					n := 1 + r.Uint64N(3)
					for b := at[kind]; b < at[kind]+n; b++ {
						overlap = overlap || taken[b]
						taken[b] = true
					}
					more.add(kind, span{ranges.Range[uint64]{Start: at[kind], End: at[kind] + n}, g})
					if at[kind] += n; r.IntN(3) == 0 || at[kind] > 390 {
						at[kind] = r.Uint64N(390)
					}
				}
			}
			if at, ok := more.addTo(&set); ok == overlap {
				t.Fatalf("overlap %v, reported %v at %v", overlap, !ok, at)
			}
			if overlap {
				break
			}
			for b, is := range taken {
				if set.contains(uint64(b)) != is {
					t.Fatalf("block %d: %v", b, !is)
				}
			}
		}
	}
}

// What is counted in a set, and what is not in it, is what is seen block by
// block, across the borders of bitmaps and containers.
func TestBlockSetGaps(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		base := []uint64{0, 65536 - 200, lowSpan - 200}[r.IntN(3)]
		var set blockSet
		var in [500]bool
		for range r.IntN(12) {
			start := r.Uint64N(480)
			n := 1 + r.Uint64N(20)
			set.add(base+start, n)
			for b := start; b < min(start+n, 500); b++ {
				in[b] = true
			}
		}
		start := r.Uint64N(500)
		n := r.Uint64N(500 - start)
		want := uint64(0)
		for _, is := range in[start : start+n] {
			if is {
				want++
			}
		}
		if got := set.countIn(base+start, n); got != want {
			t.Fatalf("%d of %d blocks from %d, want %d", got, n, base+start, want)
		}
		next := base + start
		set.gaps(base+start, n, func(at, count uint64) {
			for ; next < at; next++ {
				if !in[next-base] {
					t.Fatalf("block %d is passed over", next)
				}
			}
			for ; next < at+count; next++ {
				if in[next-base] {
					t.Fatalf("block %d is in the set", next)
				}
			}
		})
		for ; next < base+start+n; next++ {
			if !in[next-base] {
				t.Fatalf("block %d is passed over", next)
			}
		}
	}
}
