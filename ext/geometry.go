package ext

import "fmt"

// A Geometry contains the places and sizes in a superblock, checked: no value
// overflows in the arithmetic here and in callers.
type Geometry struct {
	BlockSize      uint32 // bytes
	ClusterSize    uint32 // bytes; BlockSize without bigalloc
	BlocksCount    uint64 // blocks of the filesystem
	FirstDataBlock uint32 // block that group 0 begins with
	BlocksPerGroup uint32
	InodesCount    uint32
	InodesPerGroup uint32
	InodeSize      uint32 // bytes
	FirstInode     uint32 // first inode that is not reserved
	DescSize       uint32 // bytes of a group descriptor
	GroupCount     uint32
	TableBlocks    uint32 // blocks of one group's inode table
	DescBlocks     uint32 // blocks of the whole descriptor table

	// ReservedDescBlocks is how many blocks behind each linear copy of the
	// table are kept for it to grow.
	ReservedDescBlocks uint32

	firstMetaBg  uint32 // descriptor blocks before this one lie behind the superblock
	backupGroups [2]uint32
	sparse       sparseKind
}

type sparseKind uint8

const (
	everyGroup sparseKind = iota
	sparseSuper
	sparseSuper2
)

// Geometry checks the values of a superblock and derives the places of the
// other structures. It returns an error only for values with which nothing can
// be found; Verify is stricter. The error is a *CorruptError.
func (sb *Superblock) Geometry() (*Geometry, error) {
	bad := func(field string, v any) (*Geometry, error) {
		return nil, &CorruptError{What: fmt.Sprintf("superblock: impossible %s %v", field, v)}
	}
	g := &Geometry{
		BlockSize:      sb.BlockSize(),
		BlocksCount:    sb.BlocksCount(),
		FirstDataBlock: sb.d.SFirstDataBlock,
		BlocksPerGroup: sb.d.SBlocksPerGroup,
		InodesCount:    sb.d.SInodesCount,
		InodesPerGroup: sb.d.SInodesPerGroup,
		InodeSize:      uint32(sb.d.SInodeSize),
		FirstInode:     sb.d.SFirstIno,
		DescSize:       minDescSize,
		backupGroups:   sb.d.SBackupBgs,
		sparse:         everyGroup,
	}
	if g.BlockSize == 0 {
		return bad("s_log_block_size", sb.d.SLogBlockSize)
	}
	g.ClusterSize = g.BlockSize
	if sb.HasIncompat(IncompatJournalDev) {
		// No groups, no inodes: a superblock and a journal.
		g.BlocksPerGroup, g.InodesPerGroup, g.GroupCount = 8*g.BlockSize, 8*g.BlockSize, 0
		return g, nil
	}
	if sb.HasRoCompat(RoCompatBigalloc) {
		if sb.d.SLogClusterSize > 20 || sb.d.SLogClusterSize < sb.d.SLogBlockSize {
			return bad("s_log_cluster_size", sb.d.SLogClusterSize)
		}
		g.ClusterSize = MinBlockSize << sb.d.SLogClusterSize
	}
	if sb.d.SRevLevel == 0 {
		g.InodeSize, g.FirstInode = goodOldInodeSize, GoodOldFirstInode
	}
	if g.InodeSize < goodOldInodeSize || g.InodeSize > g.BlockSize || g.InodeSize&(g.InodeSize-1) != 0 {
		return bad("s_inode_size", g.InodeSize)
	}
	if sb.HasIncompat(Incompat64bit) {
		g.DescSize = uint32(sb.d.SDescSize)
		if g.DescSize < minDescSize || g.DescSize > maxDescSize || g.DescSize&(g.DescSize-1) != 0 {
			return bad("s_desc_size", g.DescSize)
		}
	}
	if g.BlocksPerGroup < 8 || uint64(g.BlocksPerGroup) > 8*uint64(g.ClusterSize)*uint64(g.ClusterSize/g.BlockSize) {
		return bad("s_blocks_per_group", g.BlocksPerGroup)
	}
	if g.InodesPerGroup == 0 || g.InodesPerGroup > 8*g.BlockSize {
		return bad("s_inodes_per_group", g.InodesPerGroup)
	}
	if uint64(g.FirstDataBlock) >= g.BlocksCount {
		return bad("s_blocks_count", g.BlocksCount)
	}
	groups := (g.BlocksCount - uint64(g.FirstDataBlock) + uint64(g.BlocksPerGroup) - 1) / uint64(g.BlocksPerGroup)
	if groups>>32 != 0 {
		return bad("s_blocks_count", g.BlocksCount)
	}
	g.GroupCount = uint32(groups)
	g.TableBlocks = uint32((uint64(g.InodesPerGroup)*uint64(g.InodeSize) + uint64(g.BlockSize) - 1) / uint64(g.BlockSize))
	perBlock := g.DescsPerBlock()
	g.DescBlocks = uint32((groups + uint64(perBlock) - 1) / uint64(perBlock))
	g.firstMetaBg = g.DescBlocks
	switch {
	case !sb.HasIncompat(IncompatMetaBg):
		g.ReservedDescBlocks = uint32(sb.d.SReservedGdtBlocks)
	case sb.d.SFirstMetaBg < g.DescBlocks:
		g.firstMetaBg = sb.d.SFirstMetaBg
	}
	switch {
	case sb.HasCompat(CompatSparseSuper2):
		g.sparse = sparseSuper2
	case sb.HasRoCompat(RoCompatSparseSuper):
		g.sparse = sparseSuper
	}
	return g, nil
}

