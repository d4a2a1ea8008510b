package ext

import (
	"encoding/binary"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// The place of a superblock, and its limits for block sizes.
const (
	// SuperblockOffset is where the primary superblock begins, in bytes from
	// the start of the filesystem, whatever the block size.
	SuperblockOffset = 1024

	// SuperblockSize is the size of a superblock in bytes.
	SuperblockSize = 1024

	// MinBlockSize and MaxBlockSize bound s_log_block_size.
	MinBlockSize = 1024
	MaxBlockSize = 65536
)

// The layout in go-ext4 is the one on disk.
const _ = uint(unsafe.Sizeof(ext4.SuperblockData{})-SuperblockSize) + uint(SuperblockSize-unsafe.Sizeof(ext4.SuperblockData{}))

// Fields that go-ext4's SuperblockData has no name for.
const (
	sbOrphanFileInum = 0x280
)

// Well-known inode numbers.
const (
	BadInode    = uint32(ext4.InodeDefectiveBlocks)
	RootInode   = uint32(ext4.InodeRootDirectory)
	UserQuota   = uint32(ext4.InodeUserQuota)
	GroupQuota  = uint32(ext4.InodeGroupQuota)
	ResizeInode = uint32(ext4.InodeReservedGroupDescriptors)
)

// GoodOldFirstInode is the first inode that is not reserved, unless s_first_ino
// names another (EXT4_GOOD_OLD_FIRST_INO).
const GoodOldFirstInode = 11

const (
	goodOldInodeSize = 128
	minDescSize      = 32
	minDescSize64    = 64
	maxDescSize      = 1024
)

// A Superblock is struct ext4_super_block as it is on the disk. Only its magic
// number has been checked.
type Superblock struct {
	d    ext4.SuperblockData
	raw  [SuperblockSize]byte
	seed uint32 // ChecksumSeed
}

// DecodeSuperblock decodes the first SuperblockSize bytes of b. The error is
// ErrBadMagic when the magic number is another, a *CorruptError when b is short.
func DecodeSuperblock(b []byte) (*Superblock, error) {
	if len(b) < SuperblockSize {
		return nil, &CorruptError{What: "superblock is cut short", Offset: int64(len(b))}
	}
	if !IsSuperblock(b) {
		return nil, ErrBadMagic
	}
	return decodeSuperblock([SuperblockSize]byte(b))
}

// DecodeUnmarkedSuperblock decodes a possible superblock that has lost its
// magic number. b holds at least SuperblockSize bytes.
func DecodeUnmarkedSuperblock(b []byte) (*Superblock, error) {
	if len(b) < SuperblockSize {
		return nil, &CorruptError{What: "superblock is cut short", Offset: int64(len(b))}
	}
	raw := [SuperblockSize]byte(b)
	binary.LittleEndian.PutUint16(raw[unsafe.Offsetof(ext4.SuperblockData{}.SMagic):], ext4.Ext4Magic)
	return decodeSuperblock(raw)
}

func decodeSuperblock(raw [SuperblockSize]byte) (*Superblock, error) {
	sb := &Superblock{raw: raw}
	if _, err := binary.Decode(raw[:], binary.LittleEndian, &sb.d); err != nil {
		return nil, &CorruptError{What: "superblock", Err: err}
	}
	sb.seed = sb.ChecksumSeed()
	return sb, nil
}

// IsSuperblock reports whether b, the bytes of a possible superblock, has the
// magic number.
func IsSuperblock(b []byte) bool {
	const off = unsafe.Offsetof(ext4.SuperblockData{}.SMagic)
	return uintptr(len(b)) >= off+2 && binary.LittleEndian.Uint16(b[off:]) == ext4.Ext4Magic
}

// LooksLikeSuperblock is IsSuperblock for bytes that may be anything: it also
// reports whether the block size is possible, and costs next to nothing.
func LooksLikeSuperblock(b []byte) bool {
	const off = unsafe.Offsetof(ext4.SuperblockData{}.SLogBlockSize)
	return IsSuperblock(b) && binary.LittleEndian.Uint32(b[off:]) <= maxLogBlockSize
}

// maxLogBlockSize is the largest s_log_block_size, of blocks of MaxBlockSize.
const maxLogBlockSize = 6

// HasCompat reports whether all bits of mask are set in s_feature_compat.
func (sb *Superblock) HasCompat(mask uint32) bool { return sb.d.SFeatureCompat&mask == mask }

// HasRoCompat reports whether all bits of mask are set in s_feature_ro_compat.
func (sb *Superblock) HasRoCompat(mask uint32) bool { return sb.d.SFeatureRoCompat&mask == mask }

// HasIncompat reports whether all bits of mask are set in s_feature_incompat.
func (sb *Superblock) HasIncompat(mask uint32) bool { return sb.d.SFeatureIncompat&mask == mask }

// UUID returns s_uuid.
func (sb *Superblock) UUID() [16]byte { return sb.d.SUuid }

// Label returns s_volume_name up to its first NUL; it may hold any bytes.
func (sb *Superblock) Label() string {
	return cString(sb.d.SVolumeName[:])
}

// BlocksCount returns s_blocks_count; the high half counts with 64bit only.
func (sb *Superblock) BlocksCount() uint64 {
	n := uint64(sb.d.SBlocksCountLo)
	if sb.HasIncompat(Incompat64bit) {
		n |= uint64(sb.d.SBlocksCountHi) << 32
	}
	return n
}

// BlockSize returns the block size in bytes, 0 where s_log_block_size is out
// of range.
func (sb *Superblock) BlockSize() uint32 {
	if sb.d.SLogBlockSize > maxLogBlockSize {
		return 0
	}
	return MinBlockSize << sb.d.SLogBlockSize
}

// GroupsPerFlex returns how many groups have their bitmaps and tables together:
// one without flex_bg.
func (sb *Superblock) GroupsPerFlex() uint32 {
	if n := sb.d.SLogGroupsPerFlex; sb.HasIncompat(IncompatFlexBg) && n < 32 {
		return 1 << n
	}
	return 1
}

// Group returns s_block_group_nr, the group that this copy was written for.
func (sb *Superblock) Group() uint32 { return uint32(sb.d.SBlockGroupNr) }

// ChecksumSeed returns the start value of the checksums of metadata_csum.
func (sb *Superblock) ChecksumSeed() uint32 {
	if sb.HasIncompat(IncompatCsumSeed) {
		return sb.d.SChecksumSeed
	}
	return seedOfUUID(sb.d.SUuid[:])
}

// ChecksumOK reports whether s_checksum is right, or not in use.
func (sb *Superblock) ChecksumOK() bool {
	return !sb.HasRoCompat(RoCompatMetadataCsum) || VerifySuperblock(sb.raw[:])
}

// DescChecksumOK reports whether the checksum of a group's descriptor is right,
// or not in use.
func (sb *Superblock) DescChecksumOK(group uint32, d GroupDesc) bool {
	switch {
	case sb.HasRoCompat(RoCompatMetadataCsum):
		return verifyGroupDesc(sb.seed, group, d)
	case sb.HasRoCompat(RoCompatGdtCsum):
		return verifyGroupDesc16(sb.d.SUuid[:], group, d)
	}
	return true
}

// A Hint says where a superblock too damaged to be decoded suggests that
// groups begin. It is zero where the fields make no sense.
type Hint struct {
	BlockSize      uint32 // bytes
	FirstDataBlock uint32
	BlocksPerGroup uint32
}

// GeometryHint takes a hint from the SuperblockSize bytes where a superblock
// should stand, whether they have its magic number or not.
func GeometryHint(b []byte) Hint {
	var d ext4.SuperblockData
	if _, err := binary.Decode(b, binary.LittleEndian, &d); err != nil || d.SLogBlockSize > maxLogBlockSize || d.SBlocksPerGroup < 8 {
		return Hint{}
	}
	return Hint{MinBlockSize << d.SLogBlockSize, d.SFirstDataBlock, d.SBlocksPerGroup}
}

// Revision returns s_rev_level.
func (sb *Superblock) Revision() uint32 { return sb.d.SRevLevel }

// JournalInode returns s_journal_inum.
func (sb *Superblock) JournalInode() uint32 { return sb.d.SJournalInum }

// LastOrphan returns s_last_orphan, the head of the orphan list.
func (sb *Superblock) LastOrphan() uint32 { return sb.d.SLastOrphan }

// OrphanFileInode returns s_orphan_file_inum.
func (sb *Superblock) OrphanFileInode() uint32 {
	return binary.LittleEndian.Uint32(sb.raw[sbOrphanFileInum:])
}

// QuotaInodes returns s_usr_quota_inum, s_grp_quota_inum and s_prj_quota_inum.
func (sb *Superblock) QuotaInodes() [3]uint32 {
	return [3]uint32{sb.d.SUsrQuotaInum, sb.d.SGrpQuotaInum, sb.d.SPrjQuotaInum}
}

// MmpBlock returns s_mmp_block.
func (sb *Superblock) MmpBlock() uint64 { return sb.d.SMmpBlock }

// JournalBackup returns the copy of the journal inode's i_block that s_jnl_blocks
// holds, and whether s_jnl_backup_type says that it holds one.
func (sb *Superblock) JournalBackup() (iblock [IBlockSize]byte, ok bool) {
	const jnlBackupBlocks = 1 // EXT3_JNL_BACKUP_BLOCKS
	off := unsafe.Offsetof(ext4.SuperblockData{}.SJnlBlocks)
	copy(iblock[:], sb.raw[off:])
	return iblock, sb.d.SJnlBackupType == jnlBackupBlocks
}

// FreeBlocksCount returns s_free_blocks_count: of clusters, with bigalloc.
func (sb *Superblock) FreeBlocksCount() uint64 {
	n := uint64(sb.d.SFreeBlocksCountLo)
	if sb.HasIncompat(Incompat64bit) {
		n |= uint64(sb.d.SFreeBlocksCountHi) << 32
	}
	return n
}

// JournalSize returns how many bytes the journal has as s_jnl_blocks says it, 0
// where that holds no copy of the journal inode.
func (sb *Superblock) JournalSize() int64 {
	const high, low = 15, 16 // words: i_size_high, i_size
	if _, ok := sb.JournalBackup(); !ok || sb.d.SJnlBlocks[high]>>31 != 0 {
		return 0
	}
	return int64(sb.d.SJnlBlocks[high])<<32 | int64(sb.d.SJnlBlocks[low])
}

// NeedsRecovery reports whether the journal needs a replay.
func (sb *Superblock) NeedsRecovery() bool { return sb.HasIncompat(IncompatRecover) }

// HashSeed returns s_hash_seed, which the hashes of names begin with.
func (sb *Superblock) HashSeed() [4]uint32 { return sb.d.SHashSeed }

// UnsignedHash reports whether s_flags say that names are hashed as unsigned
// chars.
func (sb *Superblock) UnsignedHash() bool {
	const unsignedHash = 2 // EXT2_FLAGS_UNSIGNED_HASH
	return sb.d.SFlags&unsignedHash != 0
}

// DefaultHash returns s_def_hash_version, which new indexes have.
func (sb *Superblock) DefaultHash() DirHash { return DirHash(sb.d.SDefHashVersion) }

// Bytes returns the superblock as it is on the disk. The caller must not change
// it.
func (sb *Superblock) Bytes() []byte { return sb.raw[:] }

// HasDescChecksums reports whether group descriptors have checksums. Without
// checksums, their UNINIT flags and bg_itable_unused mean nothing.
func (sb *Superblock) HasDescChecksums() bool {
	return sb.d.SFeatureRoCompat&(RoCompatGdtCsum|RoCompatMetadataCsum) != 0
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
