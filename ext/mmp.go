package ext

import "encoding/binary"

// The block of multi-mount protection begins with struct mmp_struct, MMPSize
// bytes:
//
//	0       4     8      16         80            112        114       0x3FC
//	+-------+-----+------+----------+-------------+----------+---------+----------+
//	| magic | seq | time | nodename | device name | interval | padding | checksum |
//	+-------+-----+------+----------+-------------+----------+---------+----------+
const (
	// MMPSize is the size of the used part of the block, in bytes.
	MMPSize = 1024

	mmpNodeName = 16
	mmpDevice   = 80
	mmpInterval = 112
)

// IsMMP reports whether a block has the magic number of one.
func IsMMP(block []byte) bool {
	const magic = 0x004D4D50 // EXT4_MMP_MAGIC
	return len(block) >= MMPSize && binary.LittleEndian.Uint32(block) == magic
}
