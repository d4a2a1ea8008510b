package ext

import (
	"encoding/binary"
	"hash/crc32"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// With metadata_csum every structure has a crc32c, without the final inversion.
// It covers a seed that differs between filesystems, the number that identifies
// the structure, and the structure itself; the checksum's own field is zero,
// cut off or skipped:
//
//	superblock           ~0    bytes up to s_checksum
//	group descriptor     seed  group, descriptor                  low 16 bits
//	bitmaps              seed  the bits in use                    low 16 bits in a descriptor of 32 bytes
//	inode                seed  number, generation, inode          low 16 bits in an inode of 128 bytes
//	extent block         seed  inode, generation, block up to the tail
//	directory leaf       seed  inode, generation, block up to the tail
//	directory index      seed  inode, generation, entries in use, tail
//	attribute block      seed  block number, block
//	MMP block            seed  bytes up to mmp_checksum
//	orphan file block    seed  inode, generation, block number, entries
//
// The older gdt_csum covers the group descriptors alone, with a crc16.
//
// The Verify functions answer for structures that should have a checksum. A
// structure too short or too broken to have one does not verify.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C continues a checksum over b as the kernel's crc32c does: neither the
// start nor the result is inverted.
func CRC32C(crc uint32, b []byte) uint32 {
	return ^crc32.Update(^crc, castagnoli, b)
}

// crc32cUint32 continues a checksum over four little-endian bytes. What
// crc32.Update is given escapes to the heap; these do not.
func crc32cUint32(crc, v uint32) uint32 {
	crc ^= v
	for range 4 {
		crc = crc>>8 ^ castagnoli[uint8(crc)]
	}
	return crc
}

func crc32cUint64(crc uint32, v uint64) uint32 {
	return crc32cUint32(crc32cUint32(crc, uint32(v)), uint32(v>>32))
}

var zeros [4]byte

// crc32cHole continues a checksum over b with the n bytes at off, at most
// four, taken as zeros.
func crc32cHole(crc uint32, b []byte, off, n int) uint32 {
	crc = CRC32C(crc, b[:off])
	crc = CRC32C(crc, zeros[:n])
	return CRC32C(crc, b[off+n:])
}

// seedOfUUID is the seed that a filesystem without metadata_csum_seed has,
// from its UUID; with it, s_checksum_seed is the seed.
func seedOfUUID(uuid []byte) uint32 { return CRC32C(^uint32(0), uuid) }

// InodeSeed is the seed for the blocks of an inode: extent blocks, directory
// blocks and orphan file blocks.
func InodeSeed(seed, ino, generation uint32) uint32 {
	return crc32cUint32(crc32cUint32(seed, ino), generation)
}

const superblockChecksumOffset = 0x3FC

// SuperblockChecksum computes s_checksum of a superblock of at least 1024 bytes.
func SuperblockChecksum(sb []byte) uint32 {
	return CRC32C(^uint32(0), sb[:superblockChecksumOffset])
}

// VerifySuperblock reports whether s_checksum is right.
func VerifySuperblock(sb []byte) bool {
	return len(sb) >= superblockChecksumOffset+4 &&
		binary.LittleEndian.Uint32(sb[superblockChecksumOffset:]) == SuperblockChecksum(sb)
}

const groupDescChecksumOffset = int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgChecksum))

// GroupDescChecksum computes bg_checksum under metadata_csum. desc is the
// whole descriptor, s_desc_size bytes, at least 32.
func GroupDescChecksum(seed, group uint32, desc []byte) uint16 {
	return uint16(crc32cHole(crc32cUint32(seed, group), desc, groupDescChecksumOffset, 2))
}

// GroupDescChecksum16 computes bg_checksum under gdt_csum. desc is the whole
// descriptor, s_desc_size bytes, at least 32.
func GroupDescChecksum16(uuid []byte, group uint32, desc []byte) uint16 {
	var g [4]byte
	binary.LittleEndian.PutUint32(g[:], group)
	crc := crc16(^uint16(0), uuid)
	crc = crc16(crc, g[:])
	crc = crc16(crc, desc[:groupDescChecksumOffset])
	return crc16(crc, desc[groupDescChecksumOffset+2:])
}

