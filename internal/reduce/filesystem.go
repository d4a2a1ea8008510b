package reduce

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/internal/zero"
)

var le = binary.LittleEndian

// Offsets in struct ext4_super_block.
const (
	sbInodesCount    = 0x00
	sbBlocksLo       = 0x04
	sbReservedLo     = 0x08
	sbFreeBlocksLo   = 0x0C
	sbFreeInodes     = 0x10
	sbCompat         = 0x5C
	sbIncompat       = 0x60
	sbRoCompat       = 0x64
	sbUUID           = 0x68
	sbReservedGDT    = 0xCE
	sbJournalInode   = 0xE0
	sbJournalBackup  = 0xFD
	sbJournalBlocks  = 0x10C
	sbBlocksHi       = 0x150
	sbReservedHi     = 0x154
	sbFreeBlocksHi   = 0x158
	sbMMPBlock       = 0x168
	sbUserQuota      = 0x240
	sbGroupQuota     = 0x244
	sbOverhead       = 0x248
	sbBackupGroups   = 0x24C
	sbProjectQuota   = 0x26C
	sbOrphanFile     = 0x280
	sbChecksum       = 0x3FC
	superblockOffset = 1024
)

// Offsets in struct ext4_group_desc.
const (
	bgFreeBlocksLo   = 0x0C
	bgFreeInodesLo   = 0x0E
	bgUsedDirsLo     = 0x10
	bgFlags          = 0x12
	bgBlockBitmapSum = 0x18
	bgInodeBitmapSum = 0x1A
	bgChecksum       = 0x1E
	bgFreeBlocksHi   = 0x2C
	bgFreeInodesHi   = 0x2E
	bgUsedDirsHi     = 0x30
	bgBlockSumHi     = 0x38
	bgInodeSumHi     = 0x3A
	bgInodeUninit    = 1
	bgBlockUninit    = 2
)

// Features that passes look at or switch off.
const (
	compatJournal     = 0x4
	compatResizeInode = 0x10
	compatOrphanFile  = 0x1000
	compatFastCommit  = 0x400
	compatSparse2     = 0x200
	incompatRecover   = 0x4
	incompatMMP       = 0x100
	incompatSeed      = 0x2000
	roCompatQuota     = 0x100
	roCompatBigalloc  = 0x200
	roCompatProject   = 0x2000
	roCompatOrphans   = 0x10000
	roCompatCsum      = 0x400
)

// Inodes that are reserved.
const (
	rootInode      = 2
	userQuotaInode = 3
	resizeInode    = 7
	journalInode   = 8
)

// A filesystem is the layout of the filesystem on a disk.
type filesystem struct {
	d     *disk
	sb    *ext.Superblock
	geo   *ext.Geometry
	seed  uint32
	csum  bool   // metadata_csum
	ratio uint64 // blocks of a cluster
	descs []byte // the whole table
}

// maxDescs bounds the descriptor table, in bytes.
const maxDescs = 256 << 20

// errNoLayout says that the structure of the filesystem cannot be followed: only
// blocks are zeroed then.
var errNoLayout = errors.New("no layout")

// open reads the layout of the filesystem on the disk.
func (d *disk) open() (*filesystem, error) {
	b := make([]byte, ext.SuperblockSize)
	if _, err := d.ReadAt(b, superblockOffset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		return nil, errNoLayout
	}
	geo, err := sb.Geometry()
	if err != nil || uint64(geo.GroupCount)*uint64(geo.DescSize) > maxDescs || geo.DescSize < 32 {
		return nil, errNoLayout
	}
	f := &filesystem{
		d: d, sb: sb, geo: geo, seed: sb.ChecksumSeed(), csum: sb.HasRoCompat(roCompatCsum),
		ratio: max(uint64(geo.ClusterSize/geo.BlockSize), 1),
	}
	for i := range geo.DescBlocks {
		block, err := f.block(geo.DescBlock(0, i))
		if err != nil {
			return nil, err
		}
		f.descs = append(f.descs, block...)
	}
	if len(f.descs) < int(geo.GroupCount)*int(geo.DescSize) {
		return nil, errNoLayout
	}
	return f, nil
}

