package ext

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Bits of s_state.
const (
	StateValid   = 0x1 // unmounted cleanly
	StateErrors  = 0x2
	StateOrphans = 0x4 // being recovered
)

// A Status contains the fields of a superblock about the history of a
// filesystem. Times that are not set are zero.
type Status struct {
	State uint16 // s_state

	Errors                uint32 // s_error_count
	FirstError, LastError ErrorRecord

	Created, Mounted, Written, Checked time.Time

	Mounts    uint16 // since the last check
	MaxMounts int16  // after which there is one; below 1 for none

	Inodes, FreeInodes uint32
	FreeBlocks         uint64
	ReservedBlocks     uint64

	WrittenBytes uint64 // since the filesystem was made; 0 where that is not known
}

// An ErrorRecord is an error that the kernel has met. What was not recorded is
// zero.
type ErrorRecord struct {
	Time     time.Time
	Inode    uint32
	Block    uint64
	Function string // of the kernel; any bytes
	Line     uint32
}

// Status returns the fields about the history of the filesystem.
func (sb *Superblock) Status() Status {
	d := &sb.d
	at := func(lo uint32, hi uint8) time.Time {
		if lo == 0 && hi == 0 {
			return time.Time{}
		}
		return time.Unix(int64(hi)<<32|int64(lo), 0).UTC()
	}
	wide := func(lo, hi uint32) uint64 {
		if sb.HasIncompat(Incompat64bit) {
			return uint64(hi)<<32 | uint64(lo)
		}
		return uint64(lo)
	}
	return Status{
		State:  d.SState,
		Errors: d.SErrorCount,
		FirstError: ErrorRecord{at(d.SFirstErrorTime, d.SFirstErrorTimeHi), d.SFirstErrorIno, d.SFirstErrorBlock,
			cString(sb.raw[0x1A8:0x1C8]), d.SFirstErrorLine},
		LastError: ErrorRecord{at(d.SLastErrorTime, d.SLastErrorTimeHi), d.SLastErrorIno, d.SLastErrorBlock,
			cString(sb.raw[0x1E0:0x200]), d.SLastErrorLine},
		Created:        at(d.SMkfsTime, d.SMkfsTimeHi),
		Mounted:        at(d.SMtime, d.SMtimeHi),
		Written:        at(d.SWtime, d.SWtimeHi),
		Checked:        at(d.SLastcheck, d.SLastcheckHi),
		Mounts:         d.SMntCount,
		MaxMounts:      int16(d.SMaxMntCount),
		Inodes:         d.SInodesCount,
		FreeInodes:     d.SFreeInodesCount,
		FreeBlocks:     wide(d.SFreeBlocksCountLo, d.SFreeBlocksCountHi),
		ReservedBlocks: wide(d.SRBlocksCountLo, d.SRBlocksCountHi),
		WrittenBytes:   min(binary.LittleEndian.Uint64(sb.raw[0x178:]), math.MaxUint64>>10) << 10,
	}
}

// LastMountedOn returns s_last_mounted up to its first NUL; it may hold any
// bytes.
func (sb *Superblock) LastMountedOn() string { return cString(sb.raw[0x88:0xC8]) }

// Features returns the names of the features, as e2fsprogs has them, in the
// order of s_feature_compat, s_feature_incompat and s_feature_ro_compat. Bits
// without a name are "FEATURE_C9", "FEATURE_I20" or "FEATURE_R31".
func (sb *Superblock) Features() []string {
	var list []string
	for _, set := range []struct {
		bits  uint32
		names [32]string
		kind  byte
	}{
		{sb.d.SFeatureCompat, compatNames, 'C'},
		{sb.d.SFeatureIncompat, incompatNames, 'I'},
		{sb.d.SFeatureRoCompat, roCompatNames, 'R'},
	} {
		for i, name := range set.names {
			if set.bits>>i&1 == 0 {
				continue
			}
			if name == "" {
				name = fmt.Sprintf("FEATURE_%c%d", set.kind, i)
			}
			list = append(list, name)
		}
	}
	return list
}

// The names of features by bit (lib/e2p/feature.c of e2fsprogs).
var (
	compatNames = [32]string{"dir_prealloc", "imagic_inodes", "has_journal", "ext_attr", "resize_inode", "dir_index", "lazy_bg",
		"exclude_inode", "snapshot_bitmap", "sparse_super2", "fast_commit", "stable_inodes", "orphan_file"}
	incompatNames = [32]string{"compression", "filetype", "needs_recovery", "journal_dev", "meta_bg", "", "extent", "64bit", "mmp",
		"flex_bg", "ea_inode", "", "dirdata", "metadata_csum_seed", "large_dir", "inline_data", "encrypt", "casefold"}
	roCompatNames = [32]string{"sparse_super", "large_file", "", "huge_file", "uninit_bg", "dir_nlink", "extra_isize", "snapshot",
		"quota", "bigalloc", "metadata_csum", "replica", "read-only", "project", "shared_blocks", "verity", "orphan_present"}
)

// JournalHead returns the first block of the journal according to the first
// level of the tree in s_jnl_blocks: the block of the journal superblock, or an
// extent node that leads to it (node is true). ok is false if there is no such
// tree, or it is not usable.
func (sb *Superblock) JournalHead() (block uint64, node, ok bool) {
	root, ok := sb.JournalBackup()
	if !ok || !sb.HasCompat(CompatHasJournal) {
		return 0, false, false
	}
	tree := ExtentNode(root[:])
	if !tree.Valid() {
		block = uint64(binary.LittleEndian.Uint32(root[:]))
		return block, false, block != 0
	}
	if _, n := tree.Count(); n == 0 {
		return 0, false, false
	}
	if tree.Depth() > 0 {
		block, _ = tree.Index(0)
		return block, true, block != 0
	}
	x := tree.Extent(0)
	return x.Start, false, x.Logical == 0 && x.Start != 0
}
