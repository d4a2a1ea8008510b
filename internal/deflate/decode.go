package deflate

import (
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt is the error for bytes that are not deflate.
var ErrCorrupt = errors.New("corrupt input")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// leastBlocks and blockRatio bound how many blocks a stream has: some, and one
// more for each so many bytes of output. A block of few bytes can take as long as
// one of thousands, for its tables. zlib ends a block after 127 symbols if it has
// little memory, and a flush adds an empty one.
const (
	leastBlocks = 16
	blockRatio  = 32
)

// A Decoder decompresses. The zero value is ready. It is used by one goroutine at
// a time.
type Decoder struct {
	out []byte
	pos int // of out: what is before is decoded
	in  bitsIn

	litLen, dist *table // of the block
	tables       struct{ litLen, dist, codeLen table }
	lengths      [litLenSyms + distSyms]uint8
}

// Decode fills dst from the raw deflate with which src begins. What follows, be it
// other bytes or more of the stream, is not looked at. A match may reach back to
// the beginning of dst, at most 32 KiB.
//
// The error wraps io.ErrUnexpectedEOF if the stream, or src, ends before dst is
// full, else ErrCorrupt. dst is written to in any case.
func (d *Decoder) Decode(dst, src []byte) error {
	d.out, d.pos, d.in = dst, 0, bitsIn{src: src}
	err := d.decode()
	d.out, d.in = nil, bitsIn{}
	return err
}

func (d *Decoder) decode() error {
	last := false
	for blocks := leastBlocks + len(d.out)/blockRatio; d.pos < len(d.out); blocks-- {
		if last {
			return fmt.Errorf("the end after %d of %d bytes: %w", d.pos, len(d.out), io.ErrUnexpectedEOF)
		}
		if blocks == 0 {
			return corrupt("too many blocks for %d bytes", len(d.out))
		}
		head, ok := d.in.take(3)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		last = head&1 != 0
		if err := d.block(head >> 1); err != nil {
			return err
		}
	}
	return nil
}

// block decodes a block of this type, to its end or that of the output.
func (d *Decoder) block(kind uint64) error {
	switch kind {
	case blockStored:
		return d.stored()
	case blockFixed:
		d.litLen, d.dist = fixedTables()
	case blockDynamic:
		if err := d.dynamic(); err != nil {
			return err
		}
		d.litLen, d.dist = &d.tables.litLen, &d.tables.dist
	default:
		return corrupt("a block of type %d", kind)
	}
	for {
		d.fast()
		if end, err := d.step(); end || err != nil {
			return err
		}
	}
}

// stored copies a stored block.
func (d *Decoder) stored() error {
	d.in.align()
	v, ok := d.in.take(32)
	if !ok {
		return io.ErrUnexpectedEOF
	}
	n := int(v & maxStored)
	if v>>16 != uint64(n)^maxStored {
		return corrupt("a stored block whose length is not the complement of the copy")
	}
	d.in.align()
	n = min(n, len(d.out)-d.pos)
	part := d.in.src[d.in.pos:]
	k := copy(d.out[d.pos:d.pos+n], part)
	d.pos += k
	d.in.pos += k
	if k < n {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// step decodes a symbol that fast has left, and reports whether it was the last.
func (d *Decoder) step() (end bool, err error) {
	if d.pos == len(d.out) {
		return true, nil
	}
	e, err := d.in.symbol(d.litLen)
	if err != nil {
		return false, err
	}
	switch {
	case e&entryLiteral != 0:
		d.out[d.pos] = byte(e.value())
		d.pos++
		return false, nil
	case e&entryOther != 0 && e.value() == endOfBlock:
		return true, nil
	case e&entryOther != 0:
		return false, corrupt("length symbol %d", e.value())
	}
	extra, ok := d.in.take(e.extra())
	length := e.value() + int(extra)
	if !ok {
		return false, io.ErrUnexpectedEOF
	}
	if e, err = d.in.symbol(d.dist); err != nil {
		return false, err
	}
	if e&entryOther != 0 {
		return false, corrupt("distance symbol %d", e.value())
	}
	extra, ok = d.in.take(e.extra())
	dist := e.value() + int(extra)
	if !ok {
		return false, io.ErrUnexpectedEOF
	}
	if dist > d.pos {
		return false, corrupt("at %d a match from %d bytes back", d.pos, dist)
	}
	d.pos = repeat(d.out, d.pos, min(length, len(d.out)-d.pos), dist)
	return false, nil
}

// repeat copies n bytes from dist bytes back to pos, and returns what is behind
// them.
func repeat(out []byte, pos, n, dist int) int {
	from, end := pos-dist, pos+n
	if dist == 1 && out[from] == 0 {
		clear(out[pos:end])
		return end
	}
	for pos < end { // what is copied doubles what can be copied
		pos += copy(out[pos:end], out[from:pos])
	}
	return end
}
