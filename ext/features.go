package ext

import (
	"fmt"

	ext4 "github.com/dsoprea/go-ext4"
)

// Features that programs may ignore if they do not know them
// (s_feature_compat).
const (
	CompatHasJournal   = ext4.SbFeatureCompatHasJournal
	CompatExtAttr      = ext4.SbFeatureCompatExtAttr
	CompatResizeInode  = ext4.SbFeatureCompatResizeInode
	CompatDirIndex     = ext4.SbFeatureCompatDirIndex
	CompatSparseSuper2 = uint32(0x200)
	CompatFastCommit   = uint32(0x400)
	CompatStableInodes = uint32(0x800)
	CompatOrphanFile   = uint32(0x1000)
)

// Features without which a filesystem must not be written (s_feature_ro_compat).
const (
	RoCompatSparseSuper   = ext4.SbFeatureRoCompatSparseSuper
	RoCompatGdtCsum       = ext4.SbFeatureRoCompatGdtCsum
	RoCompatQuota         = ext4.SbFeatureRoCompatQuota
	RoCompatBigalloc      = ext4.SbFeatureRoCompatBigAlloc
	RoCompatMetadataCsum  = ext4.SbFeatureRoCompatMetadataCsum
	RoCompatSharedBlocks  = uint32(0x4000)
	RoCompatVerity        = uint32(0x8000)
	RoCompatOrphanPresent = uint32(0x10000)
)

// Features without which a filesystem must not be read (s_feature_incompat).
const (
	IncompatFiletype   = ext4.SbFeatureIncompatFiletype
	IncompatRecover    = ext4.SbFeatureIncompatRecover
	IncompatJournalDev = ext4.SbFeatureIncompatJournalDev
	IncompatMetaBg     = ext4.SbFeatureIncompatMetaBg
	IncompatExtents    = ext4.SbFeatureIncompatExtents
	Incompat64bit      = ext4.SbFeatureIncompat64bit
	IncompatMmp        = ext4.SbFeatureIncompatMmp
	IncompatFlexBg     = ext4.SbFeatureIncompatFlexBg
	IncompatEaInode    = uint32(0x400)
	IncompatCsumSeed   = uint32(0x2000)
	IncompatLargeDir   = ext4.SbFeatureIncompatLargeDir
	IncompatInlineData = ext4.SbFeatureIncompatInlineData
	IncompatEncrypt    = ext4.SbFeatureIncompatEncrypt
	IncompatDirData    = uint32(0x1000)
	IncompatCasefold   = uint32(0x20000)
)

// The features that this package decodes, and features of the kernel's ext4
// that do not matter to it.
const (
	knownIncompat = IncompatFiletype | IncompatRecover | IncompatJournalDev | IncompatMetaBg | IncompatExtents |
		Incompat64bit | IncompatMmp | IncompatFlexBg | IncompatEaInode | IncompatCsumSeed | IncompatLargeDir |
		IncompatInlineData | IncompatEncrypt | IncompatCasefold
	knownRoCompat = 0x0001 | 0x0002 | 0x0004 | 0x0008 | // sparse_super, large_file, btree_dir, huge_file
		0x0010 | 0x0020 | 0x0040 | 0x0080 | // gdt_csum, dir_nlink, extra_isize, has_snapshot
		0x0100 | 0x0200 | 0x0400 | 0x0800 | // quota, bigalloc, metadata_csum, replica
		0x1000 | 0x2000 | 0x4000 | 0x8000 | // readonly, project, shared_blocks, verity
		0x10000 // orphan_present
)

// layoutNames are the names of incompatible features that are not decoded: they
// change the layout of structures.
var layoutNames = map[uint32]string{
	0x0001:          "compression",
	IncompatDirData: "dirdata",
}

// UnknownFeatures returns the features in s_feature_incompat and
// s_feature_ro_compat that this package does not decode, by name where they have
// one, else by their bit: "dirdata", "incompat 0x80000000", "ro_compat 0x20000".
func (sb *Superblock) UnknownFeatures() (incompat, roCompat []string) {
	for bits := sb.d.SFeatureIncompat &^ knownIncompat; bits != 0; bits &= bits - 1 {
		bit := bits & -bits
		name := layoutNames[bit]
		if name == "" {
			name = fmt.Sprintf("incompat %#x", bit)
		}
		incompat = append(incompat, name)
	}
	for bits := sb.d.SFeatureRoCompat &^ knownRoCompat; bits != 0; bits &= bits - 1 {
		roCompat = append(roCompat, fmt.Sprintf("ro_compat %#x", bits&-bits))
	}
	return incompat, roCompat
}
