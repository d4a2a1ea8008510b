package diff

import (
	"e2qcow/ext"
	"e2qcow/scan"
)

// superblock compares a superblock: the primary, or a copy.
func (c *comparison) superblock(p *pair) {
	off := 0
	primary := uint64(ext.SuperblockOffset) / uint64(c.d.BlockSize)
	if p.block == primary {
		off = ext.SuperblockOffset % int(c.d.BlockSize)
	}
	var part [2][]byte
	for i := range part {
		if off+ext.SuperblockSize > len(p.data[i]) {
			return
		}
		part[i] = p.data[i][off : off+ext.SuperblockSize]
	}
	fields := compareFields(ext.SuperblockFields, part[0], part[1], "")
	if len(fields) == 0 {
		return
	}
	old, now := superSum(part[0]), superSum(part[1])
	if old != sumWrong && now != sumWrong {
		follow(fields, "s_checksum")
	}
	if p.block == primary {
		c.d.Superblock = fields
		return
	}
	if c.room("copies", 1+len(fields)) {
		c.d.Copies = append(c.d.Copies, Copy{scan.Superblock.String(), p.block, c.side[1].geo.GroupOf(p.block), fields})
	}
}

// superSum returns the state of a superblock's checksum.
func superSum(b []byte) string {
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		return sumNone
	}
	return sumState(sb.HasRoCompat(ext.RoCompatMetadataCsum), ext.VerifySuperblock(b))
}

// descriptors compares a block of the descriptor table, or of a copy of it.
func (c *comparison) descriptors(p *pair) {
	var first [2]uint32
	var is [2]bool
	for i, s := range c.side {
		first[i], is[i] = s.descBlock(p.block)
	}
	size := c.side[0].geo.DescSize
	if !is[0] && !is[1] || is[0] && is[1] && (first[0] != first[1] || size != c.side[1].geo.DescSize) {
		if c.room("copies", 1) {
			c.d.Copies = append(c.d.Copies, Copy{Kind: scan.GroupDescs.String(), Block: p.block, Group: c.side[1].geo.GroupOf(p.block)})
		}
		return
	}
	start := first[0]
	if !is[0] {
		start, size = first[1], c.side[1].geo.DescSize
	}
	for k := uint32(0); (k+1)*size <= c.d.BlockSize; k++ {
		a, b := p.data[0][k*size:(k+1)*size], p.data[1][k*size:(k+1)*size]
		fields := compareFields(ext.GroupDescFields, a, b, "")
		group := start + k
		if len(fields) == 0 || group < start {
			continue
		}
		old := sumState(c.side[0].super.HasDescChecksums(), c.side[0].super.DescChecksumOK(group, a))
		now := sumState(c.side[1].super.HasDescChecksums(), c.side[1].super.DescChecksumOK(group, b))
		if old == now && now != sumWrong {
			follow(fields, "bg_checksum")
		}
		c.suspect(group, fields)
		if c.room("groups", 1+len(fields)) {
			c.d.Groups = append(c.d.Groups, Group{group, fields, sumsOf(old, now)})
		}
	}
}

// suspect notes what a descriptor that differs means for bitmaps and tables.
func (c *comparison) suspect(group uint32, fields []Field) {
	for _, name := range []string{"bg_flags", "bg_block_bitmap_lo", "bg_block_bitmap_hi", "bg_inode_bitmap_lo", "bg_inode_bitmap_hi"} {
		if f, _, _ := numbers(fields, name); f != nil {
			c.suspects[group] = true
		}
	}
	for _, name := range []string{"bg_inode_table_lo", "bg_inode_table_hi"} {
		if f, _, _ := numbers(fields, name); f != nil {
			c.movedTables = append(c.movedTables, group)
			return
		}
	}
}

// descBlock returns the group that a block of the primary descriptor table begins
// with; false where the block is none.
func (s *side) descBlock(block uint64) (first uint32, ok bool) {
	if s.descs == nil {
		s.descs = make(map[uint64]uint32)
		per := s.geo.DescsPerBlock()
		const most = 1 << 20 // blocks
		for i := uint32(0); per > 0 && i < s.geo.DescBlocks && uint64(i)*uint64(per) < uint64(s.groups()) && i < most; i++ {
			s.descs[s.geo.DescBlock(0, i)] = i * per
		}
	}
	first, ok = s.descs[block]
	return first, ok
}
