package scrub

import (
	"bytes"

	"e2qcow/ext"
	"e2qcow/scan"
)

// goodOldInodeSize is the size of the part that every inode has, in bytes.
const goodOldInodeSize = 128

// What an inode's i_block holds, by which it is scrubbed.
type blockUse uint8

const (
	useTree      blockUse = iota // block numbers or extents
	useTarget                    // the target of a symlink
	useDirectory                 // names, and more in the attribute system.data
	useContents                  // the contents of a file, and more there
	useFreed                     // what is left of one of these
	useDevice                    // the number of a device
	useNothing                   // nothing: a FIFO, a socket, or a file of no type
)

// A shape is what reading an inode or a directory takes to know of the
// filesystem.
type shape struct {
	blockSize    int    // bytes
	inodeSize    int    // bytes
	clusterSize  uint32 // bytes
	inodes       uint32 // s_inodes_count
	firstInode   uint32 // s_first_ino
	journalInode uint32 // s_journal_inum
	wide         bool   // block numbers in inodes have high halves
}

func shapeOf(sb *ext.Superblock, geo *ext.Geometry) shape {
	return shape{
		blockSize: int(geo.BlockSize), inodeSize: int(geo.InodeSize), clusterSize: geo.ClusterSize, inodes: geo.InodesCount, firstInode: geo.FirstInode,
		journalInode: sb.JournalInode(), wide: sb.HasIncompat(ext.Incompat64bit),
	}
}

// use tells what the i_block of an inode holds.
func (s shape) use(in ext.Inode) blockUse {
	inline := in.Flags()&ext.FlagInlineData != 0
	switch t := in.Type(); {
	case s.freed(in):
		return useFreed
	case inline && ext.ExtentNode(in.IBlock()).Sound():
		return useTree // its flags contradict each other
	case t == ext.ModeSymlink && s.mayHoldTarget(in):
		return useTarget
	case inline && (t == ext.ModeDir || t != ext.ModeRegular && t != ext.ModeSymlink &&
		ext.LooksLikeInlineDirectory(in.IBlock(), in.Size(), s.blockSize, s.inodes, s.firstInode)):
		return useDirectory
	case inline:
		return useContents
	case in.Flags()&ext.FlagExtents != 0 || ext.ExtentNode(in.IBlock()).Valid():
		return useTree
	case t == ext.ModeChar, t == ext.ModeBlock:
		return useDevice
	case t == ext.ModeFIFO, t == ext.ModeSocket, in.IsUnknown():
		return useNothing
	}
	return useTree
}

// mayHoldTarget tells whether some program takes the i_block of a symlink for
// its target: then it is text, whatever others take it for.
func (s shape) mayHoldTarget(in ext.Inode) bool {
	if in.Flags()&ext.FlagInlineData != 0 {
		return true
	}
	if in.Flags()&ext.FlagExtents != 0 {
		return !ext.ExtentNode(in.IBlock()).Valid()
	}
	return in.SymlinkTarget(s.wide, s.clusterSize)&ext.TargetInInode != 0
}

// freed tells whether an inode is one of a file that was deleted: without
// links, and with a time of deletion that is not the next inode of the orphan list.
func (s shape) freed(in ext.Inode) bool {
	return in.LinksCount() == 0 && in.Dtime() > s.inodes
}

// inode scrubs an inode, in place: s_inode_size bytes.
func (s *scrubber) inode(d *drawer, ino uint32, in ext.Inode) {
	if allZero(in) {
		return
	}
	d.inode = append(d.inode[:0], in...)
	old := ext.Inode(d.inode)
	clear(in)
	seed, right := s.inodeSum(ino, old)
	how := s.judgeInode(old, right)
	s.writeInode(d, in, old, how)
	block := in.IBlock()
	copy(block, old.IBlock())
	var inline func([]byte) // scrubs the value of system.data
	use := s.use(old)
	switch use {
	case useTree:
		s.treeRoot(d, old, block, how)
	case useTarget:
		s.target(d, old, block)
		inline = func(b []byte) { s.path(d, b) }
	case useDirectory:
		inline = s.inlineDirectory(d, ino, block)
	case useContents:
		s.value(d, block)
	case useFreed:
		node := ext.ExtentNode(block)
		switch {
		case node.Sound():
			s.extentNode(d, node)
		case old.Type() == ext.ModeDir && old.Flags()&ext.FlagInlineData == 0 && ino == ext.RootInode:
			// e2fsck looks for names in the root, also where it is deleted.
			s.pointers(d, block, how == genuine)
		default:
			clear(block)
		}
	case useDevice, useNothing:
		s.special(d, ino, old, block, use, how)
	}
	if area := old.InBodyXattrs(); area != nil && use != useFreed && in.ExtraSize() == old.ExtraSize() {
		copy(in[len(in)-len(area):], area)
		s.inodeXattrs(d, in, s.values, inline)
	}
	stored := le.Uint32(ext.XattrValueHashField(old))
	if h, ok := s.values.of(ino, stored); h.change != 0 {
		le.PutUint32(ext.XattrValueHashField(in), h.stored^h.change)
	} else if !ok && holdsValue(old) {
		// Nothing refers to the value: its hash would tell what it was.
		le.PutUint32(ext.XattrValueHashField(in), uint32(d.noise(uint64(stored), 4, nil)))
	}
	if stored := ext.StoredInodeChecksum(old); stored != 0 || right && s.sums && !allZero(old[:goodOldInodeSize]) {
		ext.SetInodeChecksum(in, d.sumOf(stored, ext.InodeChecksum(seed, ino, in), right))
	}
}

