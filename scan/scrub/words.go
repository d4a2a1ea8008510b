package scrub

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
)

// A word of fewer than minWord bytes, or of fewer than minDistinct byte
// values, is found anywhere by chance. Of a longer word than maxWord, every
// piece of that length is a word, so that a part of it is found too.
const (
	minWord     = 8
	maxWord     = 64
	minDistinct = 4
)

// words is the set of the words seen in a filesystem, to be searched for in
// what is written of it.
//
//	add ─► sums      fingerprint of the word          has: is this one of them
//	    └► prefixes  its first 8 bytes ─► lengths  ┐
//	                     freeze ─► filter          ┴─► find: is one of them in here
//
// A position in a block costs a look into the filter, two bits for each
// prefix. Only behind a prefix that is known are the lengths tried that words
// with that prefix have, so a block costs no more for many words with one
// prefix, as photographs have them, than for one.
type words struct {
	seed   maphash.Seed
	mult   uint64 // odd; no filesystem can be made to fit it
	shards [wordShards]wordShard

	// least is the length from which words are searched for, once frozen;
	// filter has a power of two of words then, shift says which.
	least  int
	filter []uint64
	shift  uint
}

const wordShards = 64

// A wordShard holds the words whose fingerprints, and the prefixes whose
// products, end alike.
type wordShard struct {
	mu       sync.Mutex
	sums     map[uint64]struct{}
	prefixes map[uint64]uint64 // bit n-1: a word of n bytes
}

func newWords() *words {
	w := &words{seed: maphash.MakeSeed()}
	w.mult = maphash.Bytes(w.seed, nil) | 1
	for i := range w.shards {
		w.shards[i].sums = map[uint64]struct{}{}
		w.shards[i].prefixes = map[uint64]uint64{}
	}
	return w
}

// add adds a word, or the words between the NULs of a binary value, as far as
// they count. It is safe for concurrent use, before freeze.
func (w *words) add(b []byte) {
	for len(b) >= minWord {
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			end = len(b)
		}
		for word := b[:end]; len(word) >= minWord; word = word[min(len(word), maxWord):] {
			w.addPiece(word[:min(len(word), maxWord)])
		}
		b = b[min(end+1, len(b)):]
	}
}

// addPiece adds what is no longer than maxWord.
func (w *words) addPiece(b []byte) {
	if !counts(b) {
		return
	}
	sum := maphash.Bytes(w.seed, b)
	s := &w.shards[sum%wordShards]
	s.mu.Lock()
	_, known := s.sums[sum]
	s.sums[sum] = struct{}{}
	s.mu.Unlock()
	if known {
		return
	}
	prefix := binary.LittleEndian.Uint64(b)
	s = w.prefixShard(prefix)
	s.mu.Lock()
	s.prefixes[prefix] |= 1 << (len(b) - 1)
	s.mu.Unlock()
}

func (w *words) prefixShard(prefix uint64) *wordShard {
	return &w.shards[bits.ReverseBytes64(prefix*w.mult)%wordShards]
}

// has tells whether b, or the first maxWord bytes of it, is one of the words.
// It is safe for concurrent use.
func (w *words) has(b []byte) bool {
	if len(b) < minWord {
		return false
	}
	sum := maphash.Bytes(w.seed, b[:min(len(b), maxWord)])
	s := &w.shards[sum%wordShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.sums[sum]
	return ok
}

// maxChance is how likely it may be that a drawn word is one of the words by
// chance, over the whole of an image.
const maxChance = 1e-6

// freeze ends adding and makes ready for find in an image of so many bytes:
// words are searched for from the length on where letters and digits, drawn
// for all the bytes, give one of them with a chance below maxChance.
func (w *words) freeze(imageBytes int64) {
	count, prefixes := 0, 0
	for i := range w.shards {
		count += len(w.shards[i].sums)
		prefixes += len(w.shards[i].prefixes)
	}
	trials := float64(count) * float64(max(imageBytes, 1))
	w.least = minWord
	for w.least < maxWord && trials*math.Pow(float64(len(lettersAndDigits)), -float64(w.least)) >= maxChance {
		w.least++
	}
	const bitsPerPrefix = 16
	log := bits.Len(uint(max(prefixes*bitsPerPrefix/64, 1)))
	w.filter = make([]uint64, 1<<log)
	w.shift = uint(64 - log)
	for i := range w.shards {
		for prefix, lengths := range w.shards[i].prefixes {
			if lengths>>(w.least-1) != 0 {
				product := prefix * w.mult
				w.filter[product>>w.shift] |= filterBits(product)
			}
		}
	}
}

// filterBits returns the bits of a prefix in its word of the filter.
func filterBits(product uint64) uint64 {
	return 1<<(product>>20&63) | 1<<(product>>26&63)
}

// find returns where in p the first word lies that is long enough not to be
// there by chance. It is safe for concurrent use, after freeze. Words that two
// calls share are not found.
func (w *words) find(p []byte) (off, n int, ok bool) {
	for i := 0; i+minWord <= len(p); {
		prefix := binary.LittleEndian.Uint64(p[i:])
		if zeros := zeroBytes(prefix); zeros != 0 {
			i += 8 - bits.LeadingZeros64(zeros)/8 // no word has a NUL
			continue
		}
		product := prefix * w.mult
		if set := filterBits(product); w.filter[product>>w.shift]&set == set {
			if n := w.at(prefix, p[i:]); n > 0 {
				return i, n, true
			}
		}
		i++
	}
	return 0, 0, false
}

// zeroBytes returns the highest bit of each byte of x that is zero.
func zeroBytes(x uint64) uint64 {
	const low = 0x7f7f7f7f7f7f7f7f
	return ^((x&low + low) | x | low)
}

// at returns the length of the word that p begins with, 0 where there is none.
func (w *words) at(prefix uint64, p []byte) int {
	lengths := w.prefixShard(prefix).prefixes[prefix]
	for lengths = lengths >> (w.least - 1) << (w.least - 1); lengths != 0; lengths &= lengths - 1 {
		n := bits.TrailingZeros64(lengths) + 1
		if n > len(p) {
			break
		}
		sum := maphash.Bytes(w.seed, p[:n])
		if _, ok := w.shards[sum%wordShards].sums[sum]; ok {
			return n
		}
	}
	return 0
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
