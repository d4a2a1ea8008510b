package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	// window is how far a match may reach back. qemu writes clusters with
	// windowBits of -12, and some readers have no larger window.
	window = 4 << 10

	// leastMatch is the length of the shortest match that is looked for in general.
	leastMatch = 4

	// lazyMatch is the length of a match that is good enough. Where one is
	// shorter, the match that begins at the next byte may be better.
	lazyMatch = 16

	// numberSize is the size of a block's number. In a list of these, such as an
	// indirect block, often only the first byte of each is another one. A match
	// this near takes so few bits that the three others are enough.
	numberSize = 4

	// margin is how many bytes at the end of the source no match begins in, so
	// that eight bytes can be loaded at once, also at the next byte.
	margin = 9

	// skipShift is how fast the search gets coarser where nothing matches: one
	// byte more is skipped for every 256 literals.
	skipShift = 8

	hashBits = 13
)

// A sequence is some literals and the match that follows them. The last one of a
// block has no match, its length is 0.
type sequence struct {
	literals uint32
	length   uint16
	dist     uint16
}

// A matcher splits a block into sequences and counts the symbols of these.
type matcher struct {
	// table holds, by the hash of four bytes, the low half of the place where
	// they were last.
	table     [1 << hashBits]uint16
	sequences [blockLen/minMatch + 2]sequence // of the block
	n         int                             // of sequences
	litLen    [litLenSyms]uint32
	dist      [distSyms]uint32
}

// reset forgets all places.
func (m *matcher) reset() { clear(m.table[:]) }

// split finds the sequences of src[start:end]. Matches may reach back before
// start.
func (m *matcher) split(src []byte, start, end int) {
	m.n = 0
	clear(m.litLen[:])
	clear(m.dist[:])
	m.litLen[endOfBlock] = 1
	src = src[:end]
	// The first byte of all is a literal: so pos is never less than last, the
	// distance of the last match.
	pos, lit, last := max(start, 1), start, 1
	for pos < end-margin {
		v := load32(src, pos)
		length, dist := 0, m.swap(v, pos)
		if uint(dist-1) < window && load32(src, pos-dist) == v {
			length = matchLen(src, pos, dist)
		}
		if dist != last && load32(src, pos-last) == v {
			n := matchLen(src, pos, last)
			if n > length || n == length && last < dist {
				length, dist = n, last
			}
		}
		if length == 0 {
			if pos%numberSize == 1 && pos > numberSize && (load32(src, pos-numberSize)^v)<<8 == 0 {
				m.add(src[lit:pos], minMatch, numberSize)
				pos += minMatch
				lit = pos
				continue
			}
			pos += 1 + (pos-lit)>>skipShift
			continue
		}
		if dist != 1 && load32(src, pos-1) == v {
			// A run of one byte: no distance takes fewer bits.
			if n := matchLen(src, pos, 1); n >= length {
				length, dist = n, 1
			}
		}
		if length < lazyMatch {
			v := load32(src, pos+1)
			if d := m.swap(v, pos+1); uint(d-1) < window && load32(src, pos+1-d) == v {
				if n := matchLen(src, pos+1, d); n > length {
					pos++
					length, dist = n, d
				}
			}
		}
		for pos > lit && pos > dist && src[pos-1] == src[pos-1-dist] {
			pos--
			length++
		}
		m.add(src[lit:pos], length, dist)
		last = dist
		pos += length
		lit = pos
	}
	m.literals(src[lit:])
	m.sequences[m.n] = sequence{literals: uint32(end - lit)}
	m.n++
}

// swap returns how far back the bytes v seem to have been last, and notes that
// they are at pos. The place in the table may be 64 KiB further back, or of other
// bytes with this hash, so the bytes must be compared. The distance is 0 to pos.
func (m *matcher) swap(v uint32, pos int) int {
	last := &m.table[v*0x9e3779b1>>(32-hashBits)]
	dist := uint16(pos) - *last
	*last = uint16(pos)
	return int(dist)
}

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }

// matchLen returns how many bytes from pos on are those dist bytes before them,
// of which the first four are known to be.
func matchLen(src []byte, pos, dist int) int {
	t := src[pos+leastMatch:]
	s := src[pos+leastMatch-dist:][:len(t)]
	n := leastMatch
	for len(s) >= 16 && len(t) >= 16 {
		x := binary.LittleEndian.Uint64(s) ^ binary.LittleEndian.Uint64(t)
		y := binary.LittleEndian.Uint64(s[8:]) ^ binary.LittleEndian.Uint64(t[8:])
		if x|y != 0 {
			break
		}
		s, t = s[16:], t[16:]
		n += 16
	}
	for len(s) >= 8 && len(t) >= 8 {
		if x := binary.LittleEndian.Uint64(s) ^ binary.LittleEndian.Uint64(t); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		s, t = s[8:], t[8:]
		n += 8
	}
	for i := range t {
		if s[i] != t[i] {
			return n + i
		}
	}
	return n + len(t)
}

// add appends literals and a match. A match that is too long becomes several.
func (m *matcher) add(literals []byte, length, dist int) {
	m.literals(literals)
	n, sym := len(literals), distSym(dist)
	for ; length >= maxMatch+minMatch; length -= maxMatch {
		m.put(n, maxMatch, dist, sym)
		n = 0
	}
	if length > maxMatch {
		m.put(n, length-minMatch, dist, sym)
		n, length = 0, minMatch
	}
	m.put(n, length, dist, sym)
}

func (m *matcher) literals(p []byte) {
	for _, b := range p {
		m.litLen[b]++
	}
}

func (m *matcher) put(literals, length, dist, distSym int) {
	m.sequences[m.n] = sequence{uint32(literals), uint16(length), uint16(dist)}
	m.n++
	m.litLen[lengthSym[uint8(length-minMatch)]]++
	m.dist[distSym]++
}

// bits returns how many bits the sequences take with codes of these lengths.
func (m *matcher) bits(litLen, dist []uint8) int {
	n := uint32(0)
	for s, c := range m.litLen {
		n += c * uint32(litLen[s])
	}
	for i, extra := range lengthExtra {
		n += m.litLen[firstLength+i] * uint32(extra)
	}
	for s, c := range m.dist {
		n += c * uint32(dist[s]+distExtra[s])
	}
	return int(n)
}

// lengthSym has the symbol of each length, from minMatch on.
var lengthSym = func() (syms [maxMatch - minMatch + 1]uint16) {
	for i, base := range lengthBase {
		for l := int(base); l <= maxMatch; l++ {
			syms[l-minMatch] = uint16(firstLength + i)
		}
	}
	return syms
}()

// distSym returns the symbol of a distance: there are two for each power of two.
func distSym(dist int) int {
	d := uint(dist - 1)
	if d < 2 {
		return int(d)
	}
	n := bits.Len(d)
	return 2*n - 2 + int(d>>(n-2)&1)
}
