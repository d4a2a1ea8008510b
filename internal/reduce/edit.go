package reduce

import (
	"bytes"
	"math/bits"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
	"e2qcow/internal/zero"
)

// An edit is a change to a filesystem in the making. Checksums that were right
// before are right at the end; others stay as they are.
type edit struct {
	f      *filesystem
	blocks map[uint64][]byte // by number
	size   int64             // of the disk; 0 for as before
	err    error             // the first

	superRight    bool
	descRight     map[uint32]bool
	blockBitmaps  map[uint32]bool
	inodeBitmaps  map[uint32]bool
	inodes        map[uint32]bool
	dirs, extents map[uint64]owner // blocks with a right checksum
	xattrs        map[uint64]bool

	seed uint32   // of the checksums at the end
	uuid [16]byte // of the filesystem at the end
}

// An owner is the inode whose checksum seed a block has.
type owner struct{ ino, generation uint32 }

func (n *node) owner() owner { return owner{n.ino, n.inode.Generation()} }

// edit begins a change.
func (f *filesystem) edit() *edit {
	return &edit{
		f: f, blocks: map[uint64][]byte{}, superRight: f.csum && f.sb.ChecksumOK(),
		descRight: map[uint32]bool{}, blockBitmaps: map[uint32]bool{}, inodeBitmaps: map[uint32]bool{}, inodes: map[uint32]bool{},
		dirs: map[uint64]owner{}, extents: map[uint64]owner{}, xattrs: map[uint64]bool{},
		seed: f.seed, uuid: f.sb.UUID(),
	}
}

// remember enters whether the checksum of a structure was right when the edit first
// met the structure.
func remember[K comparable](met map[K]bool, k K, right func() bool) {
	if _, seen := met[k]; !seen {
		met[k] = right()
	}
}

