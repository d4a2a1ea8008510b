package ext

import (
	"encoding/binary"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// File types in i_mode.
const (
	ModeType    = 0xF000
	ModeFIFO    = 0x1000
	ModeChar    = 0x2000
	ModeDir     = 0x4000
	ModeBlock   = 0x6000
	ModeRegular = 0x8000
	ModeSymlink = 0xA000
	ModeSocket  = 0xC000
)

// Flags of an inode (i_flags).
const (
	FlagEncrypt    = uint32(ext4.InodeFlagEncrypt)
	FlagIndex      = uint32(ext4.InodeFlagIndex)
	FlagExtents    = uint32(ext4.InodeFlagExtents)
	FlagEaInode    = uint32(ext4.InodeFlagEaInode)
	FlagInlineData = uint32(ext4.InodeFlagInlineData)
	FlagCasefold   = uint32(0x40000000)
)

// The shape of i_block.
const (
	// IBlockSize is the size of i_block in bytes: fifteen block numbers, the
	// root of an extent tree, a short symlink's target or inline data.
	IBlockSize = ext4.Ext4NBlocks * 4

	// IBlockOffset is the offset of i_block in an inode.
	IBlockOffset = int(unsafe.Offsetof(ext4.InodeData{}.IBlock))

	// IBlockCount is how many block numbers i_block holds, and NDirBlocks how
	// many of them are direct; the single, double and triple indirect block
	// follow.
	IBlockCount = ext4.Ext4NBlocks
	NDirBlocks  = ext4.Ext4NdirBlocks
)

// An Inode is a view of struct ext4_inode: s_inode_size bytes of an inode
// table, at least 128.
type Inode []byte

var inode ext4.InodeData

const (
	osd2FileACLHigh = unsafe.Offsetof(ext4.InodeData{}.Osd2) + 2
)

func (i Inode) u16(off uintptr) uint16 { return binary.LittleEndian.Uint16(i[off:]) }
func (i Inode) u32(off uintptr) uint32 { return binary.LittleEndian.Uint32(i[off:]) }

// Mode returns i_mode: the file type and permissions.
func (i Inode) Mode() uint16 { return i.u16(unsafe.Offsetof(inode.IMode)) }

// Type returns the file type bits of i_mode.
func (i Inode) Type() uint16 { return i.Mode() & ModeType }

// IsUnknown reports whether the type does not exist.
func (i Inode) IsUnknown() bool {
	switch i.Type() {
	case ModeFIFO, ModeChar, ModeDir, ModeBlock, ModeRegular, ModeSymlink, ModeSocket:
		return false
	}
	return true
}

// LinksCount returns i_links_count.
func (i Inode) LinksCount() uint16 { return i.u16(unsafe.Offsetof(inode.ILinksCount)) }

// Flags returns i_flags.
func (i Inode) Flags() uint32 { return i.u32(unsafe.Offsetof(inode.IFlags)) }

// Dtime returns i_dtime: the time of deletion, or the next inode of the
// orphan list.
func (i Inode) Dtime() uint32 { return i.u32(unsafe.Offsetof(inode.IDtime)) }

// Modified returns i_mtime in seconds since 1970, with the bits that
// i_mtime_extra adds where the inode has it.
func (i Inode) Modified() int64 {
	const extra = goodOldInodeSize + 8 // i_mtime_extra
	t := int64(int32(i.u32(unsafe.Offsetof(inode.IMtime))))
	if i.ExtraSize() >= extra+4-goodOldInodeSize {
		t += int64(i.u32(extra)&3) << 32
	}
	return t
}

// Generation returns i_generation.
func (i Inode) Generation() uint32 { return i.u32(unsafe.Offsetof(inode.IGeneration)) }

// Size returns i_size in bytes, high half included.
func (i Inode) Size() uint64 {
	return uint64(i.u32(unsafe.Offsetof(inode.ISizeLo))) | uint64(i.u32(unsafe.Offsetof(inode.ISizeHigh)))<<32
}

// BlocksLo returns i_blocks_lo, in sectors or, with HUGE_FILE, blocks.
func (i Inode) BlocksLo() uint32 { return i.u32(unsafe.Offsetof(inode.IBlocksLo)) }

// FileACL returns i_file_acl, the block of extended attributes; its high half
// counts with the 64bit feature only.
func (i Inode) FileACL(wide bool) uint64 {
	n := uint64(i.u32(unsafe.Offsetof(inode.IFileAclLo)))
	if wide {
		n |= uint64(i.u16(osd2FileACLHigh)) << 32
	}
	return n
}

// IBlock returns the IBlockSize bytes of i_block.
func (i Inode) IBlock() []byte {
	off := unsafe.Offsetof(inode.IBlock)
	return i[off : off+IBlockSize]
}

// BlockNr returns i_block[n] as a block number; n is below IBlockCount.
func (i Inode) BlockNr(n int) uint32 {
	return i.u32(unsafe.Offsetof(inode.IBlock) + uintptr(n)*4)
}

// ExtraSize returns i_extra_isize, 0 where the inode has no room for it or
// where it is impossible.
func (i Inode) ExtraSize() int {
	if len(i) < goodOldInodeSize+4 {
		return 0
	}
	n := int(i.u16(unsafe.Offsetof(inode.IExtraIsize)))
	if n < 4 || n > len(i)-goodOldInodeSize || n%4 != 0 {
		return 0
	}
	return n
}

// InBodyXattrs returns the area for extended attributes behind the inode's
// fixed fields, nil if there is none.
func (i Inode) InBodyXattrs() []byte {
	n := i.ExtraSize()
	if n == 0 || goodOldInodeSize+n+4 > len(i) {
		return nil
	}
	return i[goodOldInodeSize+n:]
}

// Used reports whether a significant byte of the inode is set: a freshly zeroed
// inode is not used.
func (i Inode) Used() bool {
	return i.u16(unsafe.Offsetof(inode.IMode)) != 0 || i.LinksCount() != 0 || i.Dtime() != 0 || i.BlockNr(0) != 0
}

// StoredInodeChecksum returns the stored bits of an inode's checksum.
func StoredInodeChecksum(i Inode) uint32 {
	sum := uint32(i.u16(inodeChecksumLoOffset))
	if inodeHasChecksumHi(i) {
		sum |= uint32(i.u16(inodeChecksumHiOffset)) << 16
	}
	return sum
}

// SetInodeChecksum sets the stored bits of an inode's checksum.
func SetInodeChecksum(i Inode, sum uint32) {
	binary.LittleEndian.PutUint16(i[inodeChecksumLoOffset:], uint16(sum))
	if inodeHasChecksumHi(i) {
		binary.LittleEndian.PutUint16(i[inodeChecksumHiOffset:], uint16(sum>>16))
	}
}
