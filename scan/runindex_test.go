package scan

import (
	"iter"
	"math/rand/v2"
	"testing"
)

// seq yields runs given as start and end.
func seq(runs [][2]uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(start, end uint64) bool) {
		for _, r := range runs {
			if !yield(r[0], r[1]) {
				return
			}
		}
	}
}

func TestRunIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	// About the checkpoints, and with gaps whose varints differ in length.
	for _, n := range []int{0, 1, 2, 63, 64, 65, 127, 128, 129, 1000} {
		for _, base := range bases {
			for _, wide := range []uint64{1, 300, 1 << 20} {
				runs := make([][2]uint64, n)
				at, blocks := base, uint64(0)
				for i := range runs {
					start := at + 1 + r.Uint64N(wide)
					if i == 0 {
						start = base
					}
					at = start + 1 + r.Uint64N(wide)
					runs[i] = [2]uint64{start, at}
					blocks += at - start
				}
				x := newRunIndex(seq(runs))
				if x.blocks != blocks {
					t.Fatalf("%d runs: %d blocks, want %d", n, x.blocks, blocks)
				}
				checkRunIndex(t, x, runs)
			}
		}
	}
}

// checkRunIndex compares next at and about every border with a plain list.
func checkRunIndex(t *testing.T, x *runIndex, runs [][2]uint64) {
	t.Helper()
	at := []uint64{0, 1, 1<<64 - 1}
	for _, r := range runs {
		at = append(at, max(r[0], 1)-1, r[0], r[0]+(r[1]-r[0])/2, r[1]-1, r[1])
	}
	for _, block := range at {
		var want [2]uint64
		found := false
		for _, r := range runs {
			if r[1] > block {
				want, found = r, true
				break
			}
		}
		start, end, ok := x.next(block)
		if ok != found || ok && [2]uint64{start, end} != want {
			t.Fatalf("next(%d) of %d runs = [%d, %d), %v, want %v, %v", block, len(runs), start, end, ok, want, found)
		}
	}
}

// Runs that touch, as a set yields them at the borders of its bitmaps, are one.
func TestRunIndexMerges(t *testing.T) {
	x := newRunIndex(seq([][2]uint64{{5, 9}, {9, 12}, {12, 12}, {14, 15}, {15, 20}}))
	checkRunIndex(t, x, [][2]uint64{{5, 12}, {14, 20}})
	if x.blocks != 13 {
		t.Errorf("%d blocks, want 13", x.blocks)
	}
}

func TestRunIndexSize(t *testing.T) {
	var runs [][2]uint64
	for i := range uint64(100000) {
		runs = append(runs, [2]uint64{i * 1000, i*1000 + 3})
	}
	x := newRunIndex(seq(runs))
	if most := 4 * len(runs); len(x.data)+16*len(x.checkpoints) > most {
		t.Errorf("%d bytes for %d runs, want at most %d", len(x.data)+16*len(x.checkpoints), len(runs), most)
	}
}

func BenchmarkRunIndexNext(b *testing.B) {
	const n = 1 << 20
	x := newRunIndex(func(yield func(start, end uint64) bool) {
		for i := range uint64(n) {
			if !yield(i*40, i*40+3) {
				return
			}
		}
	})
	r := rand.New(rand.NewPCG(1, 1))
	at := make([]uint64, 1<<12)
	for i := range at {
		at[i] = r.Uint64N(n * 40)
	}
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			x.next(at[i%len(at)])
		}
	})
	b.Run("ascending", func(b *testing.B) {
		b.ReportAllocs()
		for block := uint64(0); b.Loop(); {
			_, end, ok := x.next(block)
			if block = end; !ok {
				block = 0
			}
		}
	})
}
