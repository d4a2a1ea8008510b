package scrub

import (
	"unicode/utf8"

	"e2qcow/ext"
)

// treeRoot scrubs an i_block that holds block numbers or extents: what lies
// behind the extents in use says nothing to anybody.
func (s *scrubber) treeRoot(d *drawer, in ext.Inode) {
	if node := ext.ExtentNode(in.IBlock()); in.Flags()&ext.FlagExtents != 0 && node.Valid() {
		s.extentNode(node)
	} else {
		s.pointers(d, in.IBlock())
	}
}

// blockNumbers tells whether all of b can be numbers of blocks.
func (s *scrubber) blockNumbers(b []byte) bool {
	for ; len(b) >= 4; b = b[4:] {
		if uint64(le.Uint32(b)) >= s.end {
			return false
		}
	}
	return true
}

// pointers scrubs block numbers. e2fsck prints those that cannot be, so they
// stay, but for so many in a row that look like text: they become others that
// cannot be.
func (s *scrubber) pointers(d *drawer, b []byte) {
	illegal := func(b []byte) bool { return len(b) >= 4 && uint64(le.Uint32(b)) >= s.end }
	for at := 0; at < len(b); {
		n := 0
		for illegal(b[at+n:]) && textual(b[at+n:][:4]) {
			n += 4
		}
		if n >= minText && validText(b[at:at+n]) {
			id := d.sum(domainPointer, b[at:at+n])
			for i := 0; i < n; i += 4 {
				lo, _ := d.random(domainPointer, id, 0, uint32(i))
				le.PutUint32(b[at+i:], uint32(s.end+lo%(1<<32-s.end)))
			}
		}
		at += max(n, 4)
	}
}

// minText is how long what looks like text has to be, in bytes, to be taken
// for it: shorter runs come about by chance.
const minText = 16

// untext replaces what looks like text where nothing but numbers belong: damage
// has put it there.
func (s *scrubber) untext(d *drawer, b []byte) {
	for len(b) >= minTextInNumbers {
		// From behind: a byte that is none of a text ends all runs that it is in.
		n := minTextInNumbers
		for n > 0 && isText[b[n-1]] {
			n--
		}
		if n > 0 {
			b = b[n:]
			continue
		}
		for n = minTextInNumbers; n < len(b) && isText[b[n]]; {
			n++
		}
		if validText(b[:n]) && varied(b[:n]) {
			s.overwrite(d, b[:n])
		}
		b = b[n:]
	}
}

// varied tells whether so many different bytes are there as a text has, and the
// bits of blocks in a row have not.
func varied(b []byte) bool {
	const least = 8
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n >= least
}

// minTextInNumbers is how long text has to be, in bytes, to be taken for it
// where times and block numbers stand side by side.
const minTextInNumbers = 24

// textual tells whether all bytes may be those of a text, in ASCII or UTF-8.
func textual(b []byte) bool {
	for _, c := range b {
		if !isText[c] {
			return false
		}
	}
	return true
}

// isText tells which bytes those are.
var isText = func() (is [256]bool) {
	for c := range is {
		switch {
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7F, c == 0xC0, c == 0xC1, c > 0xF4:
		default:
			is[c] = true
		}
	}
	return is
}()

// validText tells whether textual bytes are UTF-8 but for a character cut off
// at either end.
func validText(b []byte) bool {
	for range utf8.UTFMax - 1 {
		if len(b) > 0 && !utf8.RuneStart(b[0]) {
			b = b[1:]
		}
	}
	for i := range min(utf8.UTFMax, len(b)) {
		if utf8.Valid(b[:len(b)-i]) {
			return true
		}
	}
	return false
}

// extentNode scrubs a node of an extent tree.
func (s *scrubber) extentNode(node ext.ExtentNode) {
	room, rest := node.Unused()
	clear(room)
	clear(rest)
}

// extentBlock scrubs the block of an extent tree's node.
func (s *scrubber) extentBlock(block []byte) {
	node := ext.ExtentNode(block)
	if !node.Valid() {
		clear(block)
		return
	}
	before, ok := ext.ExtentBlockChecksum(0, block)
	s.extentNode(node)
	if after, _ := ext.ExtentBlockChecksum(s.seeds.inode, block); ok && s.sums && before != after {
		xor32(ext.ExtentChecksumField(block), before^after)
	}
}
