package diff

import (
	"bytes"

	"e2qcow/ext"
)

const (
	inodeFieldsEnd = 0xA0 // behind i_projid
	goodOldInode   = 128  // bytes of an inode that has no more
	minExtra       = 4    // i_extra_isize and i_checksum_hi
)

// inodeTable compares a block of an inode table.
func (c *comparison) inodeTable(p *pair) {
	var first [2]uint32
	var is [2]bool
	for i, s := range c.side {
		first[i], is[i] = s.table(p.block)
	}
	size := c.side[0].geo.InodeSize
	if is[0] && is[1] && first[0] == first[1] && size == c.side[1].geo.InodeSize {
		for k := uint32(0); (k+1)*size <= c.d.BlockSize; k++ {
			a, b := p.data[0][k*size:(k+1)*size:(k+1)*size], p.data[1][k*size:(k+1)*size:(k+1)*size]
			if !bytes.Equal(a, b) {
				c.inode(first[0]+k, a, b)
			}
		}
		return
	}
	for i, s := range c.side {
		for k := range s.geo.InodesPerBlock() {
			if is[i] {
				c.inodeByNumber(first[i] + k)
			}
		}
	}
}

// inodeByNumber compares an inode, wherever it lies on either side.
func (c *comparison) inodeByNumber(ino uint32) {
	if c.inodes[ino] != nil {
		return
	}
	if a, b := c.side[0].inode(ino), c.side[1].inode(ino); !bytes.Equal(a, b) {
		c.inode(ino, a, b)
	}
}

// inode returns an inode; zeros where it is in no table.
func (s *side) inode(ino uint32) ext.Inode {
	if in, ok := s.reading.ReadInode(ino); ok {
		return in
	}
	return make(ext.Inode, s.geo.InodeSize)
}

// inUse tells whether an inode is one of a file, or a reserved one.
func (s *side) inUse(ino uint32, in ext.Inode) bool {
	return in.LinksCount() != 0 || ino < s.geo.FirstInode && in.Used()
}

// inodeSum returns the state of an inode's checksum.
func (s *side) inodeSum(ino uint32, in ext.Inode) string {
	return sumState(s.sumsOn, ext.VerifyInode(s.seed, ino, in))
}

// inode compares an inode of which some byte differs.
func (c *comparison) inode(ino uint32, a, b ext.Inode) {
	if ino == 0 || c.inodes[ino] != nil {
		return
	}
	it := c.newInode(ino, a, b)
	end := goodOldInode
	if n := min(len(a), len(b)); n > goodOldInode {
		extra := max(int(le.Uint16(a[goodOldInode:])), int(le.Uint16(b[goodOldInode:])), minExtra)
		end = min(n, goodOldInode+extra, inodeFieldsEnd)
	}
	it.Fields = compareFields(ext.InodeFields, a[:end], b[:end], "i_block")
	old, now := c.side[0].inodeSum(ino, a), c.side[1].inodeSum(ino, b)
	it.Sums = sumsOf(old, now)
	if it.Sums == nil && now != sumWrong {
		follow(it.Fields, "l_i_checksum_lo", "i_checksum_hi")
	}
	it.Xattrs = compareXattrs(inodeXattrs(a), inodeXattrs(b))
	it.Rest = len(it.Xattrs) == 0 && !bytes.Equal(a[end:], b[end:])
	if !bytes.Equal(a.IBlock(), b.IBlock()) || it.What != Changed || a.Type() != b.Type() || a.Flags() != b.Flags() ||
		a.FileACL(true) != b.FileACL(true) {
		c.mapInode(it, a, b)
	}
	if inlineDir(a) || inlineDir(b) {
		for i, in := range []ext.Inode{a, b} {
			if inlineDir(in) && it.used[i] {
				if parent, _, ok := ext.InlineDirectory(in.IBlock()); ok {
					c.countEntry(i, ino, dirEntry{"..", parent, dirType})
				}
				for chain := range in.InlineChains() {
					c.entries(i, ino, chain)
				}
			}
		}
	}
	if !c.room("inodes", 2+len(it.Fields)+len(it.Map)+len(it.Xattrs)) {
		delete(c.inodes, ino)
	}
}

