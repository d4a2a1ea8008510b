package simg

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/bits"

	"e2qcow/image"
)

// How long what is filled with something but zeros may be, in bytes, and how many
// times longer than the file.
const (
	freeFill  = 1 << 30
	fillRatio = 2048
)

// Verify compares the checksums of an image that has some with the disk, for
// which it reads the file once. A wrong one is a *CorruptError. Whatever the
// checksums are, ErrFills says that a copy of the disk would be far longer than
// the file.
func (m *Image) Verify(ctx context.Context) error {
	if m.filled > freeFill && m.filled/fillRatio > m.fileSize {
		return fmt.Errorf("%w: %d bytes of the disk, in a file of %d", ErrFills, m.filled, m.fileSize)
	}
	reg := ^uint32(0) // as if it began with zeros
	buf := make([]byte, image.DefaultRequest)
	at, i := int64(0), 0
	for _, s := range m.sums {
		for at < s.end {
			end := min(m.startOf(i+1), s.end)
			var err error
			if reg, err = m.sum(ctx, reg, m.runs[i], at, end, buf); err != nil {
				return err
			}
			if at = end; at == m.startOf(i+1) {
				i++
			}
		}
		if ^reg != s.crc {
			return corrupt(s.at, "the checksum of the first %d bytes of the disk is %08x, but they have %08x", s.end, s.crc, ^reg)
		}
	}
	return nil
}

// sum returns the register of a CRC behind the bytes from at to end of a run.
func (m *Image) sum(ctx context.Context, reg uint32, r run, at, end int64, buf []byte) (uint32, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if r.kind != stored {
		return repeat(reg, r.fill, uint64(end-at)/fillSize), nil
	}
	for at < end {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), end-at)]
		if _, err := m.ReadFor(b, at, image.Again); err != nil {
			return 0, err
		}
		reg = ^crc32.Update(^reg, crc32.IEEETable, b)
		at += int64(len(b))
	}
	return reg, nil
}

// The polynomials 1 and x³² modulo that of the CRC, whose bits are reversed.
const one = uint32(1) << 31

var x32 = multiply(one>>16, one>>16)

// multiply multiplies two polynomials modulo that of the CRC.
func multiply(a, b uint32) uint32 {
	p := uint32(0)
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			p ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return p
}

// A repetition is what n words do to a register.
type repetition struct {
	power  uint32 // x³²ⁿ
	series uint32 // x³² + x⁶⁴ + … + x³²ⁿ
}

// then returns what both do, one after the other.
func (a repetition) then(b repetition) repetition {
	return repetition{multiply(a.power, b.power), a.series ^ multiply(a.power, b.series)}
}

// repetitions are those of 1, 2, 4, … words.
var repetitions = func() (list [64]repetition) {
	list[0] = repetition{x32, x32}
	for i := 1; i < len(list); i++ {
		list[i] = list[i-1].then(list[i-1])
	}
	return list
}()

// repeat returns the register behind a word that comes n times. A word takes the
// register r to (r + word)·x³², so that n of them make of it
//
//	r·x³²ⁿ + word·(x³² + x⁶⁴ + … + x³²ⁿ)
func repeat(r, word uint32, n uint64) uint32 {
	all := repetition{power: one}
	for ; n != 0; n &= n - 1 {
		all = all.then(repetitions[bits.TrailingZeros64(n)])
	}
	return multiply(r, all.power) ^ multiply(word, all.series)
}
