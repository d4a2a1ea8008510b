package signature

// The names of what e2qcow writes.
const (
	QCOW2  = "a qcow2 image"
	Normal = "a normal image of e2image"
)

// The names of what is decided by.
const (
	PartitionTable = "a partition table"
	Sparse         = "an Android sparse image"
	Ext            = "an ext2, ext3 or ext4 filesystem"
	RAID           = "a member of a RAID array"
	Bcache         = "a device of bcache"
	BcacheCache    = "a cache device of bcache"
	FixedVHD       = "a fixed VHD image"
	Split          = "a part of a filesystem that is being moved" // as internal/move marks it
)

// A magic is bytes at an offset.
type magic struct {
	off   int64
	bytes string
	name  string
}

// filesystems are tried in order, and before formats: what can stand at the
// start of a filesystem comes after it.
var filesystems = []magic{
	{1080, "\x53\xef", Ext},
	{1024, "e2qcow move\n", Split},
	{0, "XFSB", "an XFS filesystem"},
	{64<<10 + 64, "_BHRfS_M", "a btrfs filesystem"},
	{0, "LUKS\xba\xbe", "a LUKS container"},
	{4086, "SWAPSPACE2", "swap space"},
	{4086, "SWAP-SPACE", "swap space"},
	{16<<10 - 10, "SWAPSPACE2", "swap space"},
	{64<<10 - 10, "SWAPSPACE2", "swap space"},
	{0, "LABELONE", "an LVM physical volume"},
	{512, "LABELONE", "an LVM physical volume"},
	{1024, "LABELONE", "an LVM physical volume"},
	{1536, "LABELONE", "an LVM physical volume"},
	{0, raidMagic, RAID},
	{4096, raidMagic, RAID},
	{1024, "\x10\x20\xf5\xf2", "an F2FS filesystem"},
	{3, "NTFS    ", "an NTFS filesystem"},
	{3, "EXFAT   ", "an exFAT filesystem"},
	{3, "-FVE-FS-", "a BitLocker volume"},
	{54, "FAT1", "a FAT filesystem"},
	{82, "FAT32   ", "a FAT filesystem"},
	{32 << 10, "JFS1", "a JFS filesystem"},
	{64<<10 + 52, "ReIsEr", "a ReiserFS filesystem"},
	{32<<10 + 1, "CD001", "an ISO 9660 filesystem"},
	{0, "hsqs", "a SquashFS filesystem"},
	{1024, "\xe2\xe1\xf5\xe0", "an EROFS filesystem"},
	{4096 + 24, bcacheMagic, Bcache}, // or one of two others, which member tells apart
	{4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", bcachefs},
	{64 << 10, "\x01\x16\x19\x70", "a GFS2 filesystem"},
	{1030, "\x34\x34", "a NILFS2 filesystem"},
	{1024, "H+\x00", "an HFS+ filesystem"},
	{32, "NXSB", "an APFS container"},
	{1024, "OCFSV2", "an OCFS2 filesystem"},
	{2048, "OCFSV2", "an OCFS2 filesystem"},
	{4096, "OCFSV2", "an OCFS2 filesystem"},
	{8192, "OCFSV2", "an OCFS2 filesystem"},
	{32<<10 + 1, "BEA01", "a UDF filesystem"},
	{0, "dmvdo001", "a VDO volume"},
	{0, "integrt\x00", "a dm-integrity device"},
	{0, "verity\x00\x00", "a table of dm-verity"},
	{4096, "gDla", "an Android super partition"},
	{0, "bluestore block device", "a Ceph BlueStore device"},
	{512, "EFI PART", PartitionTable},
	{4096, "EFI PART", PartitionTable},
}

const bcachefs = "a bcachefs filesystem"

const (
	bcacheMagic  = "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"
	e2imageMagic = "\x10\xb7\x2b\x7fExt2 Image 1.0\x00\x00"
	raidMagic    = "\xfc\x4e\x2b\xa9"
)

var formats = []magic{
	{0, "QFI\xfb", QCOW2},
	{0, "\x1f\x8b", "gzip data"},
	{0, "\xfd7zXZ\x00", "xz data"},
	{0, "\x28\xb5\x2f\xfd", "zstd data"},
	{0, "BZh", "bzip2 data"},
	{0, "\x04\x22\x4d\x18", "lz4 data"},
	{0, "\x89LZO\x00\x0d\x0a\x1a\x0a", "lzop data"},
	{0, "LZIP", "lzip data"},
	{0, "PK\x03\x04", "a zip archive"},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{0, "Rar!\x1a\x07", "a RAR archive"},
	{257, "ustar", "a tar archive"},
	{0, "KDMV", "a VMDK image"},
	{0, "# Disk DescriptorFile", "a VMDK image"},
	{0, "COWD", "a VMDK image"},
	{0, "vhdxfile", "a VHDX image"},
	{0, "conectix", "a VHD image"},
	{0, "QED\x00", "a QED image"},
	{0, "WithoutFreeSpace", "a Parallels image"},
	{0, "WithouFreSpacExt", "a Parallels image"},
	{0, "\x3a\xff\x26\xed", Sparse},
	{0, "partclone-image", "a partclone image"},
	{0, "PaRtImAgE-VoLuMe", "a partimage image"},
	{0, "FsArCh_0", "a fsarchiver archive"},
	{0, "\x00ntfsclone-image", "an ntfsclone image"},
	{0, "EVF\x09\x0d\x0a\xff\x00", "an EWF (E01) image"},
	{0, "EVF2\x0d\x0a\x81\x00", "an EWF (E01) image"},
	{0, "LVF\x09\x0d\x0a\xff\x00", "an EWF (E01) image"},
	{0, "AFF1", "an AFF image"},
	{0, "CrAU", "an Android OTA payload"},
	{0, "ANDROID!", "an Android boot image"},
	{0, "Bochs Virtual HD Image", "a Bochs image"},
	{0, "# Mapfile. Created by GNU ddrescue", "a map file of ddrescue"},
	{0, "# Rescue Logfile. Created by GNU ddrescue", "a map file of ddrescue"},
	{0, "version https://git-lfs", "a pointer of Git LFS"},
	{0, "<!DOCTYPE html", "a web page"},
	{0, "<!doctype html", "a web page"},
	{0, "<html", "a web page"},
	{64, "\x7f\x10\xda\xbe", "a VDI image"},
	{0, "\x7fELF", "an ELF file"},
}
