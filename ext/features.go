package ext

import ext4 "github.com/dsoprea/go-ext4"

// Features that may be ignored by who does not know them (s_feature_compat).
const (
	CompatHasJournal   = uint32(ext4.SbFeatureCompatHasJournal)
	CompatExtAttr      = uint32(ext4.SbFeatureCompatExtAttr)
	CompatResizeInode  = uint32(ext4.SbFeatureCompatResizeInode)
	CompatDirIndex     = uint32(ext4.SbFeatureCompatDirIndex)
	CompatSparseSuper2 = uint32(0x200)
	CompatFastCommit   = uint32(0x400)
	CompatStableInodes = uint32(0x800)
	CompatOrphanFile   = uint32(0x1000)
)

// Features without which a filesystem must not be written (s_feature_ro_compat).
const (
	RoCompatSparseSuper   = uint32(ext4.SbFeatureRoCompatSparseSuper)
	RoCompatGdtCsum       = uint32(ext4.SbFeatureRoCompatGdtCsum)
	RoCompatQuota         = uint32(ext4.SbFeatureRoCompatQuota)
	RoCompatBigalloc      = uint32(ext4.SbFeatureRoCompatBigAlloc)
	RoCompatMetadataCsum  = uint32(ext4.SbFeatureRoCompatMetadataCsum)
	RoCompatSharedBlocks  = uint32(0x4000)
	RoCompatVerity        = uint32(0x8000)
	RoCompatOrphanPresent = uint32(0x10000)
)

// Features without which a filesystem must not be read (s_feature_incompat).
const (
	IncompatFiletype   = uint32(ext4.SbFeatureIncompatFiletype)
	IncompatRecover    = uint32(ext4.SbFeatureIncompatRecover)
	IncompatJournalDev = uint32(ext4.SbFeatureIncompatJournalDev)
	IncompatMetaBg     = uint32(ext4.SbFeatureIncompatMetaBg)
	IncompatExtents    = uint32(ext4.SbFeatureIncompatExtents)
	Incompat64bit      = uint32(ext4.SbFeatureIncompat64bit)
	IncompatMmp        = uint32(ext4.SbFeatureIncompatMmp)
	IncompatFlexBg     = uint32(ext4.SbFeatureIncompatFlexBg)
	IncompatEaInode    = uint32(0x400)
	IncompatCsumSeed   = uint32(0x2000)
	IncompatLargeDir   = uint32(ext4.SbFeatureIncompatLargeDir)
	IncompatInlineData = uint32(ext4.SbFeatureIncompatInlineData)
	IncompatEncrypt    = uint32(ext4.SbFeatureIncompatEncrypt)
	IncompatCasefold   = uint32(0x20000)
)
