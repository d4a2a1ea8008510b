package scrub

import (
	"e2qcow/ext"
)

// treeRoot scrubs an i_block that holds block numbers or extents: what lies
// behind the extents in use says nothing to anybody.
func (s *scrubber) treeRoot(in ext.Inode) {
	if in.Flags()&ext.FlagExtents != 0 {
		if node := ext.ExtentNode(in.IBlock()); node.Valid() {
			s.extentNode(node)
		}
	}
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