const (
	immutable      = 0x10 // EXT4_IMMUTABLE_FL
	badBlocksInode = 1    // EXT4_BAD_INO, a file of no type
)

// special scrubs the i_block of a file that has no blocks. e2fsck takes such an
// inode for a directory if the first block that it numbers looks like one: then
// the numbers stay.
func (s *scrubber) special(d *drawer, ino uint32, old ext.Inode, block []byte, is blockUse, how standing) {
	if ino == badBlocksInode {
		s.pointers(d, block, how == genuine)
		return
	}
	if first := uint64(old.BlockNr(0)); first != 0 && first < s.lim.blocks &&
		(s.m.Contains(scan.Directory, first) || s.m.Contains(scan.Claimed, first)) {
		s.pointers(d, block, how == genuine)
		return
	}
	clear(block)
	rest := old.IBlock()[4*deviceNumbers:]
	if is == useDevice && how != garbage {
		copy(block, old.IBlock()[:4*deviceNumbers])
	}
	if old.Flags()&immutable != 0 && !allZero(rest[8:]) {
		// e2fsck calls such an inode bogus.
		le.PutUint32(block[4*(deviceNumbers+2):], uint32(d.noise(1<<31, 4, nil)))
	}
}

// deviceNumbers is how many words of i_block the number of a device takes: one
// in either of its forms.
const deviceNumbers = 2

// target scrubs the target of a symlink that stands in its inode.
func (s *scrubber) target(d *drawer, in ext.Inode, block []byte) {
	n := min(in.Size(), uint64(len(block)))
	if in.Flags()&ext.FlagEncrypt != 0 {
		s.encryptedTarget(d, block, in.Size())
		return
	}
	if t := untilNUL(block); n == 0 {
		n = uint64(len(t)) // the length is gone, the target may not be
	}
	s.path(d, block[:n])
	s.value(d, block[n:])
}

// inlineDirectory scrubs the names of a directory that stands in its inode. It
// returns what scrubs the rest of them.
func (s *scrubber) inlineDirectory(d *drawer, ino uint32, block []byte) (rest func([]byte)) {
	r := s.replacer(d, ino)
	l := layout{blockSize: s.blockSize, inodes: s.inodes, hashed: r.hashed}
	if _, chain, ok := ext.InlineDirectory(block); ok {
		s.inodeNumber(d, block[:4], true, 1)
		s.chain(d, l, chain, r)
	}
	return func(b []byte) { s.chain(d, l, b, r) }
}

// inodeNames gathers the names of a directory that stand in its inode.
func (v *visitor) inodeNames(ino uint32, in ext.Inode) {
	if v.use(in) != useDirectory {
		return
	}
	c := v.collector(ino)
	l := c.layout(v)
	l.indexed = false
	l.walkInline(in, c)
	v.finish(c, owner{})
}

// walkInline shows the entries of a directory that stand in its inode.
func (l layout) walkInline(in ext.Inode, v dirVisitor) {
	if _, chain, ok := ext.InlineDirectory(in.IBlock()); ok {
		l.walkChain(chain, v)
	}
	for r := ext.NewInodeXattrReader(in); r.Next(); {
		if value, ok := r.Value(); ok && r.Entry().IsInlineData() {
			l.walkChain(value, v)
		}
	}
}

// inodeWords gives add the words in an inode, but for the names of a directory.
func (s shape) inodeWords(in ext.Inode, strict bool, add func([]byte)) {
	if len(in) > goodOldInodeSize {
		r := ext.NewInodeXattrReader(in)
		collectXattrs(&r, strict, add)
	}
	block := in.IBlock()
	switch s.use(in) {
	case useTarget:
		pathWords(untilNUL(block), add)
	case useContents:
		add(block)
		for r := ext.NewInodeXattrReader(in); r.Next(); {
			if value, ok := r.Value(); ok && r.Entry().IsInlineData() {
				add(value)
			}
		}
	case useFreed:
		if in.Type() == ext.ModeSymlink && in.Flags()&ext.FlagExtents == 0 {
			pathWords(untilNUL(block), add)
		}
	}
}

// pathWords gives add the words of a path, and the path itself: its parts may be
// short.
func pathWords(path []byte, add func([]byte)) {
	add(path)
	for _, part := range bytes.Split(path, []byte{'/'}) {
		if !keptName(part) {
			add(part)
		}
	}
}
