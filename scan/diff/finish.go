package diff

import (
	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
)

// fill gives lists that are empty their form in JSON.
func (d *Diff) fill() {
	full(&d.Superblock)
	full(&d.Copies)
	full(&d.Groups)
	full(&d.BlockUse)
	full(&d.InodeUse)
	full(&d.Inodes)
	full(&d.Entries)
	full(&d.Indexes)
	full(&d.Symlinks)
	full(&d.Attributes)
	full(&d.Orphans)
	full(&d.Quota)
	full(&d.MMP)
	full(&d.Damage)
	full(&d.Runs)
	for _, it := range d.Inodes {
		full(&it.Fields)
	}
}

func full[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// name finds the paths of the inodes that the comparison speaks of. An inode has
// the path that it has in the second image, else that in the first.
func (c *comparison) name() {
	inodes, before := roaring.New(), roaring.New()
	want := func(ino uint32) {
		if ino != 0 {
			inodes.Add(ino)
		}
	}
	d := c.d
	for _, it := range d.Inodes {
		want(it.Inode)
	}
	for i := range d.Entries {
		want(d.Entries[i].Directory)
		before.Add(d.Entries[i].Directory)
		before.Add(d.Entries[i].OldDirectory)
	}
	for i := range d.BlockUse {
		if o := d.BlockUse[i].Owner; o != nil {
			want(o.Inode)
		}
	}
	for i := range d.InodeUse {
		if d.InodeUse[i].Count == 1 {
			want(d.InodeUse[i].Start)
		}
	}
	for i := range d.Indexes {
		want(d.Indexes[i].Directory)
	}
	for i := range d.Attributes {
		want(d.Attributes[i].Inode)
	}
	for i := range d.Orphans {
		want(d.Orphans[i].Inode)
	}
	c.side[1].resolve(inodes.ToArray())
	for it := inodes.Iterator(); it.HasNext(); {
		if ino := it.Next(); c.side[1].paths[ino] == "" {
			before.Add(ino)
		}
	}
	before.Remove(0)
	c.side[0].resolve(before.ToArray())
	for _, it := range d.Inodes {
		it.Path = c.path(it.Inode)
	}
	for i := range d.Entries {
		e := &d.Entries[i]
		e.Path = c.path(e.Directory)
		if e.What == Removed {
			e.Path = c.oldPath(e.Directory)
		}
		if e.OldDirectory != 0 {
			e.OldPath = c.oldPath(e.OldDirectory)
		}
	}
	for i := range d.BlockUse {
		if o := d.BlockUse[i].Owner; o != nil {
			o.Path = c.path(o.Inode)
		}
	}
	for i := range d.InodeUse {
		if d.InodeUse[i].Count == 1 {
			d.InodeUse[i].Path = c.path(d.InodeUse[i].Start)
		}
	}
	for i := range d.Indexes {
		d.Indexes[i].Path = c.path(d.Indexes[i].Directory)
	}
	for i := range d.Attributes {
		d.Attributes[i].Path = c.path(d.Attributes[i].Inode)
	}
	for i := range d.Orphans {
		d.Orphans[i].Path = c.path(d.Orphans[i].Inode)
	}
}

func (c *comparison) path(ino uint32) Name {
	if p := c.side[1].paths[ino]; p != "" {
		return p
	}
	return c.side[0].paths[ino]
}

func (c *comparison) oldPath(ino uint32) Name {
	if p := c.side[0].paths[ino]; p != "" {
		return p
	}
	return c.side[1].paths[ino]
}

// fold marks counters that only count what else differs.
func (c *comparison) fold() {
	dirs := make(map[uint32]int64) // by group: directories created, less those deleted
	geo := c.side[1].geo
	for _, it := range c.d.Inodes {
		if !geo.ValidInode(it.Inode) {
			continue
		}
		g, _ := geo.InodePlace(it.Inode)
		for i := range it.types {
			if it.used[i] && it.types[i] == ext.ModeDir {
				dirs[g] += int64(2*i - 1)
			}
		}
	}
	for i := range c.d.Groups {
		g := &c.d.Groups[i]
		foldCount(g.Fields, "bg_free_blocks_count", -c.clusters[g.Group])
		foldCount(g.Fields, "bg_free_inodes_count", -c.bits[g.Group])
		foldCount(g.Fields, "bg_used_dirs_count", dirs[g.Group])
		if c.bits[g.Group] != 0 {
			follow(g.Fields, "bg_itable_unused_lo", "bg_itable_unused_hi")
		}
		c.foldBitmapSums(g)
	}
	var clusters, inodes int64
	for _, n := range c.clusters {
		clusters += n
	}
	for _, n := range c.bits {
		inodes += n
	}
	if geo.BlockSize > 0 {
		foldCount(c.d.Superblock, "s_free_blocks_count", -clusters*int64(geo.ClusterSize/geo.BlockSize))
	}
	foldOne(c.d.Superblock, "s_free_inodes_count", -inodes)
	follow(c.d.Superblock, "s_kbytes_written")
}

// foldCount marks a counter in two halves that went up by delta.
func foldCount(list []Field, name string, delta int64) {
	if hi, _, _ := numbers(list, name+"_hi"); hi != nil {
		return // so large a change is worth a look
	}
	foldOne(list, name+"_lo", delta)
}

func foldOne(list []Field, name string, delta int64) {
	if f, old, now := numbers(list, name); f != nil && int64(now)-int64(old) == delta {
		f.Follows = true
	}
}

// foldBitmapSums marks the checksums of bitmaps of a group where they are right
// on both sides.
func (c *comparison) foldBitmapSums(g *Group) {
	var blocks, inodes [2]string
	for i, s := range c.side {
		d := s.desc(g.Group)
		if d == nil {
			return
		}
		blocks[i], inodes[i] = s.bitmapSums(g.Group, d)
	}
	if blocks[0] == sumRight && blocks[1] == sumRight {
		follow(g.Fields, "bg_block_bitmap_csum_lo", "bg_block_bitmap_csum_hi")
	}
	if inodes[0] == sumRight && inodes[1] == sumRight {
		follow(g.Fields, "bg_inode_bitmap_csum_lo", "bg_inode_bitmap_csum_hi")
	}
}

// bitmapSums returns the states of the checksums of the bitmaps of a group. One
// that was never initialised has none that could be wrong.
func (s *side) bitmapSums(g uint32, d ext.GroupDesc) (blocks, inodes string) {
	if !s.sumsOn {
		return sumNone, sumNone
	}
	trusts := s.trusts(g, d)
	blocks, inodes = sumWrong, sumWrong
	buf := make([]byte, s.geo.BlockSize)
	if n := s.geo.ClustersPerGroup() / 8; s.geo.ValidBlock(d.BlockBitmap()) && n <= s.geo.BlockSize {
		s.reading.ReadBlock(d.BlockBitmap(), buf)
		if trusts && d.Flags()&ext.BgBlockUninit != 0 || ext.VerifyBlockBitmap(s.seed, buf[:n], d) {
			blocks = sumRight
		}
	}
	if n := s.geo.InodesPerGroup / 8; s.geo.ValidBlock(d.InodeBitmap()) && n <= s.geo.BlockSize {
		s.reading.ReadBlock(d.InodeBitmap(), buf)
		if trusts && d.Flags()&ext.BgInodeUninit != 0 || ext.VerifyInodeBitmap(s.seed, buf[:n], d) {
			inodes = sumRight
		}
	}
	return blocks, inodes
}
