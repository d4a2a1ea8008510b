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

// treeRoot scrubs an i_block that holds block numbers or extents. Where the
// header of extents has lost its flag, e2fsck takes all for block numbers.
func (s *scrubber) treeRoot(d *drawer, old ext.Inode, block []byte, how standing) {
	if node := ext.ExtentNode(block); node.Valid() && (old.Flags()&ext.FlagExtents != 0 || node.Sound()) {
		s.extentNode(d, node)
		if old.Flags()&ext.FlagExtents == 0 {
			const size = 12
			_, count := ext.ExtentNode(old.IBlock()).Count()
			rest := block[min(size*(1+count), len(block)):]
			copy(rest, old.IBlock()[len(block)-len(rest):])
			s.pointers(d, rest, how == genuine)
		}
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
// e2fsck prints, few stay, and others become such as cannot be either: see
// staysIllegal.
func (s *scrubber) pointers(d *drawer, b []byte, sure bool) {
	possible := func(v uint64) bool { return v != 0 && v < s.lim.blocks }
	illegal := func(v uint64) bool { return v >= s.lim.blocks }
	sure = sure || s.lim.blocks <= wordBlocks
	count, usual := s.countIllegal(b)
	var before [2]uint64 // the words before, as they were
	for ; len(b) >= 4; b = b[4:] {
		v := uint64(le.Uint32(b))
		switch {
		case plainBytes(b[:4]):
		case !illegal(v):
			if !sure && !s.inUse(d, v) {
				le.PutUint32(b, uint32(d.noise(v, 4, possible)))
			}
		case !s.staysIllegal(b, before, count, usual):
			le.PutUint32(b, uint32(d.noise(v, 4, illegal)))
		}
		before[0], before[1] = before[1], v
	}
	clear(b)
}

// onlyPointers tells whether all words are numbers of blocks or zero, and none may
// be text.
func (s *scrubber) onlyPointers(b []byte) bool {
	for ; len(b) >= 4; b = b[4:] {
		if v := uint64(le.Uint32(b)); v >= s.lim.blocks || v != 0 && textual(b[:4]) && s.lim.blocks > wordBlocks {
			return false
		}
	}
	return true
}

// staysIllegal tells whether the number that b begins with, which is no block's,
// is a mistake rather than a piece of contents. before are the two before it,
// count is how many such there are, and usual how many others.
func (s *scrubber) staysIllegal(b []byte, before [2]uint64, count, usual int) bool {
	const fewSmall = 4
	var after [2]uint64
	for i := range after {
		if at := 4 * (i + 1); at+4 <= len(b) {
			after[i] = uint64(le.Uint32(b[at:]))
		}
	}
	illegal := func(v uint64) bool { return v >= s.lim.blocks }
	if v := uint64(le.Uint32(b)); v < smallNumber {
		letter := func(v uint64) bool { return illegal(v) && letter32(v) }
		inText := letter(before[1]) && letter(after[0]) || letter(before[0]) && letter(before[1]) || letter(after[0]) && letter(after[1])
		return (count <= fewSmall || count <= usual) && !(letter(v) && inText)
	}
	if (count <= maxLone || count <= usual) && !illegal(before[1]) && !illegal(after[0]) {
		return true
	}
	return count <= maxLone && !textual(b[:4])
}

// countIllegal counts the words that are no block's number, and those that are.
func (s *scrubber) countIllegal(b []byte) (illegal, possible int) {
	for ; len(b) >= 4; b = b[4:] {
		switch v := uint64(le.Uint32(b)); {
		case plainBytes(b[:4]):
		case v >= s.lim.blocks:
			illegal++
		default:
			possible++
		}
	}
	return illegal, possible
}

// extentNode scrubs a node of an extent tree that has the magic number.
func (s *scrubber) extentNode(d *drawer, node ext.ExtentNode) {
	d.node = append(d.node[:0], node...)
	old := ext.ExtentNode(d.node)
	clear(node)
	extentHeaderFields.write(d, &s.lim, node, old, genuine)
	const size = 12
	_, count := old.Count()
	illegal := 0
	for i := range count {
		if start, n := extentAt(old, i); !s.hasBlocks(start, n) {
			illegal++
		}
	}
	for i := range count {
		at := size + i*size
		to, from := node[at:at+size], old[at:at+size]
		start, n := extentAt(old, i)
		table, startLo, startHi := extentFields, 8, 6
		if old.Depth() > 0 {
			table, startLo, startHi = extentIndexFields, 4, 8
		}
		if s.hasBlocks(start, n) {
			table.write(d, &s.lim, to, from, genuine)
			continue
		}
		// e2fsck prints an extent that cannot be. Its numbers stay where such are
		// few and no text, or as small as in files.
		how := genuine
		few := illegal <= maxLone && le.Uint32(from) < smallNumber && !textual(from[4:8]) && !textual(from[8:])
		if !few && (le.Uint32(from) >= smallNumber || le.Uint16(from[startHi:]) != 0) {
			how = garbage
		}
		table.write(d, &s.lim, to, from, how)
		if how == garbage && le.Uint16(from[startHi:]) == 0 {
			v := uint64(le.Uint32(from[startLo:]))
			le.PutUint32(to[startLo:], uint32(d.noise(v, 4, func(v uint64) bool { return v >= s.lim.blocks || n > s.lim.blocks-v })))
		}
	}
}

// extentAt returns the blocks that entry i of a node leads to.
func extentAt(node ext.ExtentNode, i int) (start, n uint64) {
	if node.Depth() > 0 {
		start, _ = node.Index(i)
		return start, 1
	}
	x := node.Extent(i)
	return x.Start, uint64(x.Len)
}

// hasBlocks tells whether the filesystem has so many blocks from start on.
func (s *scrubber) hasBlocks(start, n uint64) bool {
	return start < s.lim.blocks && n <= s.lim.blocks-start
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