// newInode returns the record of an inode that differs.
func (c *comparison) newInode(ino uint32, a, b ext.Inode) *Inode {
	it := &Inode{Inode: ino, types: [2]uint16{a.Type(), b.Type()}}
	it.used = [2]bool{c.side[0].inUse(ino, a), c.side[1].inUse(ino, b)}
	switch {
	case it.used == [2]bool{false, true}:
		it.What = Created
	case it.used == [2]bool{true, false}:
		it.What = Deleted
	case it.used == [2]bool{true, true}:
		it.What = Changed
	default:
		it.What = Unused
	}
	c.inodes[ino] = it
	return it
}

// dirType is the file type of a directory in an entry (EXT4_FT_DIR).
const dirType = 2

func inlineDir(in ext.Inode) bool {
	return in.Type() == ext.ModeDir && inline(in)
}

// inline tells whether i_block is the contents of a file, as far as flags say.
func inline(in ext.Inode) bool {
	return in.Flags()&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData
}

// fastTarget tells whether i_block is the target of a symlink.
func fastTarget(in ext.Inode) bool {
	return in.Type() == ext.ModeSymlink && in.Size() < ext.IBlockSize && in.Flags()&(ext.FlagExtents|ext.FlagInlineData) == 0
}

// hasMap tells whether i_block leads to blocks: of any type but devices, for that
// may be what is wrong.
func hasMap(in ext.Inode) bool {
	switch in.Type() {
	case ext.ModeChar, ext.ModeBlock:
		return false
	}
	return !fastTarget(in) && !inline(in)
}

// How many nodes of a file's tree are followed, and of all of them.
const (
	maxFileNodes = 1 << 12
	maxAllNodes  = 1 << 18
)

// mapInode finds the parts of a file that lie elsewhere.
func (c *comparison) mapInode(it *Inode, a, b ext.Inode) {
	it.mapped = true
	if fastTarget(a) && it.used[0] || fastTarget(b) && it.used[1] {
		var target [2]Name
		for i, in := range []ext.Inode{a, b} {
			if fastTarget(in) && it.used[i] {
				target[i] = Name(in.IBlock()[:in.Size()])
			}
		}
		if target[0] != target[1] {
			it.Target = &Target{target[0], target[1]}
		}
	}
	var files [2][]ext.Extent
	for i, in := range []ext.Inode{a, b} {
		if acl := in.FileACL(c.side[i].wide); acl != 0 && it.used[i] {
			c.owned[i].add(acl, 1, it.Inode)
		}
		if n := min(maxFileNodes, c.nodesLeft); it.used[i] && hasMap(in) && n > 0 {
			files[i] = c.side[i].reading.MapClaims(in, n)
			c.nodesLeft -= max(1, min(n, len(files[i])/4))
		}
	}
	for x := range compareMaps(files[0], files[1]) {
		if x.Old != 0 {
			c.owned[0].add(x.Old, x.Count, it.Inode)
		}
		if x.New != 0 {
			c.owned[1].add(x.New, x.Count, it.Inode)
		}
		if n := len(it.Map); n > 0 && it.Map[n-1].continues(&x) {
			it.Map[n-1].Count += x.Count
		} else if c.left > len(it.Map) {
			it.Map = append(it.Map, x)
		} else {
			c.d.Omitted["extents"]++
		}
	}
	if !it.used[0] && !it.used[1] && !bytes.Equal(a.IBlock(), b.IBlock()) {
		it.Rest = true
	}
	if len(it.Map) == 0 && it.Target == nil && (c.trees[it.Inode] || !bytes.Equal(a.IBlock(), b.IBlock())) {
		it.Rest = true // a device number, inline data, or a tree in another shape
	}
}

// continues tells whether next goes on where x ends, on both sides.
func (x *Extent) continues(next *Extent) bool {
	goesOn := func(at, then uint64) bool { return at == 0 && then == 0 || at != 0 && then == at+x.Count }
	return next.Logical == x.Logical+x.Count && goesOn(x.Old, next.Old) && goesOn(x.New, next.New) &&
		next.OldUnwritten == x.OldUnwritten && next.NewUnwritten == x.NewUnwritten
}
