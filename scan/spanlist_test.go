package scan

import (
	"cmp"
	"math/rand/v2"
	"slices"
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

// Spans that are a few ascending parts, or many, end up in order.
func TestSortSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	compare := func(a, b span) int { return cmp.Compare(a.start, b.start) }
	for range 2000 {
		var spans []span
		for range r.IntN(20) {
			part := make([]span, r.IntN(10))
			for i := range part {
				part[i].start = r.Uint64N(1000)
			}
			slices.SortFunc(part, compare)
			spans = append(spans, part...)
		}
		want := slices.Clone(spans)
		slices.SortFunc(want, compare)
		if sortSpans(spans); !slices.Equal(spans, want) {
			t.Fatalf("got %v, want %v", spans, want)
		}
	}
}
