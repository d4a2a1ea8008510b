// Package signature recognises what a device or file holds by well-known bytes
// at well-known places: enough to name what was found in place of an ext
// filesystem, and to see that a target is not empty.
//
//	0      3      510    1024   1080   4086      32 KiB   64 KiB   128 KiB     size
//	├──────┼──────┼──────┼──────┼──────┼─────────┼────────┼────────┼───────────┤
//	XFS    NTFS   MBR    F2FS   ext    swap      ISO9660  btrfs    ZFS       md
package signature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// A Signature is what a device or file was recognised as.
type Signature struct {
	Name       string // with an article where it needs one: "an XFS filesystem"
	Filesystem bool   // a filesystem, or what holds or is part of one, as LUKS, swap or a partition table
}

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
	{0, raidMagic, "a member of a RAID array"},
	{4096, raidMagic, "a member of a RAID array"},
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
	{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "a bcachefs filesystem"},
	{64 << 10, "\x01\x16\x19\x70", "a GFS2 filesystem"},
	{1030, "\x34\x34", "a NILFS2 filesystem"},
	{1024, "H+\x00", "an HFS+ filesystem"},
	{32, "NXSB", "an APFS container"},
	{0, "bluestore block device", "a Ceph BlueStore device"},
	{512, "EFI PART", PartitionTable},
	{4096, "EFI PART", PartitionTable},
}

const (
	e2imageMagic = "\x10\xb7\x2b\x7fExt2 Image 1.0\x00\x00"
	raidMagic    = "\xfc\x4e\x2b\xa9"
)

var formats = []magic{
	{0, "QFI\xfb", QCOW2},
	{0, "\x1f\x8b", "gzip data"},
	{0, "\xfd7zXZ\x00", "xz data"},
	{0, "\x28\xb5\x2f\xfd", "zstd data"},
	{0, "BZh", "bzip2 data"},
	{0, "PK\x03\x04", "a zip archive"},
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
	{0, "EVF\x09\x0d\x0a\xff\x00", "an EWF (E01) image"},
	{64, "\x7f\x10\xda\xbe", "a VDI image"},
	{0, "\x7fELF", "an ELF file"},
}

// ZFS keeps a ring of uberblocks here, any of which may be in use.
const (
	zfsRing   = 128 << 10
	zfsEnd    = 256 << 10
	zfsUnit   = 1 << 10
	zfsMagic  = 0x00bab10c
	headBytes = zfsEnd
)

// Find returns what the first size bytes of r hold; ok is false where that is
// nothing known. The error is that of a read that failed.
func Find(r io.ReaderAt, size int64) (s Signature, ok bool, err error) {
	head := make([]byte, min(max(size, 0), headBytes))
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Signature{}, false, err
	}
	head = head[:n]
	// A qcow2 image may well hold the start of another in its first cluster,
	// but nothing that is not one begins with its magic.
	if bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return Signature{Name: QCOW2}, true, nil
	}
	// Behind it may stand a superblock.
	if bytes.HasPrefix(head, []byte(e2imageMagic)) {
		return Signature{Name: Normal}, true, nil
	}
	if name, ok := match(head, filesystems); ok {
		return Signature{Name: name, Filesystem: true}, true, nil
	}
	raid, err := raidAtEnd(r, size)
	if err != nil {
		return Signature{}, false, err
	}
	switch {
	case raid:
		return Signature{Name: "a member of a RAID array", Filesystem: true}, true, nil
	case hasZFS(head):
		return Signature{Name: "a ZFS pool", Filesystem: true}, true, nil
	}
	// No boot code begins with the magic of a format.
	if name, ok := match(head, formats); ok {
		return Signature{Name: name}, true, nil
	}
	if hasMBR(head) {
		return Signature{Name: PartitionTable, Filesystem: true}, true, nil
	}
	return Signature{}, false, nil
}

func match(head []byte, table []magic) (string, bool) {
	for _, m := range table {
		if int64(len(head)) >= m.off && bytes.HasPrefix(head[m.off:], []byte(m.bytes)) {
			return m.name, true
		}
	}
	return "", false
}

// raidAtEnd looks where Linux md keeps its superblock in versions 0.90 and 1.0.
func raidAtEnd(r io.ReaderAt, size int64) (bool, error) {
	for _, off := range []int64{size&^(64<<10-1) - 64<<10, (size - 8<<10) &^ (4<<10 - 1)} {
		if off < 0 {
			continue
		}
		var b [len(raidMagic)]byte
		if _, err := r.ReadAt(b[:], off); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if string(b[:]) == raidMagic {
			return true, nil
		}
	}
	return false, nil
}

func hasZFS(head []byte) bool {
	for off := zfsRing; off+8 <= len(head); off += zfsUnit {
		b := head[off:]
		if binary.LittleEndian.Uint64(b) == zfsMagic || binary.BigEndian.Uint64(b) == zfsMagic {
			return true
		}
	}
	return false
}

// hasMBR reports whether head begins with a partition table: the signature
// alone is on every boot sector.
func hasMBR(head []byte) bool {
	const table, entry, entries = 446, 16, 4
	if len(head) < 512 || head[510] != 0x55 || head[511] != 0xaa {
		return false
	}
	used := false
	for i := range entries {
		e := head[table+i*entry:]
		if e[0]&0x7f != 0 {
			return false
		}
		used = used || e[4] != 0
	}
	return used
}