func storedGroupDescChecksum(desc []byte) (sum uint16, ok bool) {
	if len(desc) < 32 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(desc[groupDescChecksumOffset:]), true
}

// verifyGroupDesc reports whether bg_checksum is right under metadata_csum.
func verifyGroupDesc(seed, group uint32, desc []byte) bool {
	sum, ok := storedGroupDescChecksum(desc)
	return ok && sum == GroupDescChecksum(seed, group, desc)
}

// verifyGroupDesc16 reports whether bg_checksum is right under gdt_csum.
func verifyGroupDesc16(uuid []byte, group uint32, desc []byte) bool {
	sum, ok := storedGroupDescChecksum(desc)
	return ok && sum == GroupDescChecksum16(uuid, group, desc)
}

// The smallest descriptor sizes with the high halves of the bitmaps' checksums.
const (
	blockBitmapChecksumHiEnd = int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgBlockBitmapCsumHi)) + 2
	inodeBitmapChecksumHiEnd = int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgInodeBitmapCsumHi)) + 2
)

// VerifyBlockBitmap reports whether the block bitmap has the checksum in its
// descriptor. bitmap is the part that the checksum covers: s_clusters_per_group
// bits.
func VerifyBlockBitmap(seed uint32, bitmap, desc []byte) bool {
	return verifyBitmap(seed, bitmap, desc, int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgBlockBitmapCsumLo)), blockBitmapChecksumHiEnd)
}

// VerifyInodeBitmap is VerifyBlockBitmap for the inode bitmap; bitmap has
// s_inodes_per_group bits. AdjustGroupDesc uses the same fields.
func VerifyInodeBitmap(seed uint32, bitmap, desc []byte) bool {
	return verifyBitmap(seed, bitmap, desc, int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgInodeBitmapCsumLo)), inodeBitmapChecksumHiEnd)
}

func verifyBitmap(seed uint32, bitmap, desc []byte, lo, hiEnd int) bool {
	if len(desc) < 32 {
		return false
	}
	sum := CRC32C(seed, bitmap)
	if uint16(sum) != binary.LittleEndian.Uint16(desc[lo:]) {
		return false
	}
	return len(desc) < hiEnd || uint16(sum>>16) == binary.LittleEndian.Uint16(desc[hiEnd-2:])
}

// AdjustGroupDesc changes the checksums of the bitmaps that a descriptor of at
// least 32 bytes holds by differences.
func AdjustGroupDesc(desc []byte, blockBitmap, inodeBitmap uint32) {
	adjust := func(lo, hiEnd int, diff uint32) {
		binary.LittleEndian.PutUint16(desc[lo:], binary.LittleEndian.Uint16(desc[lo:])^uint16(diff))
		if len(desc) >= hiEnd {
			hi := desc[hiEnd-2:]
			binary.LittleEndian.PutUint16(hi, binary.LittleEndian.Uint16(hi)^uint16(diff>>16))
		}
	}
	adjust(int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgBlockBitmapCsumLo)), blockBitmapChecksumHiEnd, blockBitmap)
	adjust(int(unsafe.Offsetof(ext4.BlockGroupDescriptorData{}.BgInodeBitmapCsumLo)), inodeBitmapChecksumHiEnd, inodeBitmap)
}

const (
	inodeGenerationOffset = 0x64
	inodeChecksumLoOffset = 0x7C
	inodeChecksumHiOffset = 0x82
)

// inodeHasChecksumHi reports whether i_extra_isize covers i_checksum_hi.
func inodeHasChecksumHi(inode []byte) bool {
	return len(inode) >= inodeChecksumHiOffset+2 &&
		goodOldInodeSize+int(binary.LittleEndian.Uint16(inode[extraIsizeOffset:])) >= inodeChecksumHiOffset+2
}

