package deflate

import "encoding/binary"

// fastMargin is how many bytes of output must be left for fast.
const fastMargin = 4 + maxMatch + 16

// fast decodes symbols while input and output are far from their ends. It leaves
// all that is rare to step: the end of the block, long codes, what is corrupt.
func (d *Decoder) fast() {
	in, out, pos := d.in, d.out, d.pos
	litLen, dists := &d.litLen.entries, &d.dist.entries
	src, at, acc, n := in.src, in.pos, in.acc, in.n
	for len(src)-at >= 16 && len(out)-pos >= fastMargin {
		acc |= binary.LittleEndian.Uint64(src[at:]) << (n & 63)
		at += int(63-n) >> 3
		n |= 56
		e := litLen[acc&(1<<litLenBits-1)]
		if e&entryLiteral != 0 {
			// Four literals take 44 bits at most.
			acc >>= e & 15
			n -= e.bits()
			out[pos] = byte(e >> 16)
			pos++
			for range 3 {
				e = litLen[acc&(1<<litLenBits-1)]
				if e&entryLiteral == 0 {
					break
				}
				acc >>= e & 15
				n -= e.bits()
				out[pos] = byte(e >> 16)
				pos++
			}
			if e&entryLiteral != 0 {
				continue
			}
			acc |= binary.LittleEndian.Uint64(src[at:]) << (n & 63)
			at += int(63-n) >> 3
			n |= 56
		}
		if e&entryOther != 0 {
			break
		}
		// A length and a distance take 11, 5, 9 and 13 bits at most.
		before, left := acc, n
		acc >>= e & 15
		length := e.value() + int(acc&(1<<e.extra()-1))
		acc >>= e.extra()
		n -= e.bits() + e.extra()
		e = dists[acc&(1<<distBits-1)]
		acc >>= e & 15
		dist := e.value() + int(acc&(1<<e.extra()-1))
		acc >>= e.extra()
		n -= e.bits() + e.extra()
		if e&entryOther != 0 || dist > pos {
			acc, n = before, left
			break
		}
		pos = repeat(out, pos, length, dist)
	}
	d.in.pos, d.in.acc, d.in.n, d.pos = at, acc, n, pos
}