// Verify returns an error if e2fsck would not open the filesystem with this
// superblock and would use a backup, although Geometry accepts its values. The
// error is a *CorruptError.
func (sb *Superblock) Verify(g *Geometry) error {
	switch {
	case sb.HasIncompat(IncompatJournalDev):
		return nil
	case uint64(g.GroupCount)*uint64(g.InodesPerGroup) != uint64(g.InodesCount):
		return &CorruptError{What: fmt.Sprintf("superblock: s_inodes_count %d where %d groups hold %d each", g.InodesCount, g.GroupCount, g.InodesPerGroup)}
	case g.BlocksPerGroup%8 != 0:
		return &CorruptError{What: fmt.Sprintf("superblock: s_blocks_per_group %d is no multiple of eight", g.BlocksPerGroup)}
	case sb.d.SLogGroupsPerFlex > 31:
		return &CorruptError{What: fmt.Sprintf("superblock: impossible s_log_groups_per_flex %d", sb.d.SLogGroupsPerFlex)}
	case sb.HasIncompat(IncompatMetaBg) && sb.d.SFirstMetaBg > g.DescBlocks:
		return &CorruptError{What: fmt.Sprintf("superblock: s_first_meta_bg %d of %d descriptor blocks", sb.d.SFirstMetaBg, g.DescBlocks)}
	case sb.HasIncompat(Incompat64bit) && g.DescSize < minDescSize64:
		return &CorruptError{What: fmt.Sprintf("superblock: impossible s_desc_size %d", g.DescSize)}
	}
	return nil
}

// DescsPerBlock returns how many group descriptors a block holds.
func (g *Geometry) DescsPerBlock() uint32 { return g.BlockSize / g.DescSize }

// ClustersPerGroup returns how many bits of a group's block bitmap count.
func (g *Geometry) ClustersPerGroup() uint32 { return g.BlocksPerGroup / (g.ClusterSize / g.BlockSize) }

// InodesPerBlock returns how many inodes a block of an inode table holds.
func (g *Geometry) InodesPerBlock() uint32 { return g.BlockSize / g.InodeSize }

// GroupFirstBlock returns the block that a group begins with.
func (g *Geometry) GroupFirstBlock(group uint32) uint64 {
	return uint64(g.FirstDataBlock) + uint64(group)*uint64(g.BlocksPerGroup)
}

// GroupOf returns the group that a block lies in.
func (g *Geometry) GroupOf(block uint64) uint32 {
	if block < uint64(g.FirstDataBlock) {
		return 0
	}
	return uint32((block - uint64(g.FirstDataBlock)) / uint64(g.BlocksPerGroup))
}

// HasSuper reports whether a group begins with a copy of the superblock.
func (g *Geometry) HasSuper(group uint32) bool {
	if group == 0 {
		return true
	}
	switch g.sparse {
	case sparseSuper2:
		return group == g.backupGroups[0] || group == g.backupGroups[1]
	case sparseSuper:
		return group == 1 || isPower(group, 3) || isPower(group, 5) || isPower(group, 7)
	}
	return true
}

// SuperBlock returns the block with a group's copy of the superblock. The copy
// is at the start of the block; that of group 0 is at byte SuperblockOffset of
// the filesystem.
func (g *Geometry) SuperBlock(group uint32) uint64 {
	b := g.GroupFirstBlock(group)
	if b == 0 && g.BlockSize == SuperblockOffset {
		return 1 // bigalloc with 1 KiB blocks leaves block 0 to the boot loader
	}
	return b
}

