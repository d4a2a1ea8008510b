package scrub

import (
	"bytes"

	"e2qcow/ext"
)

// goodOldInodeSize is the size of the part that every inode has, in bytes; one
// in which that is zero needs no checksum.
const goodOldInodeSize = 128

// What an inode's i_block holds, by which it is scrubbed.
type blockUse uint8

const (
	useTree      blockUse = iota // block numbers or extents
	useTarget                    // the target of a symlink
	useDirectory                 // names, and more in the attribute system.data
	useContents                  // the contents of a file, and more there
	useFreed                     // what is left of one of these
)

// A shape is what reading an inode or a directory takes to know of the
// filesystem.
type shape struct {
	blockSize    int    // bytes
	inodes       uint32 // s_inodes_count
	firstInode   uint32 // s_first_ino
	journalInode uint32 // s_journal_inum
	wide         bool   // block numbers in inodes have high halves
}

func shapeOf(sb *ext.Superblock, geo *ext.Geometry) shape {
	return shape{
		blockSize: int(geo.BlockSize), inodes: geo.InodesCount, firstInode: geo.FirstInode,
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
	case t == ext.ModeSymlink && (inline || in.IsFastSymlink(s.wide) || !ext.ExtentNode(in.IBlock()).Valid() && in.Flags()&ext.FlagExtents != 0):
		return useTarget
	case inline && (t == ext.ModeDir || t != ext.ModeRegular && t != ext.ModeSymlink &&
		ext.LooksLikeInlineDirectory(in.IBlock(), in.Size(), s.blockSize, s.inodes, s.firstInode)):
		return useDirectory
	case inline:
		return useContents
	}
	return useTree
}

// freed tells whether an inode is one of a file that was deleted: without
// links, and with a time of deletion that is not the next inode of the orphan list.
func (s shape) freed(in ext.Inode) bool {
	return in.LinksCount() == 0 && in.Dtime() > s.inodes
}

// inode scrubs an inode, in place: s_inode_size bytes.
func (s *scrubber) inode(d *drawer, ino uint32, in ext.Inode) {
	if in.Mode() == 0 && allZero(in) {
		return
	}
	d.inode = append(d.inode[:0], in...)
	tail := len(in) - len(ext.InodeTail(in))
	s.untext(d, in[:ext.IBlockOffset])
	s.untext(d, in[ext.IBlockOffset+ext.IBlockSize:tail])
	block := in.IBlock()
	var inline func([]byte) // scrubs the value of system.data
	switch s.use(in) {
	case useTree:
		s.untext(d, block)
		s.treeRoot(d, in)
	case useTarget:
		s.target(d, in)
		inline = func(b []byte) { s.path(d, b) }
	case useDirectory:
		inline = s.inlineDirectory(d, ino, in)
	case useContents:
		s.value(d, block)
	case useFreed:
		switch node := ext.ExtentNode(block); {
		case node.Sound() && in.Flags()&ext.FlagExtents != 0:
			s.extentNode(node)
		case in.Flags()&(ext.FlagExtents|ext.FlagInlineData) != 0 || !s.blockNumbers(block):
			clear(block)
		}
		clear(ext.InodeTail(in))
	}
	if tail := ext.InodeTail(in); in.InBodyXattrs() == nil {
		clear(tail)
	}
	s.inodeXattrs(d, in, s.values, inline)
	if h := s.values[ino]; h.change != 0 {
		xor32(ext.XattrValueHashField(in), h.change)
	}
	if s.sums && (s.seeds.uuid || !bytes.Equal(d.inode, in)) && !allZero(d.inode[:goodOldInodeSize]) {
		ext.AdjustInodeChecksum(in, ext.InodeChecksum(0, 0, d.inode)^ext.InodeChecksum(s.seeds.block, 0, in))
	}
}

// target scrubs the target of a symlink that stands in its inode.
func (s *scrubber) target(d *drawer, in ext.Inode) {
	block := in.IBlock()
	n := min(in.Size(), uint64(len(block)))
	if in.Flags()&ext.FlagEncrypt != 0 {
		s.encryptedTarget(d, block)
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
func (s *scrubber) inlineDirectory(d *drawer, ino uint32, in ext.Inode) (rest func([]byte)) {
	r := s.replacer(d, ino)
	l := layout{blockSize: s.blockSize, inodes: s.inodes, hashed: r.hashed}
	if _, chain, ok := ext.InlineDirectory(in.IBlock()); ok {
		l.walkChain(chain, r)
	}
	return func(b []byte) { l.walkChain(b, r) }
}

// inodeWords adds the words in an inode, and the names of a directory in it.
func (v *visitor) inodeWords(ino uint32, in ext.Inode) {
	x := v.x
	if len(in) > goodOldInodeSize {
		x.xattrWords(ext.NewInodeXattrReader(in))
	}
	block := in.IBlock()
	switch v.use(in) {
	case useTarget:
		if in.Flags()&ext.FlagEncrypt == 0 || x.opt.Strict {
			x.pathWords(untilNUL(block))
		}
	case useDirectory:
		c := v.collector(ino)
		l := c.layout(v)
		l.indexed = false
		if _, chain, ok := ext.InlineDirectory(block); ok {
			l.walkChain(chain, c)
		}
		for r := ext.NewInodeXattrReader(in); r.Next(); {
			if value, ok := r.Value(); ok && r.Entry().IsInlineData() {
				l.walkChain(value, c)
			}
		}
		v.finish(c, owner{})
	case useContents:
		x.words.add(block)
		for r := ext.NewInodeXattrReader(in); r.Next(); {
			if value, ok := r.Value(); ok && r.Entry().IsInlineData() {
				x.words.add(value)
			}
		}
	case useFreed:
		if in.Type() == ext.ModeSymlink && in.Flags()&ext.FlagExtents == 0 {
			x.pathWords(untilNUL(block))
		}
	}
}

// pathWords adds the words of a path, and the path itself: its parts may be
// short.
func (x *Index) pathWords(path []byte) {
	x.words.add(path)
	for _, part := range bytes.Split(path, []byte{'/'}) {
		if !keptName(part) {
			x.words.add(part)
		}
	}
}
