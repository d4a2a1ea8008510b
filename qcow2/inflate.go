package qcow2

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// An inflater decodes raw deflate (RFC 1951) from one buffer to another. That
// both are whole lets it be several times faster than a decoder of streams.
//
// Codes are looked up by their next bits, in a first table and for long codes
// in a second one behind it. An entry is
//
//	│31      value     16│15 14 13 12 flags│11 extra bits 8│7 length of code 0│
//
// and 0 for no code.
type inflater struct {
	lengths [maxLitCodes + maxDistCodes]uint8
	lit     [1<<litBits + maxLitCodes<<(maxCodeBits-litBits)]uint32
	dist    [1<<distBits + maxDistCodes<<(maxCodeBits-distBits)]uint32
}

const (
	maxCodeBits  = 15
	maxLitCodes  = 288
	maxDistCodes = 32
	litBits      = 10 // of the first table of literals and lengths
	distBits     = 8

	entryLiteral = 1 << 12
	entryEnd     = 1 << 13
	entrySecond  = 1 << 14 // value is the place of the second table
	entryBad     = 1 << 15 // a code that has no meaning
)

var (
	errDeflate    = errors.New("deflate: invalid data")
	errDeflateEnd = errors.New("deflate: a block without an end") // refused by zlib, too
)

// entries of the symbols, without the length of their codes.
var litEntries, distEntries, codeEntries = symbolEntries()

func symbolEntries() (lit, dist, code []uint32) {
	for i := range uint32(256) {
		lit = append(lit, i<<16|entryLiteral)
	}
	lit = append(lit, entryEnd)
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		lit = append(lit, base<<16|extra<<8)
		base += 1 << extra
	}
	lit = append(lit, 258<<16, entryBad, entryBad)
	base = 1
	for i := range 30 {
		extra := uint32(max(0, i/2-1))
		dist = append(dist, base<<16|extra<<8)
		base += 1 << extra
	}
	dist = append(dist, entryBad, entryBad)
	for i := range uint32(19) {
		code = append(code, i<<16|entryLiteral)
	}
	return lit, dist, code
}

// build makes the tables of a code from the lengths of its symbols; entries
// are the symbols' own. It refuses codes as zlib does: too many, or too few
// unless there is at most one, of one bit.
func build(table []uint32, firstBits uint, lengths []uint8, entries []uint32) error {
	var count [maxCodeBits + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	longest := uint(0)
	left := 1
	var next [maxCodeBits + 2]uint32
	for n := 1; n <= maxCodeBits; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return errDeflate
		}
		if count[n] > 0 {
			longest = uint(n)
		}
		next[n+1] = (next[n] + uint32(count[n])) << 1
	}
	if left > 0 && longest > 1 {
		return errDeflate
	}
	clear(table[:1<<firstBits])
	free := uint32(1) << firstBits // where the next second table goes
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		code := uint32(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		entry := entries[symbol] | uint32(n)
		if uint(n) <= firstBits {
			for i := code; i < 1<<firstBits; i += 1 << n {
				table[i] = entry
			}
			continue
		}
		prefix := code & (1<<firstBits - 1)
		if table[prefix] == 0 {
			table[prefix] = free<<16 | entrySecond | uint32(longest-firstBits)<<8
			clear(table[free:][:1<<(longest-firstBits)])
			free += 1 << (longest - firstBits)
		}
		second := table[table[prefix]>>16:][:1<<(longest-firstBits)]
		for i := code >> firstBits; i < uint32(len(second)); i += 1 << (uint(n) - firstBits) {
			second[i] = entry
		}
	}
	return nil
}

// A bitReader takes bits from a buffer, the lowest first. Behind its end it
// takes zeros, which exhausted tells.
type bitReader struct {
	in   []byte
	pos  int
	bits uint64
	n    uint // how many of bits count
	over uint // how many of these lie behind the end
}

// fill makes at least 56 bits ready.
func (r *bitReader) fill() {
	if len(r.in)-r.pos >= 8 {
		r.bits |= binary.LittleEndian.Uint64(r.in[r.pos:]) << r.n
		r.pos += int((63 - r.n) >> 3)
		r.n |= 56
		return
	}
	for r.n < 56 {
		if r.pos < len(r.in) {
			r.bits |= uint64(r.in[r.pos]) << r.n
			r.pos++
		} else {
			r.over += 8
		}
		r.n += 8
	}
}

