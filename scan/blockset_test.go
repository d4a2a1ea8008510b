package scan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// bases are where properties of block sets are tried: at the ends of the
// bitmaps' spans, and where blocks of 1 KiB end what an int64 of bytes holds.
var bases = []uint64{0, lowSpan - 300, 2*lowSpan - 150, 7 * lowSpan, 1<<53 - 700}

// randomRuns returns runs about a base, some of which overlap, touch or repeat.
func randomRuns(r *rand.Rand, base uint64) [][2]uint64 {
	runs := make([][2]uint64, r.IntN(30))
	for i := range runs {
		runs[i] = [2]uint64{base + r.Uint64N(600), 1 + r.Uint64N(1+r.Uint64N(80))}
	}
	return runs
}

// blocksOf returns the blocks that runs cover, ascending.
func blocksOf(runs [][2]uint64) []uint64 {
	seen := make(map[uint64]bool)
	for _, r := range runs {
		for b := r[0]; b < r[0]+r[1]; b++ {
			seen[b] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (s *blockSet) list() []uint64 {
	var blocks []uint64
	for start, end := range s.runs() {
		for ; start < end; start++ {
			blocks = append(blocks, start)
		}
	}
	return blocks
}

func TestBlockSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, base := range bases {
		for range 60 {
			runs := randomRuns(r, base)
			var s blockSet
			for _, run := range runs {
				s.add(run[0], run[1])
			}
			want := blocksOf(runs)
			if got := s.list(); !slices.Equal(got, want) {
				t.Fatalf("runs %v: got blocks %v, want %v", runs, got, want)
			}
			if got := s.count(); got != uint64(len(want)) {
				t.Fatalf("runs %v: count %d, want %d", runs, got, len(want))
			}
			for b := base; b < base+700; b += 1 + r.Uint64N(3) {
				_, in := slices.BinarySearch(want, b)
				if s.contains(b) != in {
					t.Fatalf("runs %v: contains(%d) = %v", runs, b, !in)
				}
			}
		}
	}
}

// A claim calls back for each block once, however claims overlap.
func TestBlockSetClaim(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, base := range bases {
		for range 60 {
			runs := randomRuns(r, base)
			var s blockSet
			var claimed []uint64
			for _, run := range runs {
				last := uint64(0)
				s.claim(run[0], run[1], func(b uint64) {
					if b < run[0] || b >= run[0]+run[1] || b < last {
						t.Fatalf("claim of %v called back for %d after %d", run, b, last)
					}
					last = b
					claimed = append(claimed, b)
				})
			}
			slices.Sort(claimed)
			if want := blocksOf(runs); !slices.Equal(claimed, want) || !slices.Equal(s.list(), want) {
				t.Fatalf("runs %v: claimed %v, hold %v, want %v", runs, claimed, s.list(), want)
			}
		}
	}
}

func TestBlockSetUnionRemove(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		// Of two sets about different bases, each has bitmaps the other lacks.
		a, b := randomRuns(r, bases[r.IntN(len(bases))]), randomRuns(r, bases[r.IntN(len(bases))])
		var s, u blockSet
		for _, run := range a {
			s.add(run[0], run[1])
		}
		for _, run := range b {
			u.add(run[0], run[1])
		}
		s.union(&u)
		if want := blocksOf(slices.Concat(a, b)); !slices.Equal(s.list(), want) {
			t.Fatalf("%v and %v: got %v, want %v", a, b, s.list(), want)
		}
		if want := blocksOf(b); !slices.Equal(u.list(), want) {
			t.Fatalf("a union changed its operand to %v, want %v", u.list(), want)
		}
		s.remove(&u)
		only := slices.DeleteFunc(blocksOf(a), u.contains)
		if !slices.Equal(s.list(), only) {
			t.Fatalf("%v without %v: got %v, want %v", a, b, s.list(), only)
		}
	}
}

// A run of 2³³ blocks is three bitmaps, not eight billion bits.
func TestBlockSetHugeRun(t *testing.T) {
	var s blockSet
	s.add(lowSpan/2, 2*lowSpan)
	if got := s.count(); got != 2*lowSpan {
		t.Errorf("count %d, want %d", got, 2*lowSpan)
	}
	want := [][2]uint64{{lowSpan / 2, lowSpan}, {lowSpan, 2 * lowSpan}, {2 * lowSpan, 2*lowSpan + lowSpan/2}}
	var got [][2]uint64
	for start, end := range s.runs() {
		got = append(got, [2]uint64{start, end})
	}
	if !slices.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
	x := newRunIndex(s.runs())
	if start, end, ok := x.next(0); !ok || start != lowSpan/2 || end != 2*lowSpan+lowSpan/2 {
		t.Errorf("the index has the run as [%d, %d), %v", start, end, ok)
	}
}

// BenchmarkBlockSetMemory reports the memory that a million blocks take in a set,
// and once more in the index of a view.
func BenchmarkBlockSetMemory(b *testing.B) {
	const million = 1 << 20
	for _, run := range []uint64{1, 16, 512} {
		b.Run(fmt.Sprintf("runs-of-%d", run), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				var s blockSet
				for range million / run {
					s.add(r.Uint64N(1<<31)/run*run, run)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				x := newRunIndex(s.runs())
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc), "set-bytes")
				b.ReportMetric(float64(len(x.data)+16*len(x.checkpoints)), "index-bytes")
				runtime.KeepAlive(&s)
			}
		})
	}
}

func BenchmarkBlockSetAdd(b *testing.B) {
	b.ReportAllocs()
	var s blockSet
	for i := uint64(0); b.Loop(); i++ {
		s.add(i*3%(1<<24), 1)
	}
}
