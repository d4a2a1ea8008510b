package scrub

import "e2qcow/ext"

// extentHeaderFields is struct ext4_extent_header, extentFields struct
// ext4_extent, and extentIndexFields struct ext4_extent_idx.
var (
	extentHeaderFields = newStructure("extent header", 12, []field{
		{0, 2, "eh_magic", number, nil},
		{2, 2, "eh_entries", number, nil},
		{4, 2, "eh_max", number, nil},
		{6, 2, "eh_depth", number, nil},
	})
	extentFields = newStructure("extent", 12, []field{
		{0, 4, "ee_block", number, nil},
		{4, 2, "ee_len", number, nil},
		{6, 2, "ee_start_hi", number, nil},
		{8, 4, "ee_start_lo", number, nil},
	})
	extentIndexFields = newStructure("extent index", 12, []field{
		{0, 4, "ei_block", number, nil},
		{4, 4, "ei_leaf_lo", number, nil},
		{8, 2, "ei_leaf_hi", number, nil},
	})
)

// treeRoot scrubs an i_block that holds block numbers or extents.
func (s *scrubber) treeRoot(d *drawer, old ext.Inode, block []byte, how standing) {
	if node := ext.ExtentNode(block); node.Valid() && (old.Flags()&ext.FlagExtents != 0 || node.Sound()) {
		s.extentNode(d, node)
		return
	}
	s.pointers(d, block, how == genuine)
}

// wordBlocks is how many blocks a filesystem has at least where two letters of
// UTF-16, or four others, are the number of one.
const wordBlocks = ' '<<16 | ' '

// pointers scrubs block numbers. Those that can be stay if sure says so, in a
// filesystem where no word can be one, and where a bitmap has the block as in
// use. Else they become others that can be. Of those that cannot be, which
// e2fsck prints, one alone stays, and several in a row become others that
// cannot be.
func (s *scrubber) pointers(d *drawer, b []byte, sure bool) {
	possible := func(v uint64) bool { return v != 0 && v < s.lim.blocks }
	illegal := func(v uint64) bool { return v >= s.lim.blocks }
	sure = sure || s.lim.blocks <= wordBlocks
	alone := s.lone(b)
	before := uint64(0) // the word before, as it was
	for ; len(b) >= 4; b = b[4:] {
		v := uint64(le.Uint32(b))
		after := uint64(0)
		if len(b) >= 8 {
			after = uint64(le.Uint32(b[4:]))
		}
		switch {
		case plainBytes(b[:4]):
		case !illegal(v):
			if !sure && !s.inUse(d, v) {
				le.PutUint32(b, uint32(d.noise(v, 4, possible)))
			}
		case !alone || illegal(before) || illegal(after):
			le.PutUint32(b, uint32(d.noise(v, 4, illegal)))
		}
		before = v
	}
	clear(b)
}

// lone tells whether there are few enough words that are no block's number for
// one of them to be a mistake.
func (s *scrubber) lone(b []byte) bool {
	possible, illegal := 0, 0
	for ; len(b) >= 4; b = b[4:] {
		switch v := uint64(le.Uint32(b)); {
		case v >= s.lim.blocks:
			illegal++
		case v != 0:
			possible++
		}
	}
	return illegal <= 2 || illegal <= possible
}

// extentNode scrubs a node of an extent tree that has the magic number.
func (s *scrubber) extentNode(d *drawer, node ext.ExtentNode) {
	d.node = append(d.node[:0], node...)
	old := ext.ExtentNode(d.node)
	clear(node)
	extentHeaderFields.write(d, &s.lim, node, old, genuine)
	const size = 12
	_, count := old.Count()
	for i := range count {
		at := size + i*size
		to, from := node[at:at+size], old[at:at+size]
		var start, n uint64
		table, startLo, startHi := extentFields, 8, 6
		if old.Depth() == 0 {
			x := old.Extent(i)
			start, n = x.Start, uint64(x.Len)
		} else {
			table, startLo, startHi = extentIndexFields, 4, 8
			start, _ = old.Index(i)
			n = 1
		}
		if start < s.lim.blocks && n <= s.lim.blocks-start {
			table.write(d, &s.lim, to, from, genuine)
			continue
		}
		// e2fsck prints an extent that cannot be. Its numbers stay where they
		// are as small as in files, so that no text fits into them.
		const small = 1 << 20
		how := genuine
		if le.Uint32(from) >= small || le.Uint16(from[startHi:]) != 0 {
			how = garbage
		}
		table.write(d, &s.lim, to, from, how)
		if how == garbage && le.Uint16(from[startHi:]) == 0 {
			v := uint64(le.Uint32(from[startLo:]))
			le.PutUint32(to[startLo:], uint32(d.noise(v, 4, func(v uint64) bool { return v >= s.lim.blocks || n > s.lim.blocks-v })))
		}
	}
}

// extentBlock scrubs block n, of an extent tree's node.
func (s *scrubber) extentBlock(d *drawer, n uint64, block []byte) {
	node := ext.ExtentNode(block)
	if !node.Valid() {
		clear(block)
		return
	}
	before, ok := ext.ExtentBlockChecksum(0, block)
	var stored uint32
	if ok {
		stored = le.Uint32(ext.ExtentChecksumField(block))
	}
	right := ok && s.linkedRight(d, n, block, ext.VerifyExtentBlock)
	s.extentNode(d, node)
	if ok {
		after, _ := ext.ExtentBlockChecksum(s.seeds.inode, block)
		le.PutUint32(ext.ExtentChecksumField(block), d.linkedSum(stored, before, after, right))
	}
}
