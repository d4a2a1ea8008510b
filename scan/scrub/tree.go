package scrub

import (
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
// stay, but for two or more in a row that may be text: they become others that
// cannot be.
func (s *scrubber) pointers(d *drawer, b []byte) {
	text := func(b []byte) bool { return len(b) >= 4 && uint64(le.Uint32(b)) >= s.end && textual(b[:4]) }
	for at := 0; at < len(b); {
		n := 0
		for text(b[at+n:]) {
			n += 4
		}
		if n >= minWord {
			id := d.sum(domainPointer, b[at:at+n])
			for i := 0; i < n; i += 4 {
				lo, _ := d.random(domainPointer, id, 0, uint32(i))
				le.PutUint32(b[at+i:], uint32(s.end+lo%(1<<32-s.end)))
			}
		}
		at += max(n, 4)
	}
}

// textual tells whether all bytes may be those of a text, in ASCII or UTF-8.
func textual(b []byte) bool {
	for _, c := range b {
		switch {
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7F, c == 0xC0, c == 0xC1, c > 0xF4:
			return false
		}
	}
	return true
}

// extentNode scrubs a node of an extent tree.
func (s *scrubber) extentNode(node ext.ExtentNode) {
	clear(node.Unused())
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
	if after, _ := ext.ExtentBlockChecksum(0, block); ok && s.sums && before != after {
		xor32(ext.ExtentChecksumField(block), before^after)
	}
}
