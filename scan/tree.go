package scan

import (
	"encoding/binary"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// visitTree processes the tree of blocks whose root is an inode's i_block.
// extents is the inode's flag; where root and flag disagree both readings are
// followed.
func (s *scanner) visitTree(b *batch, ino uint32, iblock []byte, extents bool, c content) {
	node := ext.ExtentNode(iblock)
	switch {
	case extents && !node.Valid():
		b.problem(BadExtentNode, ino, 0, "the inode has no extent header")
		if s.mayBeBlockMap(iblock) {
			s.visitBlockMap(b, ino, iblock, c)
		}
	case extents:
		s.visitExtentNode(b, ino, 0, node, c)
	default:
		if !node.Sound() {
			s.visitBlockMap(b, ino, iblock, c)
			return
		}
		b.problem(BadInode, ino, 0, "an extent header without the EXTENTS flag")
		s.visitExtentNode(b, ino, 0, node, c)
		s.visitMistaken(b, ino, iblock, c)
	}
}

// visitMistaken processes the blocks that e2fsck reads if it takes an extent
// node for a block map. e2fsck stops at the first word that is not a block
// number.
func (s *scanner) visitMistaken(b *batch, ino uint32, iblock []byte, c content) {
	for n := range ext.IBlockCount {
		block := uint64(binary.LittleEndian.Uint32(iblock[4*n:]))
		switch {
		case block == 0 || !s.validBlock(block):
		case n < ext.NDirBlocks:
			s.visitLeaf(b, ino, c, uint64(n), block, 1)
		default:
			s.visitPointer(b, ino, block, roleInd1, contentData)
		}
	}
}

// mayBeBlockMap reports whether all block numbers in an i_block are possible.
func (s *scanner) mayBeBlockMap(iblock []byte) bool {
	for n := range ext.IBlockCount {
		if block := uint64(binary.LittleEndian.Uint32(iblock[4*n:])); block != 0 && !s.validBlock(block) {
			return false
		}
	}
	return true
}

func (s *scanner) visitExtentBlock(b *batch, it *item, block uint64, data []byte) {
	node := ext.ExtentNode(data)
	if !node.Valid() {
		if b.unread(int64(block)*int64(s.geo.BlockSize), int64(len(data))) {
			b.mark(ExtentNode, block, 1)
			return
		}
		b.mark(Claimed, block, 1)
		b.problem(BadExtentNode, it.ino, block, "no extent header")
		return
	}
	b.mark(ExtentNode, block, 1)
	s.tellLost(b, block)
	s.visitor.Extents(it.ino, block, data)
	s.visitExtentNode(b, it.ino, block, node, it.content)
}

// visitExtentNode processes the blocks to which a node points, whatever depth
// its header says. Each block is visited once, so a loop ends by itself.
func (s *scanner) visitExtentNode(b *batch, ino uint32, block uint64, node ext.ExtentNode, c content) {
	claimed, count := node.Count()
	if claimed > count {
		b.problem(BadExtentNode, ino, block, "more entries than fit")
	}
	if node.Depth() == 0 {
		if c == contentData && !s.opt.Files {
			return // it leads to nothing but file contents
		}
		for i := range count {
			x := node.Extent(i)
			if c == contentFile && x.Unwritten {
				s.hold(b, x.Start, uint64(x.Len))
				continue
			}
			s.visitLeaf(b, ino, c, uint64(x.Logical), x.Start, uint64(x.Len))
		}
		return
	}
	if c == contentProbe || c == contentIndex {
		count = min(count, 1) // only the first block counts
	}
	for i := range count {
		child, _ := node.Index(i)
		if !s.validBlock(child) {
			b.problem(BadBlockPointer, ino, child, "an extent index points outside the filesystem")
			continue
		}
		b.items = append(b.items, item{block: child, ino: ino, count: 1, role: roleExtent, content: c})
	}
}

// visitBlockMap processes an i_block of direct and indirect block numbers.
func (s *scanner) visitBlockMap(b *batch, ino uint32, iblock []byte, c content) {
	for n := range ext.IBlockCount {
		block := uint64(binary.LittleEndian.Uint32(iblock[4*n:]))
		switch {
		case block == 0:
		case n < ext.NDirBlocks:
			s.visitLeaf(b, ino, c, uint64(n), block, 1)
		case c.firstOnly():
		default:
			s.visitPointer(b, ino, block, roleInd1+role(n-ext.NDirBlocks), c)
		}
	}
}

func (s *scanner) visitPointer(b *batch, ino uint32, block uint64, r role, c content) {
	if !s.validBlock(block) {
		b.problem(BadBlockPointer, ino, block, "an indirect block lies outside the filesystem")
		return
	}
	b.items = append(b.items, item{block: block, ino: ino, count: 1, role: r, content: c})
}

// tooManyBad is how many block numbers outside the filesystem make e2fsck
// give an inode up.
const tooManyBad = 12

// visitIndirectBlock processes the blocks to which an indirect block points. A
// block with more than tooManyBad impossible numbers is only claimed as
// indirect: e2fsck follows its other numbers only if it may not clear the
// block.
func (s *scanner) visitIndirectBlock(b *batch, it *item, block uint64, data []byte) {
	bad := 0
	items := len(b.items)
	leaves := it.role == roleInd1
	for at := 0; at+4 <= len(data); at += 4 {
		p := uint64(binary.LittleEndian.Uint32(data[at:]))
		switch {
		case p == 0:
		case !s.validBlock(p):
			bad++
		case !leaves:
			b.items = append(b.items, item{block: p, ino: it.ino, count: 1, role: it.role - 1, content: it.content})
		case it.content != contentData || s.opt.Files:
			// Where in the file a leaf lies matters to none of the contents
			// that indirect blocks are followed for.
			s.visitLeaf(b, it.ino, it.content, ext.NDirBlocks, p, 1)
		}
	}
	if bad > 0 {
		b.problem(BadBlockPointer, it.ino, block, "an indirect block holds numbers outside the filesystem")
	}
	if bad <= tooManyBad {
		b.mark(IndirectBlock, block, 1)
		s.visitor.Indirect(it.ino, block, leaves, data)
		return
	}
	b.mark(Claimed, block, 1)
	s.visitor.Pointers(block)
	b.suspects = append(b.suspects, b.items[items:]...)
	b.items = b.items[:items]
}

// visitLeaf processes n blocks of a file from block start, the first of which
// is logical block logical, if its contents are structure.
func (s *scanner) visitLeaf(b *batch, ino uint32, c content, logical, start, n uint64) {
	if c == contentData || n == 0 {
		s.hold(b, start, n)
		return
	}
	if c.firstOnly() {
		if logical != 0 {
			return
		}
		n = 1
	}
	if start < s.first || start >= s.geo.BlocksCount || n > s.geo.BlocksCount-start {
		b.problem(BadBlockPointer, ino, start, "blocks outside the filesystem")
		return // e2fsck refuses the run whole
	}
	first, count, ok := s.validRun(start, n)
	if !ok || count != n {
		b.problem(BadBlockPointer, ino, start, "blocks outside the device")
		if !ok {
			return
		}
	}
	switch c {
	case contentFile:
		b.mark(FileData, first, count)
	case contentDir:
		// A long run is followed at once only as far as a sound directory may
		// well go; if damage made a directory of a file the rest is bounded.
		n := min(count, soundDirRun)
		b.items = appendRun(b.items, ino, first, n, roleDir)
		b.suspects = appendRun(b.suspects, ino, first+n, count-n, roleDir)
	case contentProbe:
		b.items = appendRun(b.items, ino, first, 1, roleProbe)
	case contentIndex:
		b.mark(Claimed, first, 1)
	case contentSymlink:
		b.mark(Symlink, first, 1)
	case contentEncrypted:
		b.mark(EncryptedSymlink, first, 1)
	}
}

// hold notes that n blocks from start are somebody's, though not taken.
func (s *scanner) hold(b *batch, start, n uint64) {
	if first, n, ok := s.validRun(start, n); s.opt.Files && ok {
		b.held = ranges.Append(b.held, first, first+n)
	}
}

// firstOnly reports whether only the first block of a content is needed.
func (c content) firstOnly() bool {
	return c == contentProbe || c == contentIndex || c == contentSymlink || c == contentEncrypted
}

// soundDirRun is how many blocks of one run are taken for a directory's
// without doubt.
const soundDirRun = 64

// appendRun appends a run of blocks to be read.
func appendRun(items []item, ino uint32, start, n uint64, r role) []item {
	const most = 1 << 15
	for n > 0 {
		m := min(n, most)
		items = append(items, item{block: start, ino: ino, count: uint16(m), role: r})
		start, n = start+m, n-m
	}
	return items
}
