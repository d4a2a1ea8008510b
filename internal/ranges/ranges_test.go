package ranges

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// extent is a type as public packages have them.
type extent struct{ Start, End uint64 }

// TestJoin compares lists with sets of numbers.
func TestJoin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		const size = 40
		var want [size + 1]bool
		var list []extent
		for range random.IntN(8) {
			start := random.Uint64N(size)
			end := start + random.Uint64N(size-start+1)
			list = append(list, extent{start, end})
			for i := start; i < end; i++ {
				want[i] = true
			}
		}
		given := slices.Clone(list)
		list = Join(list)
		var got [size + 1]bool
		for i, r := range list {
			if r.Start >= r.End || i > 0 && r.Start <= list[i-1].End {
				t.Fatalf("%v of %v", list, given)
			}
			for n := r.Start; n < r.End; n++ {
				got[n] = true
			}
		}
		if got != want {
			t.Fatalf("%v of %v", list, given)
		}
		for at := range uint64(size) {
			i := Find(list, at)
			if inside := i < len(list) && list[i].Start <= at; inside != want[at] || i > 0 && list[i-1].End > at {
				t.Fatalf("Find(%v, %d) is %d", list, at, i)
			}
			here := extent{at, at + 1}
			if slices.ContainsFunc(list, func(r extent) bool { return Overlap(r, here) }) != want[at] {
				t.Fatalf("%v and %v", list, here)
			}
		}
	}
}

func TestAppend(t *testing.T) {
	var list []Range[int64]
	for _, r := range []Range[int64]{{3, 3}, {5, 8}, {8, 9}, {7, 8}, {12, 20}, {20, 20}} {
		list = Append(list, r.Start, r.End)
	}
	if want := []Range[int64]{{5, 9}, {12, 20}}; !slices.Equal(list, want) {
		t.Errorf("%v, not %v", list, want)
	}
}
