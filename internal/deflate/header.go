package deflate

// A header is the list of the lengths of a block's codes, as the block has it.
type header struct {
	litLens, dists, codeLens int // how many lengths are listed
	symbols                  [litLenSyms + distSyms]headerSymbol
	n                        int // of symbols
	counts                   [codeLenSyms]uint32
	lengths                  [codeLenSyms]uint8
	bits                     int // of all of it
}

// A headerSymbol is a length, or one of the three that repeat lengths, with the
// bits that follow it.
type headerSymbol struct {
	sym, extra uint8
}

var repeatBits = [codeLenSyms]uint8{repeatLast: 2, repeatZero: 3, repeatZeros: 7}

// make makes the header of codes with these lengths: of literals and lengths,
// then of distances.
func (h *header) make(f *lengthFinder, lengths *[litLenSyms + distSyms]uint8) {
	h.litLens, h.dists = litLenSyms, distSyms
	for lengths[h.litLens-1] == 0 {
		h.litLens-- // ends at the end of the block, which has a code
	}
	for h.dists > 1 && lengths[litLenSyms+h.dists-1] == 0 {
		h.dists--
	}
	h.n = 0
	clear(h.counts[:])
	h.list(lengths[:h.litLens])
	h.list(lengths[litLenSyms:][:h.dists])
	f.find(h.lengths[:], h.counts[:], maxHeaderLen)
	h.codeLens = codeLenSyms
	for h.codeLens > 4 && h.lengths[codeLenOrder[h.codeLens-1]] == 0 {
		h.codeLens--
	}
	h.bits = 5 + 5 + 4 + 3*h.codeLens
	for s, c := range h.counts {
		h.bits += int(c) * int(h.lengths[s]+repeatBits[s])
	}
}

// list appends the symbols of lengths.
func (h *header) list(lengths []uint8) {
	for i := 0; i < len(lengths); {
		v := lengths[i]
		run := 1
		for i+run < len(lengths) && lengths[i+run] == v {
			run++
		}
		i += run
		if v == 0 {
			for run >= 11 {
				n := min(run, 138)
				h.add(repeatZeros, n-11)
				run -= n
			}
			if run >= 3 {
				h.add(repeatZero, run-3)
				run = 0
			}
		} else if run > 3 {
			h.add(v, 0)
			for run--; run >= 3; {
				n := min(run, 6)
				h.add(repeatLast, n-3)
				run -= n
			}
		}
		for range run {
			h.add(v, 0)
		}
	}
}

func (h *header) add(sym uint8, extra int) {
	h.symbols[h.n] = headerSymbol{sym, uint8(extra)}
	h.n++
	h.counts[sym]++
}

// write writes the header behind the type of its block.
func (h *header) write(w *bitWriter) {
	w.put(uint64(h.litLens-firstLength), 5)
	w.put(uint64(h.dists-1), 5)
	w.put(uint64(h.codeLens-4), 4)
	for _, s := range codeLenOrder[:h.codeLens] {
		w.put(uint64(h.lengths[s]), 3)
	}
	var codes [codeLenSyms]code
	assign(codes[:], h.lengths[:])
	b, out := w.bits, w.rest
	for _, s := range h.symbols[:h.n] {
		b, out = b.code(codes[s.sym].with(uint32(s.extra), uint(repeatBits[s.sym]))).flush(out)
	}
	w.set(b, out)
}