// InodeChecksum computes the checksum of an inode. inode is all of it, inode
// size bytes, at least 128. Only the low 16 bits of the result are stored
// where i_extra_isize does not reach to i_checksum_hi.
func InodeChecksum(seed, ino uint32, inode []byte) uint32 {
	crc := crc32cUint32(seed, ino)
	crc = CRC32C(crc, inode[inodeGenerationOffset:inodeGenerationOffset+4])
	if !inodeHasChecksumHi(inode) {
		return crc32cHole(crc, inode, inodeChecksumLoOffset, 2)
	}
	crc = CRC32C(crc, inode[:inodeChecksumLoOffset])
	crc = CRC32C(crc, zeros[:2])
	return crc32cHole(crc, inode[inodeChecksumLoOffset+2:], inodeChecksumHiOffset-inodeChecksumLoOffset-2, 2)
}

// VerifyInode reports whether the checksum of an inode is right. An inode
// whose first 128 bytes are zeros counts as right, as it does for e2fsck.
func VerifyInode(seed, ino uint32, inode []byte) bool {
	if len(inode) < goodOldInodeSize {
		return false
	}
	sum := InodeChecksum(seed, ino, inode)
	match := uint16(sum) == binary.LittleEndian.Uint16(inode[inodeChecksumLoOffset:])
	if match && inodeHasChecksumHi(inode) {
		match = uint16(sum>>16) == binary.LittleEndian.Uint16(inode[inodeChecksumHiOffset:])
	}
	return match || allZero(inode[:goodOldInodeSize])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// extentTailOffset is where the checksum of an extent block lies: behind the
// entries there is room for.
func extentTailOffset(block []byte) (off int, ok bool) {
	if len(block) < extentHeaderSize {
		return 0, false
	}
	off = extentHeaderSize + extentSize*ExtentNode(block).Max()
	return off, off <= len(block)-4
}

// ExtentBlockChecksum computes et_checksum of an extent block; ok is false if
// eh_max puts it outside.
func ExtentBlockChecksum(inodeSeed uint32, block []byte) (sum uint32, ok bool) {
	off, ok := extentTailOffset(block)
	if !ok {
		return 0, false
	}
	return CRC32C(inodeSeed, block[:off]), true
}

// VerifyExtentBlock reports whether et_checksum is right. inodeSeed is
// [InodeSeed] of the inode the block belongs to.
func VerifyExtentBlock(inodeSeed uint32, block []byte) bool {
	off, ok := extentTailOffset(block)
	return ok && binary.LittleEndian.Uint32(block[off:]) == CRC32C(inodeSeed, block[:off])
}

// direntTailOffset finds the tail of a directory leaf: the chain of entries
// must lead to it.
func direntTailOffset(block []byte) (off int, ok bool) {
	top := len(block) - direntTailLen
	for off < top {
		recLen := RecLen(binary.LittleEndian.Uint16(block[off+4:]), len(block))
		if recLen < direntHeaderLen || recLen&3 != 0 {
			return 0, false
		}
		off += recLen
	}
	if off != top {
		return 0, false
	}
	t := block[top:]
	return top, binary.LittleEndian.Uint32(t) == 0 && binary.LittleEndian.Uint16(t[4:]) == direntTailLen &&
		t[6] == 0 && t[7] == direntTailType
}

// dxTailOffset finds the tail of an index block: count and limit lie behind a
// fake entry that spans the block, or behind "." and ".." and the root's
// parameters; the tail lies behind the entries there is room for. used is
// where the entries in use end.
func dxTailOffset(block []byte) (used, off int, ok bool) {
	if len(block) < dxRootStart+dxEntryLen {
		return 0, 0, false
	}
	le := binary.LittleEndian
	var start int
	switch recLen := RecLen(le.Uint16(block[4:]), len(block)); {
	case recLen == len(block) && le.Uint16(block[6:]) == 0:
		start = dxNodeStart
	case recLen == direntMinLen && RecLen(le.Uint16(block[direntMinLen+4:]), len(block)) == len(block)-direntMinLen &&
		le.Uint32(block[2*direntMinLen:]) == 0 && block[2*direntMinLen+5] == dxInfoLen:
		start = dxRootStart
	default:
		return 0, 0, false
	}
	limit, count := int(le.Uint16(block[start:])), int(le.Uint16(block[start+2:]))
	off = start + limit*dxEntryLen
	used = start + count*dxEntryLen
	return used, off, off <= len(block)-dxTailLen && used <= len(block)
}

// DirBlockChecksum computes the checksum of a directory block, leaf or index,
// and tells where it lies; ok is false if the block has no place for one.
// inodeSeed is [InodeSeed] of the directory.
func DirBlockChecksum(inodeSeed uint32, block []byte) (sum uint32, offset int, ok bool) {
	if off, ok := direntTailOffset(block); ok {
		return CRC32C(inodeSeed, block[:off]), off + direntHeaderLen, true
	}
	used, off, ok := dxTailOffset(block)
	if !ok {
		return 0, 0, false
	}
	sum = CRC32C(inodeSeed, block[:used])
	sum = CRC32C(sum, block[off:off+4])
	return CRC32C(sum, zeros[:4]), off + 4, true
}

// VerifyDirBlock reports whether the checksum of a directory block is right.
func VerifyDirBlock(inodeSeed uint32, block []byte) bool {
	sum, off, ok := DirBlockChecksum(inodeSeed, block)
	return ok && binary.LittleEndian.Uint32(block[off:]) == sum
}

const xattrChecksumOffset = 0x10

// XattrBlockChecksum computes h_checksum of the attribute block number n,
// which must hold at least its header.
func XattrBlockChecksum(seed uint32, n uint64, block []byte) uint32 {
	return crc32cHole(crc32cUint64(seed, n), block, xattrChecksumOffset, 4)
}

// VerifyXattrBlock reports whether h_checksum is right.
func VerifyXattrBlock(seed uint32, n uint64, block []byte) bool {
	return len(block) >= XattrHeaderLen &&
		binary.LittleEndian.Uint32(block[xattrChecksumOffset:]) == XattrBlockChecksum(seed, n, block)
}

// XattrValueHash computes the hash of a value that lies in an inode of its
// own, which that inode has in i_atime.
func XattrValueHash(seed uint32, value []byte) uint32 { return CRC32C(seed, value) }

const mmpChecksumOffset = 0x3FC

// MMPChecksum computes mmp_checksum of an MMP block of at least 1024 bytes.
func MMPChecksum(seed uint32, block []byte) uint32 {
	return CRC32C(seed, block[:mmpChecksumOffset])
}

// VerifyMMP reports whether mmp_checksum is right.
func VerifyMMP(seed uint32, block []byte) bool {
	return len(block) >= mmpChecksumOffset+4 &&
		binary.LittleEndian.Uint32(block[mmpChecksumOffset:]) == MMPChecksum(seed, block)
}

// OrphanTailLen is the size of the tail of each block of an orphan file:
// ob_magic and ob_checksum.
const OrphanTailLen = 8

// OrphanBlockChecksum computes ob_checksum of a block of the orphan file: n is
// its physical number, inodeSeed [InodeSeed] of the file. block must hold its tail.
func OrphanBlockChecksum(inodeSeed uint32, n uint64, block []byte) uint32 {
	return CRC32C(crc32cUint64(inodeSeed, n), block[:len(block)-OrphanTailLen])
}

// VerifyOrphanBlock reports whether ob_checksum is right.
func VerifyOrphanBlock(inodeSeed uint32, n uint64, block []byte) bool {
	return len(block) >= OrphanTailLen &&
		binary.LittleEndian.Uint32(block[len(block)-4:]) == OrphanBlockChecksum(inodeSeed, n, block)
}
