package signature

import (
	"encoding/binary"
	"io"
	"math"
	"math/bits"
)

// extents say of kinds of filesystems how many bytes one takes, by its own
// superblock: 0 where that makes no sense. head is at least headForExtent long.
var extents = map[string]func(head []byte) uint64{
	Ext: func(head []byte) uint64 {
		const superblock, has64bit = 1024, 0x80
		sb := head[superblock:]
		blocks := uint64(little.Uint32(sb[4:]))
		if little.Uint32(sb[0x60:])&has64bit != 0 {
			blocks |= uint64(little.Uint32(sb[0x150:])) << 32
		}
		return times(blocks, 1024<<min(little.Uint32(sb[0x18:]), 16))
	},
	"an XFS filesystem": func(head []byte) uint64 {
		return times(binary.BigEndian.Uint64(head[8:]), uint64(binary.BigEndian.Uint32(head[4:])))
	},
	"a btrfs filesystem": func(head []byte) uint64 {
		const device = 64<<10 + 0xc9 // of several, as each superblock has it
		return little.Uint64(head[device+8:])
	},
	"an NTFS filesystem": func(head []byte) uint64 {
		return times(little.Uint64(head[0x28:])+1, uint64(little.Uint16(head[0x0b:])))
	},
	"an exFAT filesystem": func(head []byte) uint64 {
		return times(little.Uint64(head[0x48:]), 1<<min(head[0x6c], 12))
	},
	"a FAT filesystem": func(head []byte) uint64 {
		sectors := uint64(little.Uint16(head[0x13:]))
		if sectors == 0 {
			sectors = uint64(little.Uint32(head[0x20:]))
		}
		return times(sectors, uint64(little.Uint16(head[0x0b:])))
	},
	"an F2FS filesystem": func(head []byte) uint64 {
		sb := head[1024:]
		return times(little.Uint64(sb[0x24:]), 1<<min(little.Uint32(sb[0x10:]), 16))
	},
	"a SquashFS filesystem": func(head []byte) uint64 { return little.Uint64(head[40:]) },
	"an ISO 9660 filesystem": func(head []byte) uint64 {
		volume := head[32<<10:]
		return times(uint64(little.Uint32(volume[80:])), uint64(little.Uint16(volume[128:])))
	},
}

var little = binary.LittleEndian

// headForExtent is how much of a filesystem its size is found in.
const headForExtent = 68 << 10

// times multiplies; what does not fit is as large as can be.
func times(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

// Extent returns how many bytes what s names takes, by its own word, where it
// begins with the first byte of r: 0 where that is not known.
func (s Signature) Extent(r io.ReaderAt) int64 {
	of := extents[s.Name]
	if of == nil {
		return 0
	}
	head := make([]byte, headForExtent)
	_, _ = r.ReadAt(head, 0) // what cannot be read says nothing
	return int64(min(of(head), math.MaxInt64))
}

// IsCopy tells whether the superblock of an ext filesystem by which r was
// recognised says that it is a copy, of a filesystem that begins elsewhere.
func (s Signature) IsCopy(r io.ReaderAt) bool {
	const groupAt = 1024 + 0x5a // s_block_group_nr
	var b [2]byte
	if s.Name != Ext {
		return false
	}
	_, err := r.ReadAt(b[:], groupAt)
	return err == nil && little.Uint16(b[:]) != 0
}