// NextSuper returns the first group, at or after group, that begins with a copy
// of the superblock; false if there is none.
func (g *Geometry) NextSuper(group uint32) (uint32, bool) {
	switch {
	case group >= g.GroupCount:
		return 0, false
	case group == 0:
		return 0, true
	}
	best, found := g.GroupCount, false
	consider := func(n uint64) {
		if n >= uint64(group) && n < uint64(best) {
			best, found = uint32(n), true
		}
	}
	switch g.sparse {
	case everyGroup:
		return group, true
	case sparseSuper2:
		for _, b := range g.backupGroups {
			if b != 0 {
				consider(uint64(b))
			}
		}
	case sparseSuper:
		consider(1)
		for _, base := range [...]uint64{3, 5, 7} {
			n := base
			for n < uint64(group) {
				n *= base
			}
			consider(n)
		}
	}
	return best, found
}

// MetaBg reports whether descriptor block i lies in its own metablock group
// rather than behind the superblock.
func (g *Geometry) MetaBg(i uint32) bool { return i >= g.firstMetaBg }

// LinearDescBlocks returns how many descriptor blocks lie behind each copy of
// the superblock: all but those of metablock groups.
func (g *Geometry) LinearDescBlocks() uint32 { return g.firstMetaBg }

// DescBlock returns where the copy of descriptor block i lies that belongs to
// the superblock copy in group. Of a metablock group that is its first group
// for the primary, its second for every backup, as e2fsck reads them.
func (g *Geometry) DescBlock(group, i uint32) uint64 {
	if !g.MetaBg(i) {
		return g.SuperBlock(group) + 1 + uint64(i)
	}
	first := i * g.DescsPerBlock()
	if group != 0 && g.GroupFirstBlock(first)+uint64(g.BlocksPerGroup)+1 < g.BlocksCount {
		first++
	}
	return g.metaDescBlock(first)
}

// MetaDescCopies returns the three places of descriptor block i, where it
// lies in a metablock group: its first, second and last group. Places beyond
// the filesystem are left out.
func (g *Geometry) MetaDescCopies(i uint32) []uint64 {
	per := uint64(g.DescsPerBlock())
	first := uint64(i) * per
	var blocks []uint64
	for _, n := range [...]uint64{first, first + 1, first + per - 1} {
		if n < uint64(g.GroupCount) {
			blocks = append(blocks, g.metaDescBlock(uint32(n)))
		}
	}
	return blocks
}

// GroupHead returns how many blocks at the start of a group its copies of the
// superblock and of descriptors take, with those kept for the table to grow.
func (g *Geometry) GroupHead(group uint32) uint64 {
	n := uint64(0)
	if g.HasSuper(group) {
		n = 1
	}
	per := g.DescsPerBlock()
	switch i := group / per; {
	case !g.MetaBg(i) && n > 0:
		n += uint64(g.LinearDescBlocks()) + uint64(g.ReservedDescBlocks)
	case g.MetaBg(i) && (group%per < 2 || group%per == per-1):
		n++
	}
	return n
}

func (g *Geometry) metaDescBlock(group uint32) uint64 {
	if g.HasSuper(group) {
		return g.SuperBlock(group) + 1
	}
	return g.GroupFirstBlock(group)
}

// InodePlace returns the group of an inode and its index in the group's inode
// table. The inode number is one of 1 to GroupCount × InodesPerGroup.
func (g *Geometry) InodePlace(ino uint32) (group, index uint32) {
	return (ino - 1) / g.InodesPerGroup, (ino - 1) % g.InodesPerGroup
}

// ValidInode reports whether the tables contain the inode ino.
func (g *Geometry) ValidInode(ino uint32) bool {
	return ino != 0 && uint64(ino) <= uint64(g.GroupCount)*uint64(g.InodesPerGroup)
}

// ValidBlock reports whether a block pointer may point at block.
func (g *Geometry) ValidBlock(block uint64) bool {
	return block >= uint64(g.FirstDataBlock) && block < g.BlocksCount && block != 0
}

func isPower(n, base uint32) bool {
	for p := uint64(base); p <= uint64(n); p *= uint64(base) {
		if p == uint64(n) {
			return true
		}
	}
	return false
}
