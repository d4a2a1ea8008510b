package reduce

import (
	"context"
	"fmt"
)

// cutGroups cuts the filesystem to its first groups: to those that something is
// in, or to more of them.
func cutGroups(ctx context.Context, r *reducer) error {
	f, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	need := f.groupsInUse(t)
	r.large = ""
	if need > manyGroups {
		r.large = fmt.Sprintf("what is left lies in the first %d groups", need)
	}
	for groups := need; groups < f.geo.GroupCount; groups *= 2 {
		ok, err := r.try(ctx, f.cut(groups))
		if ok || err != nil {
			return err
		}
		if groups == need && f.geo.GroupCount > manyGroups {
			r.large = fmt.Sprintf("cut to %d groups, %s", groups, difference(r.want, r.last))
		}
	}
	return nil
}

// manyGroups is how many groups a small filesystem has.
const manyGroups = 16

// groupsInUse returns how many groups hold all that inodes claim.
func (f *filesystem) groupsInUse(t *tree) uint32 {
	g := f.geo
	last := uint32(0)
	for _, n := range t.nodes {
		group, _ := g.InodePlace(n.ino)
		last = max(last, group)
		for _, r := range n.runs {
			last = max(last, g.GroupOf(r.start+r.count-1))
		}
	}
	for group := range last + 1 { // and what these groups have elsewhere
		d := f.desc(group)
		for _, block := range []uint64{d.BlockBitmap(), d.InodeBitmap(), d.InodeTable() + uint64(g.TableBlocks) - 1} {
			if g.ValidBlock(block) {
				last = max(last, g.GroupOf(block))
			}
		}
	}
	return last + 1
}

// cut returns the change that leaves the first groups of the filesystem. What the
// others have in these groups (tables under flex_bg, descriptors) becomes free.
func (f *filesystem) cut(groups uint32) *change {
	g := f.geo
	e := f.edit()
	end := g.GroupFirstBlock(groups)
	freeBlocks, freeInodes, freed := int64(0), int64(0), uint64(0)
	for group := groups; group < g.GroupCount; group++ {
		d := f.desc(group)
		freeBlocks += count(d, bgFreeBlocksLo, bgFreeBlocksHi)
		freeInodes += count(d, bgFreeInodesLo, bgFreeInodesHi)
		for _, r := range []run{{d.BlockBitmap(), 1, 0}, {d.InodeBitmap(), 1, 0}, {d.InodeTable(), uint64(g.TableBlocks), 0}} {
			// Tables that do not overlap free at most end blocks. The bound is for
			// damaged descriptors that all name the same blocks.
			if g.ValidBlock(r.start) && r.start < end && freed < end {
				n := min(r.count, end-r.start)
				freed += n
				e.free(r.start, n, nil)
			}
		}
	}
	e.initBitmap(groups - 1) // the last group has to have a bitmap
	perBlock := g.DescsPerBlock()
	kept := (groups + perBlock - 1) / perBlock
	for group := range groups {
		if !g.HasSuper(group) {
			continue
		}
		if linear := g.LinearDescBlocks(); linear > kept && freed < 2*end {
			freed += uint64(linear - kept)
			e.free(g.SuperBlock(group)+1+uint64(kept), uint64(linear-kept), nil)
		}
	}
	sb := e.super()
	e.addFreeBlocks(-freeBlocks)
	le.PutUint32(sb[sbFreeInodes:], uint32(int64(le.Uint32(sb[sbFreeInodes:]))-freeInodes))
	le.PutUint32(sb[sbInodesCount:], groups*g.InodesPerGroup)
	e.setBlocks(end)
	if f.sb.HasCompat(compatSparse2) {
		for i := range 2 {
			if b := sb[sbBackupGroups+4*i:]; le.Uint32(b) >= groups {
				clear(b[:4])
			}
		}
	}
	return e.change()
}

// setBlocks sets how many blocks the filesystem has, and cuts the disk to them.
func (e *edit) setBlocks(end uint64) {
	sb := e.super()
	le.PutUint32(sb[sbBlocksLo:], uint32(end))
	clear(sb[sbReservedLo : sbReservedLo+4])
	clear(sb[sbOverhead : sbOverhead+4])
	if e.f.geo.DescSize > 32 {
		le.PutUint32(sb[sbBlocksHi:], uint32(end>>32))
		clear(sb[sbReservedHi : sbReservedHi+4])
	}
	e.size = int64(end) * int64(e.f.geo.BlockSize)
}

// count returns a number of a descriptor that may have a high half.
func count(d []byte, lo, hi int) int64 {
	v := int64(le.Uint16(d[lo:]))
	if len(d) >= 64 {
		v |= int64(le.Uint16(d[hi:])) << 16
	}
	return v
}

// cutBlocks cuts free blocks off the end of the last group.
func cutBlocks(ctx context.Context, r *reducer) error {
	f, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	g := f.geo
	group := g.GroupCount - 1
	first := g.GroupFirstBlock(group)
	e := f.edit()
	e.initBitmap(group)
	bitmap := e.blockBitmap(group)
	if bitmap == nil {
		return nil
	}
	clusters := uint32((g.BlocksCount - first) / f.ratio)
	used := clusters
	for used > 0 && bitmap[(used-1)/8]&(1<<((used-1)%8)) == 0 {
		used--
	}
	end := first + uint64(used)*f.ratio
	for _, n := range t.nodes { // what a wrong bitmap does not know of
		for _, r := range n.runs {
			end = max(end, r.start+r.count)
		}
	}
	// A last group needs room for its own tables, and 50 blocks more.
	end = max(end, first+g.GroupHead(group)+uint64(g.TableBlocks)+52)
	end = first + (end-first+f.ratio-1)/f.ratio*f.ratio
	if end >= g.BlocksCount {
		return nil
	}
	cut := int64((g.BlocksCount - end) / f.ratio)
	for bit := uint32((end - first) / f.ratio); bit < clusters; bit++ {
		bitmap[bit/8] |= 1 << (bit % 8)
	}
	add(e.desc(group), bgFreeBlocksLo, bgFreeBlocksHi, -cut)
	e.addFreeBlocks(-cut)
	e.setBlocks(end)
	_, err = r.try(ctx, e.change())
	return err
}
