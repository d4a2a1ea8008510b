package advise

import (
	"fmt"

	"e2qcow/internal/signature"
)

// OnContent says what to do where something else than an ext filesystem was
// found, "" where nothing is known. start is where it begins in the source, in
// bytes: -o counts from the start of the source.
func OnContent(s signature.Signature, start int64) string {
	switch s.Name {
	case signature.RAID:
		return onRAID(s, start)
	case signature.Bcache:
		text := "register it: echo DEVICE > /sys/fs/bcache/register, then read /dev/bcache0"
		if s.Data > 0 {
			text += fmt.Sprintf("; what is in the cache only is missing then, but you can also try -o %s", Offset(start+s.Data))
		}
		return text
	}
	return onContents[s.Name]
}

// onRAID says what to do with a member of an array. Of a mirror each member holds
// all of the data.
func onRAID(s signature.Signature, start int64) string {
	const mirror = 1
	text := "assemble it: mdadm --assemble --readonly /dev/md0 DEVICES, then read /dev/md0"
	if s.Devices > 0 {
		text = fmt.Sprintf("assemble its %s: mdadm --assemble --readonly /dev/md0 DEVICES, then read /dev/md0", Count(uint64(s.Devices), "device"))
	}
	if s.Level == mirror && start+s.Data > 0 {
		text += fmt.Sprintf("; as it is a mirror (RAID1), you can also try -o %s", Offset(start+s.Data))
	}
	return text
}

// Offset returns a number of bytes as -o takes it.
func Offset(n int64) string {
	const sector, kib, mib = 512, 1 << 10, 1 << 20
	switch {
	case n == 0:
		return "0"
	case n%mib == 0:
		return fmt.Sprintf("%dM", n/mib)
	case n%kib == 0:
		return fmt.Sprintf("%dK", n/kib)
	case n%sector == 0:
		return fmt.Sprintf("%ds", n/sector)
	}
	return fmt.Sprint(n)
}

const (
	toRaw     = "convert it: qemu-img convert -O raw IMAGE disk.raw"
	otherKind = "; e2qcow reads ext2, ext3 and ext4 only"
)

var onContents = map[string]string{
	signature.PartitionTable:     "name a partition of it with --partition",
	"a LUKS container":           "open it: cryptsetup open DEVICE NAME, then read /dev/mapper/NAME",
	"a BitLocker volume":         "open it: cryptsetup open --type bitlk DEVICE NAME, then look at /dev/mapper/NAME",
	"a dm-integrity device":      "open it: integritysetup open DEVICE NAME, then read /dev/mapper/NAME",
	"a table of dm-verity":       "it holds hashes only; name the device with the data",
	"a VDO volume":               "start it (vgchange -ay, or vdo start), then read what is on it",
	"an LVM physical volume":     "activate it: vgchange -ay, then read the logical volume /dev/VG/LV (lvs lists them); of an image, attach it first: losetup -f --show IMAGE",
	signature.BcacheCache:        "it holds no filesystem; register it with its backing device, then read /dev/bcache0",
	"a ZFS pool":                 "zdb looks at its structure" + otherKind,
	"an XFS filesystem":          "xfs_metadump saves its metadata" + otherKind,
	"a btrfs filesystem":         "btrfs-image saves its metadata" + otherKind,
	"an NTFS filesystem":         "ntfsclone --metadata saves its metadata" + otherKind,
	"an OCFS2 filesystem":        "o2image saves its metadata" + otherKind,
	"a GFS2 filesystem":          "gfs2_edit savemeta saves its metadata" + otherKind,
	"a bcachefs filesystem":      "bcachefs dump saves its metadata" + otherKind,
	"a ReiserFS filesystem":      "debugreiserfs -p saves its metadata" + otherKind,
	"an F2FS filesystem":         "dump.f2fs looks at its structure" + otherKind,
	"a NILFS2 filesystem":        "dumpseg looks at its structure" + otherKind,
	"an EROFS filesystem":        "dump.erofs looks at its structure" + otherKind,
	"a JFS filesystem":           "jfs_debugfs looks at its structure" + otherKind,
	"a FAT filesystem":           "partclone.vfat saves what is in use" + otherKind,
	"an exFAT filesystem":        "partclone.exfat saves what is in use" + otherKind,
	"an HFS+ filesystem":         "partclone.hfsp saves what is in use" + otherKind,
	"an APFS container":          "partclone.apfs saves what is in use" + otherKind,
	"an ISO 9660 filesystem":     "isoinfo looks at its structure" + otherKind,
	"a UDF filesystem":           "udfinfo looks at its structure" + otherKind,
	"a SquashFS filesystem":      "extract it: unsquashfs FILE; an image of a disk may be in it",
	"a Ceph BlueStore device":    "ceph-bluestore-tool looks at its structure" + otherKind,
	"swap space":                 "it holds no files; check the name of the device",
	"an Android super partition": "take its partitions out: lpunpack IMAGE FOLDER, then read one of them",

	"gzip data":              "decompress it: gzip -dc FILE > disk.raw",
	"xz data":                "decompress it: xz -dc FILE > disk.raw",
	"zstd data":              "decompress it: zstd -dc FILE > disk.raw",
	"bzip2 data":             "decompress it: bzip2 -dc FILE > disk.raw",
	"lz4 data":               "decompress it: lz4 -dc FILE > disk.raw",
	"lzop data":              "decompress it: lzop -dc FILE > disk.raw",
	"lzip data":              "decompress it: lzip -dc FILE > disk.raw",
	"a zip archive":          "extract it: unzip FILE, then name the image that was in it",
	"a 7z archive":           "extract it: 7z x FILE, then name the image that was in it",
	"a RAR archive":          "extract it: unrar x FILE, then name the image that was in it",
	"a tar archive":          "extract it: tar -xf FILE, then name the image that was in it",
	"a VMDK image":           toRaw,
	"a VHDX image":           toRaw,
	"a VDI image":            toRaw,
	"a VHD image":            toRaw,
	"a QED image":            toRaw,
	"a Parallels image":      toRaw,
	"a Bochs image":          toRaw,
	"an Apple disk image":    toRaw,
	signature.FixedVHD:       "its disk begins with the first byte, and nothing known is there; e2qcow info --search SOURCE lists the places that hold a superblock",
	signature.Sparse:         "without --source-format=raw the disk in it is read; where a raw disk is needed, convert it with simg2img first",
	"an Android OTA payload": "take its partitions out: payload-dumper-go FILE, then read one of them",
	"an Android boot image":  "it holds a kernel, and no filesystem; unpack_bootimg takes it apart",
	"a partclone image":      "restore it: partclone.restore -C -s IMAGE -O disk.raw, then read disk.raw",
	"a partimage image":      "restore it with partimage restore, then read what it wrote",
	"a fsarchiver archive":   "it holds files, and no structure of a filesystem; name the device",
	"an ntfsclone image":     "it holds NTFS" + otherKind,
	"an EWF (E01) image":     "mount it: ewfmount IMAGE FOLDER, then read FOLDER/ewf1",
	"an AFF image":           "mount it: affuse IMAGE FOLDER, then read what is in FOLDER",
	"a map file of ddrescue": "name the image that ddrescue rescued, and the map with --bad-map",
	"a pointer of Git LFS":   "get the file that it stands for: git lfs pull",
	"a web page":             "it was saved in place of the image; get the image again",
	"an ELF file":            "check the name; it is a program",
	signature.QCOW2:          "restore it with -r first",
	signature.Split:          "finish the move first: run -ra with the journal of the move",
	signature.Normal:         "leave --source-format=raw out to read it as one",
}
