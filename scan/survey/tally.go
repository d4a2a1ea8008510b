package survey

import (
	"cmp"
	"math/bits"
	"slices"
)

// A tally counts values in buckets: values below 16 each have one, larger ones
// share one of eight for each power of two.
type tally struct {
	counts [496]uint64
	count  uint64
	total  uint64
	top    []Largest // unordered, up to four times maxLargest
	floor  uint64    // below which nothing is one of the largest
}

// maxLargest is how many of the largest values are kept.
const maxLargest = 5

func bucket(v uint64) int {
	if v < 16 {
		return int(v)
	}
	shift := bits.Len64(v) - 4
	return shift*8 + int(v>>shift)
}

// low returns the lowest value of a bucket.
func low(b int) uint64 {
	if b < 16 {
		return uint64(b)
	}
	return uint64(b%8+8) << (b/8 - 1)
}

func (t *tally) add(v uint64, who Largest) {
	t.counts[bucket(v)]++
	t.count++
	t.total += v
	who.Value = v
	t.keep(who)
}

func (t *tally) keep(l Largest) {
	if l.Value < t.floor {
		return
	}
	t.top = append(t.top, l)
	if len(t.top) == 4*maxLargest {
		t.trim()
	}
}

// trim sorts the largest values, and keeps as many as are wanted: of equal ones
// those with the lowest numbers.
func (t *tally) trim() {
	slices.SortFunc(t.top, func(a, b Largest) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Block, b.Block))
	})
	if len(t.top) >= maxLargest {
		t.top = t.top[:maxLargest]
		t.floor = t.top[maxLargest-1].Value
	}
}

// merge adds what another tally has counted.
func (t *tally) merge(o *tally) {
	for i, n := range o.counts {
		t.counts[i] += n
	}
	t.count += o.count
	t.total += o.total
	t.top = append(t.top, o.top...)
	t.trim()
}

// median returns the value in the middle.
func (t *tally) median() uint64 {
	left := (t.count + 1) / 2
	for b, n := range t.counts {
		if n >= left && n > 0 {
			return low(b)
		}
		left -= n
	}
	return 0
}

// histogram returns what was counted.
func (t *tally) histogram(unit string) *Histogram {
	t.trim()
	h := &Histogram{Unit: unit, Count: t.count, Total: t.total, Median: t.median(), Largest: t.top, Buckets: []uint64{}}
	if h.Largest == nil {
		h.Largest = []Largest{}
	}
	for b, n := range t.counts {
		if n == 0 {
			continue
		}
		octave := bits.Len64(low(b))
		for len(h.Buckets) <= octave {
			h.Buckets = append(h.Buckets, 0)
		}
		h.Buckets[octave] += n
	}
	return h
}
