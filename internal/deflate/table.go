package deflate

import (
	"math/bits"
	"sync"
)

// An entry is what a decoder does about the bits it sees:
//
//	│31..16 byte, base or symbol│11..8 extra bits│5 other│4 literal│3..0 length of the code│
//
// Without a flag the symbol is a length or a distance. The others are the end of
// the block, symbols without a meaning, and bits with which no code begins that
// fits the index: these have a length of 0.
type entry uint32

const (
	entryLiteral entry = 1 << 4
	entryOther   entry = 1 << 5
)

func (e entry) bits() uint  { return uint(e & 15) }
func (e entry) extra() uint { return uint(e >> 8 & 15) }
func (e entry) value() int  { return int(e >> 16) }

// entriesOf returns the entries of all symbols of an alphabet.
func entriesOf(base []uint16, extra []uint8, first int) (e [fixedSyms]entry) {
	for s := range e {
		switch i := s - first; {
		case i < 0 && s < endOfBlock:
			e[s] = entryLiteral | entry(s)<<16
		case i >= 0 && i < len(base):
			e[s] = entry(base[i])<<16 | entry(extra[i])<<8
		default:
			e[s] = entryOther | entry(s)<<16
		}
	}
	return e
}

var (
	litLenEntries  = entriesOf(lengthBase[:], lengthExtra[:], firstLength)
	distEntries    = entriesOf(distBase[:], distExtra[:], 0)
	codeLenEntries = entriesOf(nil, nil, fixedSyms)
)

const (
	litLenBits = 11 // of the index of a table
	distBits   = 9
)

// A table decodes a Huffman code. Codes longer than its index are rare, and are
// looked for length by length.
type table struct {
	entries  [1 << litLenBits]entry
	width    int // of the index, in bits
	alphabet *[fixedSyms]entry
	count    [maxCodeLen + 1]uint16 // codes of each length
	sorted   [fixedSyms]uint16      // symbols in the order of their codes
}

// build makes the table of a code with these lengths, and reports whether there
// is such a code: one that leaves nothing free, one of a single bit for a single
// symbol, or one without symbols.
func (t *table) build(width int, alphabet *[fixedSyms]entry, lengths []uint8) bool {
	t.width, t.alphabet = width, alphabet
	clear(t.count[:])
	for _, n := range lengths {
		t.count[n&maxCodeLen]++
	}
	var next [maxCodeLen + 1]uint16
	free, sum := 1, uint16(0)
	for n := 1; n <= maxCodeLen; n++ {
		free = free<<1 - int(t.count[n])
		if free < 0 {
			return false
		}
		next[n] = sum
		sum += t.count[n]
	}
	if free > 0 && sum > 0 && (sum > 1 || t.count[1] == 0) {
		return false
	}
	for s, n := range lengths {
		if n &= maxCodeLen; n > 0 {
			t.sorted[next[n]] = uint16(s)
			next[n]++
		}
	}
	t.fill()
	return true
}

// fill sets the entries. The index is the first bits of a code, the first one
// lowest. So the table for one bit more is that for one bit less, twice.
func (t *table) fill() {
	t.entries[0] = entryOther // no code begins like this, or a long one
	code, at := uint16(0), 0
	for n := 1; n <= t.width; n++ {
		half := t.entries[:1<<n>>1]
		copy(t.entries[len(half):], half)
		code <<= 1
		for range t.count[n] {
			t.entries[bits.Reverse16(code)>>(16-n)] = t.alphabet[t.sorted[at]] | entry(n)
			code++
			at++
		}
	}
}

// long returns the entry of the code that acc begins with if that is longer than
// the index of the table.
func (t *table) long(acc uint64) entry {
	code, first, at := 0, 0, 0
	for n := 1; n <= maxCodeLen; n++ {
		code |= int(acc & 1)
		acc >>= 1
		count := int(t.count[n])
		if code-first < count {
			return t.alphabet[t.sorted[at+code-first]] | entry(n)
		}
		at += count
		first = (first + count) << 1
		code <<= 1
	}
	return entryOther
}

// fixedTables returns the tables of a fixed block.
var fixedTables = sync.OnceValues(func() (litLen, dist *table) {
	litLen, dist = new(table), new(table)
	litLen.build(litLenBits, &litLenEntries, fixedLitLen[:])
	dist.build(distBits, &distEntries, fixedDist[:])
	return litLen, dist
})
