package signature

import (
	"encoding/binary"
	"errors"
	"io"
)

const sector = 512 // what the superblocks of md and bcache count in

// Where bcache and md 1.2 keep their superblocks.
const (
	bcacheAt = 4096
	raid12At = 4096
)

// member adds what the superblock of a member of an array or of a cache says. Of
// bcache and bcachefs, which had the same magic at first, it says which it is.
func member(s Signature, head []byte, size int64) Signature {
	switch s.Name {
	case RAID:
		at := int64(0)
		if !isRAID(head, 0) {
			at = raid12At
		}
		return raid1(s, head[at:], at, size)
	case Bcache:
		return bcache(s, head[bcacheAt:], size)
	}
	return s
}

func isRAID(b []byte, at int) bool {
	return len(b) >= at+len(raidMagic) && string(b[at:at+len(raidMagic)]) == raidMagic
}

// raid1 adds what a superblock of md 1.x in byte at says: Linux,
// include/uapi/linux/raid/md_p.h, struct mdp_superblock_1. What it says of a place
// where it does not stand itself is not believed.
func raid1(s Signature, b []byte, at, size int64) Signature {
	const level, devices, dataOffset, superOffset, length = 72, 92, 128, 144, 256
	if len(b) < length || little.Uint32(b[4:]) != 1 || little.Uint64(b[superOffset:]) != uint64(at/sector) {
		return s
	}
	s.Level, s.Devices = int32(little.Uint32(b[level:])), little.Uint32(b[devices:])
	return s.dataAt(little.Uint64(b[dataOffset:]), size)
}

// raid0 adds what a superblock of md 0.90 says, in the order of bytes of its
// machine. The data begin at the start of the device.
func raid0(s Signature, b []byte, order binary.ByteOrder) Signature {
	const level, devices = 28, 40
	s.Level, s.Devices = int32(order.Uint32(b[level:])), order.Uint32(b[devices:])
	return s
}

// dataAt enters where the data begin, if that lies on the device.
func (s Signature) dataAt(sectors uint64, size int64) Signature {
	if sectors < uint64(size)/sector {
		s.Data = int64(sectors) * sector
	}
	return s
}

// bcache adds what a superblock of bcache says: Linux, drivers/md/bcache, struct
// cache_sb_disk.
func bcache(s Signature, b []byte, size int64) Signature {
	const (
		offset, version, dataOffset, length = 8, 16, 184, 208

		cacheDevice, backing, cacheWithUUID = 0, 1, 3
		backingWithOffset, cacheFeatures    = 4, 5
		backingFeatures                     = 6

		usualData = 16 // sectors
	)
	if len(b) < length || little.Uint64(b[offset:]) != bcacheAt/sector {
		s.Name = bcachefs
		return s
	}
	switch little.Uint64(b[version:]) {
	case cacheDevice, cacheWithUUID, cacheFeatures:
		s.Name = BcacheCache
	case backing:
		return s.dataAt(usualData, size)
	case backingWithOffset, backingFeatures:
		return s.dataAt(little.Uint64(b[dataOffset:]), size)
	}
	return s
}

// atEnd recognises what says at its end what it is: members of arrays, and two
// formats. ok is false for nothing.
//
//	size        -64 KiB, rounded    -8 KiB, rounded   -1024     -512
//	──────────────┼───────────────────┼─────────────────┼─────────┤
//	              md 0.90             md 1.0            isw       VHD, dmg
func atEnd(r io.ReaderAt, size int64) (Signature, error) {
	b := make([]byte, 4096)
	read := func(off int64) ([]byte, error) {
		if off < 0 || off >= size {
			return nil, nil
		}
		n, err := r.ReadAt(b, off)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return b[:n], err
	}
	raid := Signature{Name: RAID, Filesystem: true}
	end, err := read(size&^(64<<10-1) - 64<<10)
	switch {
	case err != nil:
		return Signature{}, err
	case isRAID(end, 0) && len(end) == len(b):
		return raid0(raid, end, little), nil
	case len(end) == len(b) && binary.BigEndian.Uint32(end) == little.Uint32([]byte(raidMagic)):
		return raid0(raid, end, binary.BigEndian), nil
	case isRAID(end, 0):
		return raid, nil
	}
	at := (size - 8<<10) &^ (4<<10 - 1)
	if end, err = read(at); err != nil {
		return Signature{}, err
	}
	if isRAID(end, 0) {
		return raid1(raid, end, at, size), nil
	}
	if end, err = read(size - 1024); err != nil {
		return Signature{}, err
	}
	for _, m := range ends {
		if from := int64(len(end)) - m.off; from >= 0 && string(end[from:][:len(m.bytes)]) == m.bytes {
			return Signature{Name: m.name, Filesystem: m.name == RAID}, nil
		}
	}
	return Signature{}, nil
}

// ends are bytes at so many bytes before the end.
var ends = []magic{
	{1024, "Intel Raid ISM Cfg Sig.", RAID},
	{512, "conectix", FixedVHD},
	{511, "conectix", FixedVHD}, // as Virtual PC before 2004 wrote it
	{512, "koly", "an Apple disk image"},
}
