package ext

import ext4 "github.com/dsoprea/go-ext4"

// Features that may be ignored by who does not know them (s_feature_compat).
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
	IncompatCasefold   = uint32(0x20000)
)
