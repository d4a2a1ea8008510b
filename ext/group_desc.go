package ext

import (
	"encoding/binary"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// Flags of a group descriptor (bg_flags).
const (
	BgInodeUninit = ext4.BgdFlagInodeTableAndBitmapNotInitialized
	BgBlockUninit = ext4.BgdFlagBitmapNotInitialized
	BgInodeZeroed = ext4.BgdFlagInodeTableZeroed
)

// A GroupDesc is a view of struct ext4_group_desc: s_desc_size bytes of a
// descriptor block. Those of 64 bytes and more have the high halves.
type GroupDesc []byte

var bgd ext4.BlockGroupDescriptorData

// BlockBitmap returns the block number of the block bitmap.
func (d GroupDesc) BlockBitmap() uint64 {
	return d.block(unsafe.Offsetof(bgd.BgBlockBitmapLo), unsafe.Offsetof(bgd.BgBlockBitmapHi))
}

// InodeBitmap returns the block number of the inode bitmap.
func (d GroupDesc) InodeBitmap() uint64 {
	return d.block(unsafe.Offsetof(bgd.BgInodeBitmapLo), unsafe.Offsetof(bgd.BgInodeBitmapHi))
}

// InodeTable returns the block that the inode table begins with.
func (d GroupDesc) InodeTable() uint64 {
	return d.block(unsafe.Offsetof(bgd.BgInodeTableLo), unsafe.Offsetof(bgd.BgInodeTableHi))
}

// Flags returns bg_flags.
func (d GroupDesc) Flags() uint16 {
	return binary.LittleEndian.Uint16(d[unsafe.Offsetof(bgd.BgFlags):])
}

// FreeClusters returns bg_free_blocks_count: with bigalloc it counts clusters.
func (d GroupDesc) FreeClusters() uint32 {
	return d.count(unsafe.Offsetof(bgd.BgFreeBlocksCountLo), unsafe.Offsetof(bgd.BgFreeBlocksCountHi))
}

// FreeInodes returns bg_free_inodes_count.
func (d GroupDesc) FreeInodes() uint32 {
	return d.count(unsafe.Offsetof(bgd.BgFreeInodesCountLo), unsafe.Offsetof(bgd.BgFreeInodesCountHi))
}

// ItableUnused returns bg_itable_unused, the count of inodes at the end of the
// table that were never used.
func (d GroupDesc) ItableUnused() uint32 {
	return d.count(unsafe.Offsetof(bgd.BgItableUnusedLo), unsafe.Offsetof(bgd.BgItableUnusedHi))
}

func (d GroupDesc) count(lo, hi uintptr) uint32 {
	n := uint32(binary.LittleEndian.Uint16(d[lo:]))
	if d.wide() {
		n |= uint32(binary.LittleEndian.Uint16(d[hi:])) << 16
	}
	return n
}

func (d GroupDesc) wide() bool { return len(d) >= minDescSize64 }

func (d GroupDesc) block(lo, hi uintptr) uint64 {
	n := uint64(binary.LittleEndian.Uint32(d[lo:]))
	if d.wide() {
		n |= uint64(binary.LittleEndian.Uint32(d[hi:])) << 32
	}
	return n
}
