package scrub

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
)

// A word of fewer than minWord bytes, or of fewer than minDistinct byte
// values, is found anywhere by chance. Of a longer word than maxWord, every
// piece of that length is a word, so that a part of it is found too.
const (
	minWord     = 8
	maxWord     = 64
	minDistinct = 4
)

// words is a filter of the words seen in a filesystem. It knows their first
// eight bytes, and takes others for them in rare cases. So what it finds in the
// image is a [suspect]: the words of the source are looked at once more to know.
//
//	prefix ─ keyed hash ─┬► block of the filter: a cache line
//	                     └► one bit in each of its eight lanes
//
// What is in the filter depends on the words and on the key, not on the order in
// which they were added.
type words struct {
	keys  [2]uint64
	lanes []uint64     // eight to a block
	added atomic.Int64 // words, with those that were added before

	// least is the length from which words are searched for, once frozen.
	least int
}

// The filter has two bytes for a word. Then it takes 0.1 % of other prefixes for
// one of a word. A small filter has up to eight bytes for a word, and takes less
// than one of a hundred thousand (TestWordsRate).
const (
	laneBits     = 64
	blockLanes   = 8
	bytesPerWord = 2
	smallFilter  = 4 << 20 // bytes
	maxFilter    = 1 << 30
)

func newWords(k *keyring) *words {
	w := &words{}
	d := k.get()
	defer k.put(d)
	w.keys[0], w.keys[1] = d.random(domainFilter, 0, 0, 0)
	w.keys[1] |= 1
	w.reserve(0)
	return w
}

// reserve makes room for so many words. What was added is lost.
func (w *words) reserve(count uint64) {
	count = min(max(count, 1<<10), maxFilter)
	size := max(min(count*4*bytesPerWord, smallFilter), min(count*bytesPerWord, maxFilter))
	w.lanes = nil
	w.lanes = make([]uint64, size/(laneBits/8)/blockLanes*blockLanes)
	w.added.Store(0)
}

// crowded reports whether more words were added than there is room for, so that
// others are often taken for them.
func (w *words) crowded() bool {
	room := int64(len(w.lanes)) * (laneBits / 8) / bytesPerWord
	return w.added.Load() > room+room/4
}

// pieces yields the words in a name or a value, as far as they count: what is
// between its NULs, in pieces of up to maxWord bytes.
func pieces(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) >= minWord {
			end := bytes.IndexByte(b, 0)
			if end < 0 {
				end = len(b)
			}
			for word := b[:end]; len(word) >= minWord; word = word[min(len(word), maxWord):] {
				if piece := word[:min(len(word), maxWord)]; counts(piece) && !yield(piece) {
					return
				}
			}
			b = b[min(end+1, len(b)):]
		}
	}
}

// add adds the words in a name or a value. It is safe for concurrent use, before
// freeze.
func (w *words) add(b []byte) {
	n := int64(0)
	for word := range pieces(b) {
		n++
		lanes, hash := w.block(binary.LittleEndian.Uint64(word))
		for i := range lanes {
			if bit := uint64(1) << (hash & (laneBits - 1)); atomic.LoadUint64(&lanes[i])&bit == 0 {
				atomic.OrUint64(&lanes[i], bit)
			}
			hash >>= 6
		}
	}
	if n > 0 {
		w.added.Add(n)
	}
}

// block returns the lanes of a prefix, and six bits of a hash for each of them.
func (w *words) block(prefix uint64) (*[blockLanes]uint64, uint64) {
	// No filesystem can be made to fit what the key makes of a prefix.
	hi, lo := bits.Mul64(prefix^w.keys[0], w.keys[1])
	place := (hi ^ lo) * 0x9E3779B97F4A7C15
	at, _ := bits.Mul64(place, uint64(len(w.lanes)/blockLanes))
	return (*[blockLanes]uint64)(w.lanes[at*blockLanes:]), (place ^ hi) * 0xD6E8FEB86659FD93 >> (64 - 6*blockLanes)
}

// hasPrefix tells whether a word begins with eight bytes.
func (w *words) hasPrefix(prefix uint64) bool {
	lanes, hash := w.block(prefix)
	for i := range lanes {
		if atomic.LoadUint64(&lanes[i])>>(hash&(laneBits-1))&1 == 0 {
			return false
		}
		hash >>= 6
	}
	return true
}

// has tells whether one of the words begins as b does. It is safe for concurrent
// use.
func (w *words) has(b []byte) bool {
	return len(b) >= minWord && w.hasPrefix(binary.LittleEndian.Uint64(b))
}

// maxChance is how likely it may be that a drawn word is one of the words by
// chance, over the whole of an image.
const maxChance = 1e-6

// freeze ends adding and makes ready for find in an image of so many bytes:
// words are searched for from the length on where letters and digits, drawn
// for all the bytes, give one of them with a chance below maxChance.
func (w *words) freeze(imageBytes int64) {
	trials := float64(w.added.Load()) * float64(max(imageBytes, 1))
	w.least = minWord
	for w.least < maxWord && trials*math.Pow(float64(len(lettersAndDigits)), -float64(w.least)) >= maxChance {
		w.least++
	}
}

// find returns where in p the first word may lie that is long enough not to be
// there by chance. It is safe for concurrent use, after freeze. Words that two
// calls share are not found.
func (w *words) find(p []byte) (off int, ok bool) {
	for i := 0; i+w.least <= len(p); {
		prefix := binary.LittleEndian.Uint64(p[i:])
		if zeros := zeroBytes(prefix); zeros != 0 {
			i += 8 - bits.LeadingZeros64(zeros)/8 // no word has a NUL
			continue
		}
		if w.hasPrefix(prefix) && counts(p[i:min(i+maxWord, len(p))]) {
			return i, true
		}
		i++
	}
	return 0, false
}

// zeroBytes returns the highest bit of each byte of x that is zero.
func zeroBytes(x uint64) uint64 {
	const low = 0x7f7f7f7f7f7f7f7f
	return ^((x&low + low) | x | low)
}

// counts tells whether b is of enough different bytes for a word.
func counts(b []byte) bool {
	var seen [4]uint64
	n := 0
	for _, c := range b {
		if bit := uint64(1) << (c & 63); seen[c>>6]&bit == 0 {
			seen[c>>6] |= bit
			if n++; n == minDistinct {
				return true
			}
		}
	}
	return false
}
