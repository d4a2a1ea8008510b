// Package signature recognises what a device or file holds by well-known bytes
// at well-known places: enough to name what was found in place of an ext
// filesystem, and to see that a target is not empty.
//
//	0      3      510    1024   1080   4086   4096    32 KiB   64 KiB   128 KiB     size
//	├──────┼──────┼──────┼──────┼──────┼──────┼───────┼────────┼────────┼───────────┤
//	XFS    NTFS   MBR    F2FS   ext    swap   bcache  ISO9660  btrfs    ZFS     md, VHD
package signature

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// A Signature is what a device or file was recognised as.
type Signature struct {
	Name       string // with an article where it needs one: "an XFS filesystem"
	Filesystem bool   // a filesystem, or what holds or is part of one, as LUKS, swap or a partition table

	// Of a member of an array or a cache, by its own superblock:
	Data    int64 // where its data begin, in bytes; 0 where that is not known, or at the start
	Level   int32 // of an md array
	Devices uint32
}

// Names returns the name of everything that Find recognises.
func Names() []string {
	names := []string{PartitionTable, QCOW2, Normal, RAID, BcacheCache, "a ZFS pool"}
	for _, m := range slices.Concat(filesystems, formats, ends) {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
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
		return member(Signature{Name: name, Filesystem: true}, head, size), true, nil
	}
	end, err := atEnd(r, size)
	if err != nil {
		return Signature{}, false, err
	}
	switch {
	case end.Filesystem:
		return end, true, nil
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
	return end, end.Name != "", nil
}

func match(head []byte, table []magic) (string, bool) {
	for _, m := range table {
		if int64(len(head)) >= m.off && bytes.HasPrefix(head[m.off:], []byte(m.bytes)) {
			return m.name, true
		}
	}
	return "", false
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
