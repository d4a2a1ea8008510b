package deflate

import (
	"encoding/binary"
	"io"
)

// bitsIn are the bits of src, the first one lowest.
type bitsIn struct {
	src []byte
	pos int    // of the first byte that is not among the n bits
	acc uint64 // n bits that count; the bits above them may be set
	n   uint
}

// fill makes n at least 56, unless src ends.
func (b *bitsIn) fill() {
	if len(b.src)-b.pos >= 8 {
		b.acc |= binary.LittleEndian.Uint64(b.src[b.pos:]) << (b.n & 63)
		b.pos += int(63-b.n) >> 3
		b.n |= 56
		return
	}
	for b.n < 56 && b.pos < len(b.src) {
		b.acc |= uint64(b.src[b.pos]) << (b.n & 63)
		b.pos++
		b.n += 8
	}
}

// take returns the next n bits, at most 32, if there are so many.
func (b *bitsIn) take(n uint) (uint64, bool) {
	if b.n < n {
		if b.fill(); b.n < n {
			return 0, false
		}
	}
	v := b.acc & (1<<n - 1)
	b.acc >>= n
	b.n -= n
	return v, true
}

// symbol returns the entry of the next code.
func (b *bitsIn) symbol(t *table) (entry, error) {
	b.fill()
	e := t.entries[b.acc&(1<<t.width-1)]
	if e.bits() == 0 {
		e = t.long(b.acc)
	}
	switch n := e.bits(); {
	case n > b.n || n == 0 && b.n < maxCodeLen:
		return 0, io.ErrUnexpectedEOF
	case n == 0:
		return 0, corrupt("bits that are no code")
	default:
		b.acc >>= n
		b.n -= n
		return e, nil
	}
}

// align goes to the next byte of src that has not been looked at.
func (b *bitsIn) align() {
	b.pos -= int(b.n >> 3)
	b.acc, b.n = 0, 0
}
