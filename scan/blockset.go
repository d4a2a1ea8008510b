package scan

import (
	"iter"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// A blockSet is a sparse set of block numbers: a compressed bitmap for each
// value of their upper half. A run costs a few bytes, a lone block about two.
// It is not safe for concurrent use while it changes.
type blockSet struct {
	high []uint32
	low  []*roaring.Bitmap // beside high, which ascends

	last     *roaring.Bitmap // that of lastHigh, where addNew was last
	lastHigh uint32
}

const lowSpan = uint64(1) << 32

func (s *blockSet) bitmap(high uint32, create bool) *roaring.Bitmap {
	i, ok := slices.BinarySearch(s.high, high)
	if ok {
		return s.low[i]
	}
	if !create {
		return nil
	}
	b := roaring.New()
	s.high = slices.Insert(s.high, i, high)
	s.low = slices.Insert(s.low, i, b)
	return b
}

// shortRun is how many blocks are added one by one: AddRange makes a new
// container each time.
const shortRun = 16

// split calls f for the part of [start, start+n) in each bitmap.
func split(start, n uint64, f func(high uint32, lo, hi uint64)) {
	for n > 0 {
		lo := start % lowSpan
		m := min(n, lowSpan-lo)
		f(uint32(start/lowSpan), lo, lo+m)
		start, n = start+m, n-m
	}
}

func (s *blockSet) add(start, n uint64) {
	split(start, n, func(high uint32, lo, hi uint64) {
		b := s.bitmap(high, true)
		if hi-lo > shortRun {
			b.AddRange(lo, hi)
			return
		}
		for ; lo < hi; lo++ {
			b.Add(uint32(lo))
		}
	})
}

func (s *blockSet) contains(block uint64) bool {
	b := s.bitmap(uint32(block/lowSpan), false)
	return b != nil && b.Contains(uint32(block%lowSpan))
}

// countIn returns how many of n blocks from start are in the set.
func (s *blockSet) countIn(start, n uint64) (count uint64) {
	split(start, n, func(high uint32, lo, hi uint64) {
		if b := s.bitmap(high, false); b != nil {
			count += b.CardinalityInRange(lo, hi)
		}
	})
	return count
}

// gaps calls f, in ascending order, for each run within n blocks from start
// that is not in the set at the time of the call.
func (s *blockSet) gaps(start, n uint64, f func(start, n uint64)) {
	switch s.countIn(start, n) {
	case n:
	case 0:
		f(start, n)
	default:
		s.gaps(start, n/2, f)
		s.gaps(start+n/2, n-n/2, f)
	}
}

// addNew adds one block and reports whether it was not in the set.
func (s *blockSet) addNew(block uint64) bool {
	high := uint32(block / lowSpan)
	if s.last == nil || s.lastHigh != high {
		s.last, s.lastHigh = s.bitmap(high, true), high
	}
	return s.last.CheckedAdd(uint32(block % lowSpan))
}

// claim adds [start, start+n) and calls fresh for each block of it that was
// not in the set.
func (s *blockSet) claim(start, n uint64, fresh func(block uint64)) {
	split(start, n, func(high uint32, lo, hi uint64) {
		b := s.bitmap(high, true)
		for ; lo < hi; lo++ {
			if b.CheckedAdd(uint32(lo)) {
				fresh(uint64(high)*lowSpan + lo)
			}
		}
	})
}

// runs yields the runs [start, end) of the set in ascending order. Runs that
// touch across a border of 2³² blocks are yielded in two parts.
func (s *blockSet) runs() iter.Seq2[uint64, uint64] {
	return func(yield func(start, end uint64) bool) {
		for i, b := range s.low {
			base := uint64(s.high[i]) * lowSpan
			for lo, hi := range b.Ranges() {
				if !yield(base+uint64(lo), base+hi) {
					return
				}
			}
		}
	}
}

func (s *blockSet) count() (n uint64) {
	for _, b := range s.low {
		n += b.GetCardinality()
	}
	return n
}

// union adds all of t.
func (s *blockSet) union(t *blockSet) {
	for i, high := range t.high {
		s.bitmap(high, true).Or(t.low[i])
	}
}

// remove takes all of t out of the set.
func (s *blockSet) remove(t *blockSet) {
	for i, high := range t.high {
		if b := s.bitmap(high, false); b != nil {
			b.AndNot(t.low[i])
		}
	}
}