// block returns a block, to be changed.
func (e *edit) block(n uint64) []byte {
	if b, ok := e.blocks[n]; ok {
		return b
	}
	b, err := e.f.block(n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.blocks[n] = b
	return b
}

// super returns the primary superblock, to be changed.
func (e *edit) super() []byte {
	bs := uint64(e.f.geo.BlockSize)
	return e.block(superblockOffset / bs)[superblockOffset%bs:][:ext.SuperblockSize]
}

// descSlice returns the descriptor of a group as it is in e.
func (e *edit) descSlice(group uint32) []byte {
	at := uint64(group) * uint64(e.f.geo.DescSize)
	bs := uint64(e.f.geo.BlockSize)
	return e.block(e.f.geo.DescBlock(0, uint32(at/bs)))[at%bs:][:e.f.geo.DescSize]
}

// desc returns the descriptor of a group, to be changed.
func (e *edit) desc(group uint32) []byte {
	d := e.descSlice(group)
	remember(e.descRight, group, func() bool { return e.f.sb.HasDescChecksums() && e.f.sb.DescChecksumOK(group, ext.GroupDesc(d)) })
	return d
}

// blockBitmap returns the block bitmap of a group, to be changed; nil where there
// is none to be believed.
func (e *edit) blockBitmap(group uint32) []byte {
	d := ext.GroupDesc(e.desc(group))
	if d.Flags()&bgBlockUninit != 0 && e.f.sb.HasDescChecksums() || !e.f.geo.ValidBlock(d.BlockBitmap()) {
		return nil
	}
	b := e.block(d.BlockBitmap())[:e.f.geo.ClustersPerGroup()/8]
	remember(e.blockBitmaps, group, func() bool { return e.f.csum && ext.VerifyBlockBitmap(e.f.seed, b, d) })
	return b
}

// isUninit reports whether a group has no block bitmap yet.
func (e *edit) isUninit(group uint32) bool {
	return ext.GroupDesc(e.desc(group)).Flags()&bgBlockUninit != 0 && e.f.sb.HasDescChecksums()
}

// initBitmap makes the block bitmap of a group that has none yet: what the
// filesystem itself has in the group is in use.
func (e *edit) initBitmap(group uint32) {
	g := e.f.geo
	if !e.isUninit(group) || !g.ValidBlock(ext.GroupDesc(e.desc(group)).BlockBitmap()) {
		return
	}
	d := e.desc(group)
	le.PutUint16(d[bgFlags:], le.Uint16(d[bgFlags:])&^bgBlockUninit)
	clear(e.block(ext.GroupDesc(d).BlockBitmap()))
	bitmap := e.blockBitmap(group)
	e.blockBitmaps[group] = e.f.csum
	first := g.GroupFirstBlock(group)
	left := 2 * uint64(g.BlocksPerGroup) // tables that do not overlap mark no more
	use := func(start, count uint64) {
		if !g.ValidBlock(start) {
			return
		}
		for block := max(start, first); block < start+count && block < first+uint64(g.BlocksPerGroup) && left > 0; block++ {
			left--
			_, bit := e.f.cluster(block)
			bitmap[bit/8] |= 1 << (bit % 8)
		}
	}
	use(first, g.GroupHead(group))
	for other := range g.GroupCount {
		d := e.f.desc(other)
		use(d.BlockBitmap(), 1)
		use(d.InodeBitmap(), 1)
		use(d.InodeTable(), uint64(g.TableBlocks))
	}
}

// inodeBitmap returns the inode bitmap of a group, to be changed; nil where there
// is none to be believed.
func (e *edit) inodeBitmap(group uint32) []byte {
	d := ext.GroupDesc(e.desc(group))
	if d.Flags()&bgInodeUninit != 0 && e.f.sb.HasDescChecksums() || !e.f.geo.ValidBlock(d.InodeBitmap()) {
		return nil
	}
	b := e.block(d.InodeBitmap())[:e.f.geo.InodesPerGroup/8]
	remember(e.inodeBitmaps, group, func() bool { return e.f.csum && ext.VerifyInodeBitmap(e.f.seed, b, d) })
	return b
}

// inode returns an inode, to be changed; nil where it has no place.
func (e *edit) inode(ino uint32) ext.Inode {
	off, ok := e.f.inodeOffset(ino)
	if !ok {
		return nil
	}
	bs := int64(e.f.geo.BlockSize)
	b := e.block(uint64(off / bs))[off%bs:][:e.f.geo.InodeSize]
	remember(e.inodes, ino, func() bool { return e.f.csum && ext.VerifyInode(e.f.seed, ino, b) })
	return ext.Inode(b)
}

// dirBlock returns a block of a directory, to be changed.
func (e *edit) dirBlock(n *node, block uint64) []byte {
	b := e.block(block)
	seed := ext.InodeSeed(e.f.seed, n.ino, n.inode.Generation())
	if _, seen := e.dirs[block]; !seen && e.f.csum && ext.VerifyDirBlock(seed, b) {
		e.dirs[block] = n.owner()
	}
	return b
}

// extentBlock returns a node of an extent tree, to be changed.
func (e *edit) extentBlock(n *node, block uint64) []byte {
	b := e.block(block)
	seed := ext.InodeSeed(e.f.seed, n.ino, n.inode.Generation())
	if _, seen := e.extents[block]; !seen && e.f.csum && ext.VerifyExtentBlock(seed, b) {
		e.extents[block] = n.owner()
	}
	return b
}

// xattrBlock returns an attribute block, to be changed.
func (e *edit) xattrBlock(block uint64) []byte {
	b := e.block(block)
	remember(e.xattrs, block, func() bool { return e.f.csum && ext.VerifyXattrBlock(e.f.seed, block, b) })
	return b
}

// add adds n to a number of 16 bits, and of 32 where a descriptor has a high half.
func add(d []byte, lo, hi int, n int64) {
	v := int64(le.Uint16(d[lo:]))
	if len(d) >= 64 {
		v |= int64(le.Uint16(d[hi:])) << 16
	}
	v += n
	le.PutUint16(d[lo:], uint16(v))
	if len(d) >= 64 {
		le.PutUint16(d[hi:], uint16(v>>16))
	}
}

// addFreeBlocks counts n more free clusters in the superblock, which counts
// blocks; descriptors count clusters.
func (e *edit) addFreeBlocks(n int64) {
	sb := e.super()
	v := int64(le.Uint32(sb[sbFreeBlocksLo:]))
	if e.f.geo.DescSize > 32 {
		v |= int64(le.Uint32(sb[sbFreeBlocksHi:])) << 32
	}
	v += n * int64(e.f.ratio)
	le.PutUint32(sb[sbFreeBlocksLo:], uint32(v))
	if e.f.geo.DescSize > 32 {
		le.PutUint32(sb[sbFreeBlocksHi:], uint32(v>>32))
	}
}

// free frees the bits of blocks, and counts those that were in use. The blocks of
// kept, which ascends, stay.
func (e *edit) free(start, count uint64, kept []ranges.Range[uint64]) {
	g := e.f.geo
	if start > g.BlocksCount || count > g.BlocksCount {
		return
	}
	at, end := max(start, uint64(g.FirstDataBlock)), min(start+count, g.BlocksCount)
	for i := ranges.Find(kept, at); at < end; {
		if i < len(kept) && kept[i].Start <= at {
			at = kept[i].End
			i++
			continue
		}
		group := g.GroupOf(at)
		to := min(end, g.GroupFirstBlock(group)+uint64(g.BlocksPerGroup))
		if i < len(kept) {
			to = min(to, kept[i].Start)
		}
		if n := e.freeIn(group, at, to); n > 0 {
			add(e.desc(group), bgFreeBlocksLo, bgFreeBlocksHi, n)
			e.addFreeBlocks(n)
		}
		at = to
	}
}

// freeIn clears the bits of the blocks from start to end of a group, and returns
// how many clusters were in use. A bitmap that is not there counts the copies of
// superblock and descriptors, with what is kept for these to grow.
func (e *edit) freeIn(group uint32, start, end uint64) (n int64) {
	first := e.f.geo.GroupFirstBlock(group)
	bitmap := e.blockBitmap(group)
	if bitmap == nil {
		if end = min(end, first+e.f.geo.GroupHead(group)); !e.isUninit(group) || start >= end {
			return 0
		}
		return int64((end-1-first)/e.f.ratio-(start-first)/e.f.ratio) + 1
	}
	bit, last := (start-first)/e.f.ratio, min((end-1-first)/e.f.ratio, uint64(len(bitmap))*8-1)
	for bit <= last {
		mask := byte(0xFF) << (bit % 8)
		if bit/8 == last/8 {
			mask &= 0xFF >> (7 - last%8)
		}
		n += int64(bits.OnesCount8(bitmap[bit/8] & mask))
		bitmap[bit/8] &^= mask
		bit = bit/8*8 + 8
	}
	return n
}

// freeInode frees the bit of an inode, and counts that.
func (e *edit) freeInode(n *node) {
	group, index := e.f.geo.InodePlace(n.ino)
	bitmap := e.inodeBitmap(group)
	if bitmap == nil || bitmap[index/8]&(1<<(index%8)) == 0 {
		return
	}
	bitmap[index/8] &^= 1 << (index % 8)
	add(e.desc(group), bgFreeInodesLo, bgFreeInodesHi, 1)
	if n.inode.Type() == ext.ModeDir {
		add(e.desc(group), bgUsedDirsLo, bgUsedDirsHi, -1)
	}
	sb := e.super()
	le.PutUint32(sb[sbFreeInodes:], le.Uint32(sb[sbFreeInodes:])+1)
}

// change returns what the edit changes, nil if it failed.
func (e *edit) change() *change {
	for ino, right := range e.inodes {
		if in := e.inode(ino); right && !zero.IsZero(in) {
			ext.SetInodeChecksum(in, ext.InodeChecksum(e.seed, ino, in))
		}
	}
	for block, o := range e.dirs {
		b := e.blocks[block]
		if sum, off, ok := ext.DirBlockChecksum(ext.InodeSeed(e.seed, o.ino, o.generation), b); ok {
			le.PutUint32(b[off:], sum)
		}
	}
	for block, o := range e.extents {
		b := e.blocks[block]
		if sum, ok := ext.ExtentBlockChecksum(ext.InodeSeed(e.seed, o.ino, o.generation), b); ok {
			le.PutUint32(ext.ExtentChecksumField(b), sum)
		}
	}
	for block, right := range e.xattrs {
		if b := e.blocks[block]; right {
			ext.SetXattrBlockChecksum(b, ext.XattrBlockChecksum(e.seed, block, b))
		}
	}
	e.sumBitmaps()
	for group, right := range e.descRight {
		if !right {
			continue
		}
		d := e.descSlice(group)
		var sum uint16
		if e.f.csum {
			sum = ext.GroupDescChecksum(e.seed, group, d)
		} else {
			sum = ext.GroupDescChecksum16(e.uuid[:], group, d)
		}
		le.PutUint16(d[bgChecksum:], sum)
	}
	if sb := e.super(); e.superRight {
		le.PutUint32(sb[sbChecksum:], ext.SuperblockChecksum(sb))
	}
	if e.err != nil {
		return nil
	}
	return e.pages()
}

// sumBitmaps sets the checksums of bitmaps in their descriptors.
func (e *edit) sumBitmaps() {
	set := func(group uint32, bitmap []byte, lo, hi int) {
		d := e.descSlice(group)
		sum := ext.CRC32C(e.seed, bitmap)
		le.PutUint16(d[lo:], uint16(sum))
		if len(d) >= hi+2 {
			le.PutUint16(d[hi:], uint16(sum>>16))
		}
	}
	for group, right := range e.blockBitmaps {
		if right {
			set(group, e.blockBitmap(group), bgBlockBitmapSum, bgBlockSumHi)
		}
	}
	for group, right := range e.inodeBitmaps {
		if right {
			set(group, e.inodeBitmap(group), bgInodeBitmapSum, bgInodeSumHi)
		}
	}
}

// pages returns the pages of the blocks that differ from the disk.
func (e *edit) pages() *change {
	c := &change{pages: map[int64][]byte{}, size: e.size}
	bs := int64(e.f.geo.BlockSize)
	for n, b := range e.blocks {
		old, err := e.f.block(n)
		if err != nil {
			return nil
		}
		for at := int64(0); at < bs; at += page {
			if !bytes.Equal(old[at:at+page], b[at:at+page]) {
				c.pages[(int64(n)*bs+at)/page] = bytes.Clone(b[at : at+page])
			}
		}
	}
	return c
}