// take returns and drops n bits, which are ready.
func (r *bitReader) take(n uint) uint32 {
	v := uint32(r.bits) & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return v
}

// exhausted reports whether bits behind the end were taken.
func (r *bitReader) exhausted() bool { return r.over > r.n }

// find returns and drops the next code, whose bits are ready.
func (r *bitReader) find(table []uint32, firstBits uint) uint32 {
	e := table[r.bits&(1<<firstBits-1)]
	if e&entrySecond != 0 {
		e = table[uint64(e>>16)+r.bits>>firstBits&(1<<(e>>8&0xf)-1)]
	}
	r.bits >>= e & 0xff
	r.n -= uint(e & 0xff)
	return e
}

// inflate decodes in until out is full. What then follows does not count.
func (f *inflater) inflate(out, in []byte) error {
	r := &bitReader{in: in}
	n := 0
	for last := false; !last && n < len(out); {
		r.fill()
		last = r.take(1) == 1
		var err error
		switch r.take(2) {
		case 0:
			n, err = r.stored(out, n)
		case 1:
			f.fixed()
			n, err = f.block(out, n, r)
		case 2:
			if err = f.dynamic(r); err == nil {
				n, err = f.block(out, n, r)
			}
		default:
			err = errDeflate
		}
		if err != nil {
			return err
		}
		if r.exhausted() {
			return io.ErrUnexpectedEOF
		}
	}
	if n < len(out) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// stored copies a stored block to out, which holds n bytes.
func (r *bitReader) stored(out []byte, n int) (int, error) {
	r.take(r.n & 7)
	r.fill()
	size := r.take(16)
	if size != ^r.take(16)&0xffff {
		if r.exhausted() {
			return n, io.ErrUnexpectedEOF
		}
		return n, errDeflate
	}
	if r.exhausted() {
		return n, io.ErrUnexpectedEOF
	}
	// Give back whole bytes that were made ready.
	r.pos -= int((r.n - r.over) / 8)
	r.bits, r.n, r.over = 0, 0, 0
	size = min(size, uint32(len(out)-n))
	if len(r.in)-r.pos < int(size) {
		return n, io.ErrUnexpectedEOF
	}
	n += copy(out[n:], r.in[r.pos:][:size])
	r.pos += int(size)
	return n, nil
}

// fixed builds the tables of the fixed codes.
func (f *inflater) fixed() {
	l := &f.lengths
	for i := range maxLitCodes {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	for i := range maxDistCodes {
		l[maxLitCodes+i] = 5
	}
	// These codes are complete.
	_ = build(f.lit[:], litBits, l[:maxLitCodes], litEntries)
	_ = build(f.dist[:], distBits, l[maxLitCodes:], distEntries)
}

// dynamic reads the codes of a block and builds their tables.
func (f *inflater) dynamic(r *bitReader) error {
	r.fill()
	nLit, nDist, nCode := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if nLit > 286 || nDist > 30 {
		return errDeflate
	}
	var codes [19]uint8
	order := [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	for i, symbol := range order[:nCode] {
		if i%16 == 0 {
			r.fill()
		}
		codes[symbol] = uint8(r.take(3))
	}
	// The table of distances is not in use yet.
	const codeBits = 7
	if err := build(f.dist[:], codeBits, codes[:], codeEntries); err != nil {
		return err
	}
	lengths := f.lengths[:nLit+nDist]
	for i := 0; i < len(lengths); {
		r.fill()
		e := r.find(f.dist[:], codeBits)
		if e == 0 || r.exhausted() {
			return errDeflate
		}
		symbol := uint8(e >> 16)
		if symbol < 16 {
			lengths[i] = symbol
			i++
			continue
		}
		var value uint8
		var times int
		switch symbol {
		case 16:
			if i == 0 {
				return errDeflate
			}
			value, times = lengths[i-1], 3+int(r.take(2))
		case 17:
			times = 3 + int(r.take(3))
		case 18:
			times = 11 + int(r.take(7))
		}
		if times > len(lengths)-i {
			return errDeflate
		}
		for range times {
			lengths[i] = value
			i++
		}
	}
	if lengths[256] == 0 {
		return errDeflateEnd
	}
	if err := build(f.lit[:], litBits, lengths[:nLit], litEntries); err != nil {
		return err
	}
	return build(f.dist[:], distBits, lengths[nLit:], distEntries)
}

// block decodes a block to out, which holds n bytes.
func (f *inflater) block(out []byte, n int, r *bitReader) (int, error) {
	n, done, err := f.fastBlock(out, n, r)
	if done || err != nil {
		return n, err
	}
	for n < len(out) {
		r.fill()
		if r.over > 64 {
			return n, io.ErrUnexpectedEOF
		}
		e := r.find(f.lit[:], litBits)
		switch {
		case e&entryLiteral != 0:
			out[n] = byte(e >> 16)
			n++
			continue
		case e&entryEnd != 0:
			return n, nil
		case e == 0 || e&entryBad != 0:
			return n, errDeflate
		}
		length := int(e>>16) + int(r.take(uint(e>>8&0xf)))
		e = r.find(f.dist[:], distBits)
		if e == 0 || e&entryBad != 0 {
			return n, errDeflate
		}
		dist := int(e>>16) + int(r.take(uint(e>>8&0xf)))
		if dist > n {
			return n, errDeflate
		}
		n = repeat(out, n, dist, min(length, len(out)-n))
	}
	return n, nil
}

// repeat copies length bytes from dist bytes before n, which may overlap.
func repeat(out []byte, n, dist, length int) int {
	end := n + length
	if dist == 1 && out[n-1] == 0 {
		clear(out[n:end])
		return end
	}
	// Each round copies what is there, twice as much as the last.
	for from := n - dist; n < end; {
		n += copy(out[n:end], out[from:n])
	}
	return end
}

// What fastBlock needs to be left of both buffers: a match of the longest
// length, copied in pieces of 16 bytes.
const (
	fastIn  = 8
	fastOut = 258 + 16
)

// fastBlock decodes like block as long as both buffers have room for every
// step, and reports whether the block has ended.
func (f *inflater) fastBlock(out []byte, n int, r *bitReader) (_ int, done bool, _ error) {
	le := binary.LittleEndian
	in, pos, b, have := r.in, r.pos, r.bits, r.n
	defer func() { r.pos, r.bits, r.n = pos, b, have }()
	lit, dists := &f.lit, &f.dist
	for len(in)-pos >= fastIn && len(out)-n >= fastOut {
		b |= le.Uint64(in[pos:]) << have
		pos += int((63 - have) >> 3)
		have |= 56

		// 56 bits are three codes of literals, or one and the bits of a match.
		e := lit[b&(1<<litBits-1)]
		for range 2 {
			if e&entryLiteral == 0 {
				break
			}
			b >>= e & 0xff
			have -= uint(e & 0xff)
			out[n] = byte(e >> 16)
			n++
			e = lit[b&(1<<litBits-1)]
		}
		if have < maxCodeBits+5+maxCodeBits+13 {
			continue
		}
		if e&entrySecond != 0 {
			e = lit[uint64(e>>16)+b>>litBits&(1<<(e>>8&0xf)-1)]
		}
		b >>= e & 0xff
		have -= uint(e & 0xff)
		if e&entryLiteral != 0 {
			out[n] = byte(e >> 16)
			n++
			continue
		}
		if e&(entryEnd|entryBad) != 0 || e == 0 {
			if e&entryEnd == 0 {
				return n, false, errDeflate
			}
			return n, true, nil
		}
		extra := uint(e >> 8 & 0xf)
		length := int(e>>16) + int(b&(1<<extra-1))
		b >>= extra
		have -= extra

		e = dists[b&(1<<distBits-1)]
		if e&entrySecond != 0 {
			e = dists[uint64(e>>16)+b>>distBits&(1<<(e>>8&0xf)-1)]
		}
		if e == 0 || e&entryBad != 0 {
			return n, false, errDeflate
		}
		b >>= e & 0xff
		extra = uint(e >> 8 & 0xf)
		dist := int(e>>16) + int(b&(1<<extra-1))
		b >>= extra
		have -= uint(e&0xff) + extra
		if dist > n {
			return n, false, errDeflate
		}
		if dist < 16 || length > 64 {
			n = repeat(out, n, dist, length)
			continue
		}
		to := out[n : n+80 : n+80]
		from := out[n-dist : n-dist+80 : n-dist+80]
		for i := 0; i < length; i += 16 {
			le.PutUint64(to[i:], le.Uint64(from[i:]))
			le.PutUint64(to[i+8:], le.Uint64(from[i+8:]))
		}
		n += length
	}
	return n, false, nil
}
