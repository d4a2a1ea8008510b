package deflate

import "encoding/binary"

// Slack is how many bytes behind the limit of its output the encoder may change,
// as it writes eight bytes at once.
const Slack = 8

// bitsOut are bits on their way out, the first one lowest. Its methods return the
// new value, so that the compiler keeps it in registers.
type bitsOut struct {
	acc uint64
	n   uint
}

// put appends the n bits of v. After a flush there is room for 56.
func (b bitsOut) put(v uint64, n uint) bitsOut {
	return bitsOut{b.acc | v<<(b.n&63), b.n + n}
}

// code appends a code.
func (b bitsOut) code(c code) bitsOut { return b.put(uint64(c.bits()), c.len()) }

// flush writes the whole bytes to out, and returns what is behind them.
func (b bitsOut) flush(out []byte) (bitsOut, []byte) {
	binary.LittleEndian.PutUint64(out, b.acc)
	return bitsOut{b.acc >> (b.n &^ 7 & 63), b.n & 7}, out[b.n>>3:]
}

// A bitWriter writes bits into a buffer of fixed size.
type bitWriter struct {
	bits  bitsOut
	rest  []byte // of the buffer
	limit int    // how many bytes of rest may be used; less than 0 if too many were
}

// begin has the writer write to the first limit bytes of b, which has Slack more.
func (w *bitWriter) begin(b []byte, limit int) { *w = bitWriter{rest: b, limit: limit} }

// room reports whether n bits more are within the limit.
func (w *bitWriter) room(n int) bool { return (int(w.bits.n)+n+7)/8 <= w.limit }

// put writes at most 56 bits, for which there is room.
func (w *bitWriter) put(v uint64, n uint) { w.set(w.bits.put(v, n).flush(w.rest)) }

// set goes on with these bits and this rest.
func (w *bitWriter) set(bits bitsOut, rest []byte) {
	w.limit -= len(w.rest) - len(rest)
	w.bits, w.rest = bits, rest
}

// align fills the last byte.
func (w *bitWriter) align() { w.put(0, -w.bits.n&7) }

// storedBits returns how many bits n bytes take when they are stored.
func (w *bitWriter) storedBits(n int) int {
	first := 3 + int(-(w.bits.n+3)&7) + 32
	more := max(0, n-1) / maxStored
	return first + more*(8+32) + 8*n
}

// stored writes blocks of b as it is. There is room for them.
func (w *bitWriter) stored(b []byte, final uint64) {
	for {
		part := b[:min(len(b), maxStored)]
		b = b[len(part):]
		last := uint64(0)
		if len(b) == 0 {
			last = final
		}
		w.put(last|blockStored<<1, 3)
		w.align()
		n := uint64(len(part))
		w.put(n|(n^maxStored)<<16, 32)
		w.set(w.bits, w.rest[copy(w.rest, part):])
		if len(b) == 0 {
			return
		}
	}
}