// block reads a block. Behind the end all is zero.
func (f *filesystem) block(n uint64) ([]byte, error) {
	b := make([]byte, f.geo.BlockSize)
	if n > uint64(f.d.size)/uint64(f.geo.BlockSize) {
		return b, nil
	}
	_, err := f.d.ReadAt(b, int64(n)*int64(f.geo.BlockSize))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

// desc returns the descriptor of a group.
func (f *filesystem) desc(group uint32) ext.GroupDesc {
	at := int(group) * int(f.geo.DescSize)
	return ext.GroupDesc(f.descs[at : at+int(f.geo.DescSize)])
}

// inodeOffset returns where an inode lies, in bytes.
func (f *filesystem) inodeOffset(ino uint32) (off int64, ok bool) {
	if !f.geo.ValidInode(ino) {
		return 0, false
	}
	group, index := f.geo.InodePlace(ino)
	table := f.desc(group).InodeTable()
	if !f.geo.ValidBlock(table) || !f.geo.ValidBlock(table+uint64(f.geo.TableBlocks)-1) {
		return 0, false
	}
	return int64(table)*int64(f.geo.BlockSize) + int64(index)*int64(f.geo.InodeSize), true
}

// cluster returns the group and the bit of a block in the block bitmap.
func (f *filesystem) cluster(block uint64) (group uint32, bit uint32) {
	group = f.geo.GroupOf(block)
	return group, uint32((block - f.geo.GroupFirstBlock(group)) / f.ratio)
}

// A run is a run of blocks of an inode; of the filesystem itself if the inode is
// 0.
type run struct {
	start, count uint64
	ino          uint32
}

// A dirent is an entry of a directory.
type dirent struct {
	ino   uint32
	block uint64
	off   int    // in the block
	name  string // "." and ".." too
}

// A node is an inode that says something.
type node struct {
	ino     uint32
	inode   ext.Inode
	runs    []run
	trees   []uint64 // blocks of the extent tree
	entries []dirent // of a directory
	xattr   uint64   // the attribute block; 0 for none
	broken  bool     // the map of its blocks contradicts itself
	read    int      // blocks of the map that were read
}

// A tree is all that the inodes of a filesystem say.
type tree struct {
	nodes  []*node // by number
	byIno  map[uint32]*node
	parent map[uint32]uint32
	shared []run // blocks that are claimed more than once

	first   uint32          // inode that a user may have made
	special map[uint32]bool // inodes that the superblock names
}

// Bounds of a survey.
const (
	maxNodes   = 8 << 20 // inodes
	maxRuns    = 16 << 20
	maxEntries = 16 << 20
	maxDepth   = 5

	maxMapBlocks = 8 << 20 // that the map of one inode names
)

// survey reads all inodes, their maps, and the entries of directories.
func (f *filesystem) survey() (*tree, error) {
	t := &tree{byIno: map[uint32]*node{}, parent: map[uint32]uint32{}, first: f.firstInode(), special: f.isSpecial()}
	runs, entries := 0, 0
	err := f.eachInode(func(ino uint32, b []byte) error {
		if len(t.nodes) == maxNodes || runs > maxRuns || entries > maxEntries {
			return errNoLayout
		}
		n := &node{ino: ino, inode: slices.Clone(ext.Inode(b))}
		if err := f.mapNode(n); err != nil {
			return err
		}
		if n.inode.Type() == ext.ModeDir {
			if err := f.readEntries(n); err != nil {
				return err
			}
		}
		runs, entries = runs+len(n.runs), entries+len(n.entries)
		t.nodes = append(t.nodes, n)
		t.byIno[ino] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range t.nodes {
		for _, e := range n.entries {
			if _, known := t.parent[e.ino]; !known && e.name != "." && e.name != ".." && e.ino != n.ino {
				t.parent[e.ino] = n.ino
			}
		}
	}
	t.shared = f.sharedBlocks(t)
	return t, nil
}

// eachInode calls do with each inode that is not zero.
func (f *filesystem) eachInode(do func(ino uint32, b []byte) error) error {
	snap := f.d.image()
	size := int64(f.geo.InodeSize)
	buf := make([]byte, 256*size)
	for group := range f.geo.GroupCount {
		start, ok := f.inodeOffset(group*f.geo.InodesPerGroup + 1)
		if !ok {
			continue
		}
		end := start + int64(f.geo.InodesPerGroup)*size
		for off := start; off < end; {
			from, to, err := snap.NextRun(off)
			if err != nil || from >= end {
				break
			}
			from = start + (from-start)/size*size
			to = min(start+(min(to, end)-start+size-1)/size*size, end)
			for ; from < to; from += int64(len(buf)) {
				b := buf[:min(int64(len(buf)), to-from)]
				if _, err := f.d.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				for at := int64(0); at < int64(len(b)); at += size {
					in := ext.Inode(b[at : at+size])
					ino := group*f.geo.InodesPerGroup + uint32((from+at-start)/size) + 1
					if zero.IsZero(in) {
						continue
					}
					if err := do(ino, in); err != nil {
						return err
					}
				}
			}
			off = to
		}
	}
	return nil
}

// claim adds a run of blocks to a node, unless the run is impossible.
func (f *filesystem) claim(n *node, start, count uint64) {
	if count == 0 || !f.geo.ValidBlock(start) || count > f.geo.BlocksCount || !f.geo.ValidBlock(start+count-1) {
		n.broken = true
		return
	}
	n.runs = append(n.runs, run{start, count, n.ino})
}

// mapNode finds the blocks of a node.
func (f *filesystem) mapNode(n *node) error {
	in := n.inode
	if acl := in.FileACL(f.geo.DescSize > 32); acl != 0 {
		n.xattr = acl
		f.claim(n, acl, 1)
	}
	switch {
	case in.Flags()&ext.FlagInlineData != 0:
		return nil
	case in.Type() == ext.ModeRegular, in.Type() == ext.ModeDir, n.ino == resizeInode:
	case in.Type() == ext.ModeSymlink && in.SymlinkTarget(f.geo.DescSize > 32, f.geo.ClusterSize) == ext.TargetInBlock:
	default:
		return nil
	}
	if in.Flags()&ext.FlagExtents != 0 {
		return f.mapExtents(n, ext.ExtentNode(in.IBlock()), maxDepth)
	}
	return f.mapIndirect(n)
}

// mapExtents walks an extent tree of at most depth levels below the root.
func (f *filesystem) mapExtents(n *node, e ext.ExtentNode, depth int) error {
	if !e.Sound() || e.Depth() > depth {
		n.broken = true
		return nil
	}
	_, count := e.Count()
	for i := range count {
		if e.Depth() == 0 {
			x := e.Extent(i)
			f.claim(n, x.Start, uint64(x.Len))
			continue
		}
		child, _ := e.Index(i)
		f.claim(n, child, 1)
		if n.read++; n.read > maxMapBlocks || !f.geo.ValidBlock(child) {
			n.broken = true
			return nil
		}
		n.trees = append(n.trees, child)
		b, err := f.block(child)
		if err != nil {
			return err
		}
		if err := f.mapExtents(n, ext.ExtentNode(b), e.Depth()-1); err != nil {
			return err
		}
	}
	return nil
}

// mapIndirect walks the indirect blocks of a node.
func (f *filesystem) mapIndirect(n *node) error {
	for i := range ext.IBlockCount {
		nr := n.inode.BlockNr(i)
		if nr == 0 {
			continue
		}
		if err := f.mapBelow(n, uint64(nr), max(i-ext.NDirBlocks+1, 0)); err != nil {
			return err
		}
	}
	return nil
}

// mapBelow claims a block, and what is below it if it is an indirect block of
// that level.
func (f *filesystem) mapBelow(n *node, block uint64, level int) error {
	if last := len(n.runs) - 1; last >= 0 && block != 0 && n.runs[last].start+n.runs[last].count == block && f.geo.ValidBlock(block) {
		n.runs[last].count++
	} else {
		f.claim(n, block, 1)
	}
	if n.read++; level == 0 || n.broken || n.read > maxMapBlocks {
		return nil
	}
	b, err := f.block(block)
	if err != nil {
		return err
	}
	for ; len(b) >= 4; b = b[4:] {
		if nr := le.Uint32(b); nr != 0 {
			if err := f.mapBelow(n, uint64(nr), level-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// readEntries reads the entries of a directory that has blocks.
func (f *filesystem) readEntries(n *node) error {
	trees := map[uint64]bool{n.xattr: true}
	for _, t := range n.trees {
		trees[t] = true
	}
	bs := int(f.geo.BlockSize)
	for _, r := range n.runs {
		for block := r.start; block < r.start+r.count; block++ {
			if trees[block] {
				continue
			}
			b, err := f.block(block)
			if err != nil {
				return err
			}
			for off := 0; off+8 <= bs; {
				recLen := ext.RecLen(le.Uint16(b[off+4:]), bs)
				nameLen := int(b[off+6])
				if recLen < 8 || recLen%4 != 0 || off+recLen > bs || 8+nameLen > recLen {
					if !zero.IsZero(b) {
						n.broken = true
					}
					break
				}
				if ino := le.Uint32(b[off:]); ino != 0 && len(n.entries) < maxEntries {
					n.entries = append(n.entries, dirent{ino, block, off, string(b[off+8 : off+8+nameLen])})
				}
				off += recLen
			}
		}
	}
	return nil
}

// sharedBlocks returns the blocks that two claim.
func (f *filesystem) sharedBlocks(t *tree) []run {
	var all []run
	g := f.geo
	add := func(start, count uint64) {
		if count > 0 && g.ValidBlock(start) && g.ValidBlock(start+count-1) {
			all = append(all, run{start, count, 0})
		}
	}
	for group := range g.GroupCount {
		if g.HasSuper(group) {
			add(g.SuperBlock(group), 1+uint64(g.LinearDescBlocks()))
		}
		d := f.desc(group)
		add(d.BlockBitmap(), 1)
		add(d.InodeBitmap(), 1)
		add(d.InodeTable(), uint64(g.TableBlocks))
	}
	for _, n := range t.nodes {
		all = append(all, n.runs...)
	}
	slices.SortFunc(all, func(a, b run) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	var shared []run
	end := uint64(0)
	for _, r := range all {
		if r.start < end {
			shared = append(shared, run{start: r.start, count: min(end, r.start+r.count) - r.start})
		}
		end = max(end, r.start+r.count)
	}
	return shared
}

// isShared reports whether more than one claims the block.
func (t *tree) isShared(block uint64) bool {
	i, _ := slices.BinarySearchFunc(t.shared, block, func(r run, block uint64) int {
		switch {
		case r.start+r.count <= block:
			return -1
		case r.start > block:
			return 1
		}
		return 0
	})
	return i < len(t.shared) && t.shared[i].start <= block && block < t.shared[i].start+t.shared[i].count
}
