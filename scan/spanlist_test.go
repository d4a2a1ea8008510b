package scan

import (
	"math/rand/v2"
	"testing"
)

// A span list takes spans until one overlaps what is there, which a list of
// booleans knows too.
func TestSpanList(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		var list spanList
		var taken [400]bool
		for range 6 {
			var more []span
			overlap := false
			for range 1 + r.IntN(4) {
				start := r.Uint64N(390)
				s := span{start: start, end: start + 1 + r.Uint64N(9)}
				for b := s.start; b < s.end; b++ {
					overlap = overlap || taken[b]
					taken[b] = true
				}
				more = append(more, s)
			}
			_, ok := list.add(more)
			if ok == overlap {
				t.Fatalf("adding %v: overlap %v, reported %v", more, overlap, !ok)
			}
			if overlap {
				break
			}
			for i := 1; i < len(list); i++ {
				if list[i-1].end >= list[i].start {
					t.Fatalf("%v is not ascending and merged", list)
				}
			}
		}
	}
}
