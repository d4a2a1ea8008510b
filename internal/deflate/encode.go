package deflate

import "slices"

const (
	// blockLen is how many bytes of the source get codes of their own.
	blockLen = 64 << 10

	// codeLimit is the length of the longest code that is made. Longer ones gain
	// nothing in such blocks, and decoders look up short ones in one step.
	codeLimit = 11
)

// An Encoder compresses. The zero value is ready. It is used by one goroutine at
// a time.
type Encoder struct {
	matches matcher
	finder  lengthFinder
	header  header
	w       bitWriter

	lengths [litLenSyms + distSyms]uint8 // of the codes of the block
	litLen  [fixedSyms]code
	dist    [distSyms]code
	// match has the code of each length of a match, from minMatch on, with the
	// extra bits behind it.
	match [maxMatch - minMatch + 1]code
}

// Append appends the raw deflate of src to dst and reports whether that takes no
// more than limit bytes. If it takes more, dst is returned as it was. Bytes
// behind the result, up to limit and Slack, can change. Without capacity for
// these, dst is moved.
func (e *Encoder) Append(dst, src []byte, limit int) ([]byte, bool) {
	limit = max(limit, 0)
	grown := slices.Grow(dst, limit+Slack)
	e.w.begin(grown[len(dst):len(dst)+limit+Slack], limit)
	e.matches.reset()
	for start, last := 0, false; !last; start += blockLen {
		end := min(start+blockLen, len(src))
		last = end == len(src)
		if !e.block(src, start, end, last) {
			return dst, false
		}
	}
	e.w.align()
	return grown[:len(dst)+limit-e.w.limit], true
}

// block writes src[start:end] in whichever form is the shortest, and reports
// whether there was room for it.
func (e *Encoder) block(src []byte, start, end int, last bool) bool {
	m := &e.matches
	m.split(src, start, end)
	litLens, distLens := e.lengths[:litLenSyms], e.lengths[litLenSyms:]
	e.finder.find(litLens, m.litLen[:], codeLimit)
	e.finder.find(distLens, m.dist[:], codeLimit)
	e.header.make(&e.finder, &e.lengths)

	dynamic := 3 + e.header.bits + m.bits(litLens, distLens)
	fixed := 3 + m.bits(fixedLitLen[:], fixedDist[:distSyms])
	stored := e.w.storedBits(end - start)
	shortest := min(dynamic, fixed, stored)
	if !e.w.room(shortest) {
		return false
	}
	final := uint64(0)
	if last {
		final = 1
	}
	switch shortest {
	case stored:
		e.w.stored(src[start:end], final)
		return true
	case fixed:
		e.w.put(final|blockFixed<<1, 3)
		litLens, distLens = fixedLitLen[:], fixedDist[:distSyms]
	default:
		e.w.put(final|blockDynamic<<1, 3)
		e.header.write(&e.w)
	}
	assign(e.litLen[:], litLens)
	assign(e.dist[:], distLens)
	e.joinLengths()
	e.write(src[start:end])
	return true
}

var fixedLitLen, fixedDist = fixedLengths()

// joinLengths sets the codes of lengths from those of their symbols.
func (e *Encoder) joinLengths() {
	for i, base := range lengthBase {
		c := e.litLen[firstLength+i]
		at := int(base) - minMatch
		for extra := range min(1<<lengthExtra[i], len(e.match)-at) {
			e.match[at+extra] = c.with(uint32(extra), uint(lengthExtra[i]))
		}
	}
}

// write writes the sequences of a block, which is src, and its end. Four literals
// have at most 44 bits. A match has at most 37: codes of 11 bits, and 5 and 10
// extra bits.
func (e *Encoder) write(src []byte) {
	b, out := e.w.bits, e.w.rest
	for _, s := range e.matches.sequences[:e.matches.n] {
		p := src[:s.literals]
		for ; len(p) >= 4; p = p[4:] {
			b = b.code(e.litLen[p[0]]).code(e.litLen[p[1]]).code(e.litLen[p[2]]).code(e.litLen[p[3]])
			b, out = b.flush(out)
		}
		if len(p) > 0 {
			for _, v := range p {
				b = b.code(e.litLen[v])
			}
			b, out = b.flush(out)
		}
		if s.length == 0 {
			break
		}
		src = src[int(s.literals)+int(s.length):]
		b = b.code(e.match[uint8(s.length-minMatch)])
		sym := distSym(int(s.dist))
		b = b.code(e.dist[sym]).put(uint64(s.dist-distBase[sym]), uint(distExtra[sym]))
		b, out = b.flush(out)
	}
	e.w.set(b.code(e.litLen[endOfBlock]).flush(out))
}
