package diff

import (
	"fmt"
	"maps"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// compareBitmaps compares what the bitmaps of groups say: of those with a block
// that differs, or whose descriptor says something else of them.
func (c *comparison) compareBitmaps() error {
	if len(c.bitmapBlocks) > 0 {
		for _, s := range c.side {
			for g, d := range s.eachDesc {
				if c.bitmapBlocks[d.BlockBitmap()] || c.bitmapBlocks[d.InodeBitmap()] {
					c.suspects[g] = true
				}
			}
		}
	}
	var uses []BlockUse
	for _, g := range slices.Sorted(maps.Keys(c.suspects)) {
		if err := c.ctx.Err(); err != nil {
			return fmt.Errorf("comparing the filesystems: %w", err)
		}
		var blocks, inodes [2][]byte
		for i, s := range c.side {
			if d := s.desc(g); d != nil {
				blocks[i], inodes[i] = s.blockBitmap(g, d), s.inodeBitmap(g, d)
			}
		}
		uses = c.compareBlockBits(g, blocks, uses)
		c.compareInodeBits(g, inodes)
	}
	return c.own(uses)
}

// compareBlockBits appends what became of the blocks of a group.
func (c *comparison) compareBlockBits(g uint32, bits [2][]byte, uses []BlockUse) []BlockUse {
	geo := c.side[1].geo
	if bits[0] == nil || bits[1] == nil || geo.ClusterSize != c.side[0].geo.ClusterSize || geo.BlocksPerGroup != c.side[0].geo.BlocksPerGroup {
		return uses
	}
	ratio := uint64(geo.ClusterSize / geo.BlockSize)
	first := geo.GroupFirstBlock(g)
	clusters := int((min(uint64(geo.BlocksPerGroup), geo.BlocksCount-min(first, geo.BlocksCount)) + ratio - 1) / ratio)
	for start, end := range bitRuns(bits, clusters) {
		used := bit(bits[1], start)
		c.clusters[g] += sign(used) * int64(end-start)
		u := BlockUse{Group: g, Start: first + uint64(start)*ratio, Count: uint64(end-start) * ratio, Used: used}
		u.Count = min(u.Count, geo.BlocksCount-u.Start)
		if c.room("block_use", 1) {
			uses = append(uses, u)
		}
	}
	return uses
}

func (c *comparison) compareInodeBits(g uint32, bits [2][]byte) {
	geo := c.side[1].geo
	if bits[0] == nil || bits[1] == nil || geo.InodesPerGroup != c.side[0].geo.InodesPerGroup {
		return
	}
	for start, end := range bitRuns(bits, int(geo.InodesPerGroup)) {
		used := bit(bits[1], start)
		c.bits[g] += sign(used) * int64(end-start)
		first := uint64(g)*uint64(geo.InodesPerGroup) + uint64(start) + 1
		if first < 1<<32 && c.room("inode_use", 1) {
			c.d.InodeUse = append(c.d.InodeUse, InodeUse{Group: g, Start: uint32(first), Count: uint32(end - start), Used: used})
		}
	}
}

func sign(used bool) int64 {
	if used {
		return 1
	}
	return -1
}

func bit(b []byte, i int) bool { return b[i/8]>>(i%8)&1 != 0 }

// bitRuns yields the runs of the first n bits that differ, each in one
// direction.
func bitRuns(bits [2][]byte, n int) func(yield func(start, end int) bool) {
	a, b := bits[0], bits[1]
	n = min(n, 8*len(a), 8*len(b))
	return func(yield func(start, end int) bool) {
		for i := 0; i < n; {
			if i%8 == 0 && a[i/8] == b[i/8] {
				i += 8
				continue
			}
			if bit(a, i) == bit(b, i) {
				i++
				continue
			}
			start, used := i, bit(b, i)
			for i++; i < n && bit(a, i) != bit(b, i) && bit(b, i) == used; i++ {
			}
			if !yield(start, i) {
				return
			}
		}
	}
}

// blockBitmap returns the block bitmap of a group, as the kernel takes it: one
// that was never initialised has the group's own metadata as used. It is nil
// where there is none.
func (s *side) blockBitmap(g uint32, d ext.GroupDesc) []byte {
	buf := make([]byte, s.geo.BlockSize)
	if !s.trusts(g, d) || d.Flags()&ext.BgBlockUninit == 0 {
		if !s.geo.ValidBlock(d.BlockBitmap()) {
			return nil
		}
		s.reading.ReadBlock(d.BlockBitmap(), buf)
		return buf
	}
	ratio := uint64(s.geo.ClusterSize / s.geo.BlockSize)
	first := s.geo.GroupFirstBlock(g)
	set := func(start, n uint64) {
		for b := start; b < start+n; b++ {
			if i := (b - first) / ratio; b >= first && i < uint64(8*len(buf)) && i < uint64(s.geo.ClustersPerGroup()) {
				buf[i/8] |= 1 << (i % 8)
			}
		}
	}
	set(first, s.geo.GroupHead(g))
	set(d.BlockBitmap(), 1)
	set(d.InodeBitmap(), 1)
	set(d.InodeTable(), uint64(s.geo.TableBlocks))
	return buf
}

// inodeBitmap returns the inode bitmap of a group, nil where there is none. One
// that was never initialised has all inodes as free.
func (s *side) inodeBitmap(g uint32, d ext.GroupDesc) []byte {
	buf := make([]byte, s.geo.BlockSize)
	if s.trusts(g, d) && d.Flags()&ext.BgInodeUninit != 0 {
		return buf
	}
	if !s.geo.ValidBlock(d.InodeBitmap()) {
		return nil
	}
	s.reading.ReadBlock(d.InodeBitmap(), buf)
	return buf
}

// own tells whose the blocks are that became used or free. What no inode that
// differs explains is looked for in a second scan.
func (c *comparison) own(uses []BlockUse) error {
	for i, s := range c.side {
		var missing ranges
		for _, u := range c.split(uses) {
			if u.Used == (i == 1) && u.Owner == nil {
				missing.add(u.Start, u.Count, 0)
			}
		}
		for _, a := range c.d.Attributes {
			if ino, _ := c.owned[i].find(a.Block); ino == 0 && s.has(scan.Xattr, a.Block) {
				missing.add(a.Block, 1, 0)
			}
		}
		if len(missing.list) == 0 {
			continue
		}
		found, err := s.search(c.ctx, &missing, c.opt.Scan)
		if err != nil {
			return err
		}
		for _, r := range found {
			c.owned[i].add(r.start, r.count, r.ino)
		}
	}
	for k := range c.d.Attributes {
		a := &c.d.Attributes[k]
		for i := range c.side {
			if ino, _ := c.owned[i].find(a.Block); ino != 0 {
				a.Inode = ino
			}
		}
	}
	c.d.BlockUse = c.split(uses)
	return nil
}

// maxLookups bounds for how many blocks the owner is looked up.
const maxLookups = 1 << 20

// split cuts runs of blocks where their owner changes.
func (c *comparison) split(uses []BlockUse) (list []BlockUse) {
	lookups := maxLookups
	for _, u := range uses {
		i := 0
		if u.Used {
			i = 1
		}
		for u.Count > 0 && len(list) < len(uses)+c.left {
			owner, end := (*Owner)(nil), u.Start+u.Count
			if lookups > 0 {
				owner, end = c.owner(i, u.Start, end, &lookups)
			}
			part := u
			part.Count, part.Owner = end-u.Start, owner
			list = append(list, part)
			u.Start, u.Count = end, u.Count-part.Count
		}
	}
	return list
}

// owner returns who has a block on one side, nil where that is not known, and
// where, up to last, another owner begins.
func (c *comparison) owner(i int, block, last uint64, left *int) (*Owner, uint64) {
	ino, end := c.owned[i].find(block)
	end = min(end, last)
	if ino != 0 {
		return &Owner{Inode: ino}, end
	}
	first := c.keeper(i, block)
	next := block + 1
	for *left--; next < end && *left > 0 && c.keeper(i, next) == first; next++ {
		*left--
	}
	if first == (Owner{}) {
		return nil, next
	}
	return &first, next
}

// keeper returns who has a block of metadata, as the scan found it.
func (c *comparison) keeper(i int, block uint64) (o Owner) {
	s := c.side[i]
	o.Kind = s.kinds(block).first()
	for _, list := range [][]owned{s.index.dirs.of(block), s.index.nodes.of(block)} {
		if len(list) > 0 {
			o.Inode = list[0].ino
			break
		}
	}
	if o == (Owner{}) && s.reserved(block) {
		o.Kind = "reserved " + scan.GroupDescs.String()
	}
	return o
}

// reserved tells whether a block lies where the descriptor table may grow.
func (s *side) reserved(block uint64) bool {
	if block < uint64(s.geo.FirstDataBlock) || s.geo.GroupCount == 0 {
		return false
	}
	g := s.geo.GroupOf(block)
	return block-s.geo.GroupFirstBlock(g) < s.geo.GroupHead(g)
}
