package survey

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// maxBitsets bounds the memory of a bitsets in bytes.
const maxBitsets = 64 << 20

// bitsets holds a set of bits for each group that has any. It is safe for
// concurrent use. If the sets take more memory than they may, the groups of the
// upper half are given up, then those of the upper half of the rest, and so on.
// Which remain does not depend on the order in which bits were set.
type bitsets struct {
	words int // of a set
	most  int // sets
	sets  []atomic.Pointer[bitset]
	limit atomic.Uint32 // groups from this one on are given up

	mu    sync.Mutex
	count int
}

type bitset []uint64

// newBitsets returns sets of n bits for each of the groups.
func newBitsets(groups, n uint32) *bitsets {
	words := max(int((n+63)/64), 1)
	b := &bitsets{words: words, most: max(maxBitsets/8/words, 1), sets: make([]atomic.Pointer[bitset], groups)}
	b.limit.Store(groups)
	return b
}

// group returns the set of a group, nil where it has no bits, or is given up.
func (b *bitsets) group(g uint32) bitset {
	if int64(g) < int64(len(b.sets)) {
		if set := b.sets[g].Load(); set != nil {
			return *set
		}
	}
	return nil
}

// known reports whether the group was not given up.
func (b *bitsets) known(g uint32) bool { return g < b.limit.Load() }

// make returns the set of a group, nil where it is given up.
func (b *bitsets) make(g uint32) bitset {
	if set := b.group(g); set != nil {
		return set
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if g >= b.limit.Load() {
		return nil
	}
	if set := b.group(g); set != nil {
		return set
	}
	set := make(bitset, b.words)
	b.sets[g].Store(&set)
	for b.count++; b.count > b.most; {
		limit := b.limit.Load()
		for i := limit / 2; i < limit; i++ {
			if b.sets[i].Swap(nil) != nil {
				b.count--
			}
		}
		b.limit.Store(limit / 2)
	}
	return set
}

// set sets the bits [first, end) of a group. It returns how many were set
// before, and the first of these.
func (b *bitsets) set(g uint32, first, end uint64) (before, lowest uint64) {
	set := b.make(g)
	end = min(end, uint64(len(set))*64)
	for first < end {
		i := first / 64
		mask := mask(first, end)
		if old := atomic.OrUint64(&set[i], mask) & mask; old != 0 {
			if before == 0 {
				lowest = i*64 + uint64(bits.TrailingZeros64(old))
			}
			before += uint64(bits.OnesCount64(old))
		}
		first = (i + 1) * 64
	}
	return before, lowest
}

// whole reports whether no group was given up.
func (b *bitsets) whole() bool { return int64(b.limit.Load()) == int64(len(b.sets)) }

// mask returns the bits [first, end) of the word that holds bit first.
func mask(first, end uint64) uint64 {
	i := first / 64 * 64
	m := ^uint64(0) << (first - i)
	if end-i < 64 {
		m &= 1<<(end-i) - 1
	}
	return m
}

// fill sets the bits [first, end), and returns how many were not set before.
func (s bitset) fill(first, end uint64) (added uint64) {
	for end = min(end, uint64(len(s))*64); first < end; first = (first/64 + 1) * 64 {
		m := mask(first, end)
		added += uint64(bits.OnesCount64(m &^ s[first/64]))
		s[first/64] |= m
	}
	return added
}

// count returns how many of the bits [first, end) are set.
func (s bitset) count(first, end uint64) (n uint64) {
	for end = min(end, uint64(len(s))*64); first < end; first = (first/64 + 1) * 64 {
		n += uint64(bits.OnesCount64(s[first/64] & mask(first, end)))
	}
	return n
}

// runs yields the runs of bits below n that are set.
func (s bitset) runs(n uint64) func(yield func(first, end uint64) bool) {
	return func(yield func(first, end uint64) bool) {
		n = min(n, uint64(len(s))*64)
		for at := uint64(0); at < n; {
			first := s.next(at, n, 0)
			if first >= n {
				return
			}
			end := s.next(first, n, ^uint64(0))
			if !yield(first, end) {
				return
			}
			at = end
		}
	}
}

// next returns the first bit at or after at that is set in a word of s XOR
// flip; n where there is none below n.
func (s bitset) next(at, n, flip uint64) uint64 {
	for at < n {
		if w := (s[at/64] ^ flip) >> (at % 64); w != 0 {
			return min(at+uint64(bits.TrailingZeros64(w)), n)
		}
		at = (at/64 + 1) * 64
	}
	return n
}
