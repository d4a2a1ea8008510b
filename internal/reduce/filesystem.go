package reduce

import (
	"encoding/binary"
	"errors"
	"io"

	"e2qcow/ext"
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
	reads int    // blocks of maps that were read
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
