package deflate

import "io"

// dynamic makes the tables of a block from the lengths that it begins with.
func (d *Decoder) dynamic() error {
	head, ok := d.in.take(5 + 5 + 4)
	if !ok {
		return io.ErrUnexpectedEOF
	}
	litLens, dists, codeLens := int(head&31)+firstLength, int(head>>5&31)+1, int(head>>10)+4
	if litLens > litLenSyms || dists > distSyms {
		return corrupt("codes of %d and %d symbols", litLens, dists)
	}
	lengths := d.lengths[:codeLenSyms]
	clear(lengths)
	for _, s := range codeLenOrder[:codeLens] {
		n, ok := d.in.take(3)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		lengths[s] = uint8(n)
	}
	if !d.tables.codeLen.build(maxHeaderLen, &codeLenEntries, lengths) {
		return corrupt("no code has these lengths of codes for lengths")
	}
	lengths = d.lengths[:litLens+dists]
	if err := d.readLengths(lengths); err != nil {
		return err
	}
	if !d.tables.litLen.build(litLenBits, &litLenEntries, lengths[:litLens]) ||
		!d.tables.dist.build(distBits, &distEntries, lengths[litLens:]) {
		return corrupt("no code has these lengths")
	}
	return nil
}

// readLengths reads the lengths of both codes.
func (d *Decoder) readLengths(lengths []uint8) error {
	for i := 0; i < len(lengths); {
		e, err := d.in.symbol(&d.tables.codeLen)
		if err != nil {
			return err
		}
		value, run := uint8(e.value()), 1
		switch {
		case value == repeatLast && i == 0:
			return corrupt("nothing to repeat")
		case value >= repeatLast:
			extra, ok := d.in.take(uint(repeatBits[value]))
			if !ok {
				return io.ErrUnexpectedEOF
			}
			run = int(extra) + 3
			if value == repeatZeros {
				run += 11 - 3
			}
			if value == repeatLast {
				value = lengths[i-1]
			} else {
				value = 0
			}
		}
		if run > len(lengths)-i {
			return corrupt("more lengths than symbols")
		}
		for range run {
			lengths[i] = value
			i++
		}
	}
	return nil
}
