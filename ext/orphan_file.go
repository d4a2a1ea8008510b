package ext

import "encoding/binary"

// orphanBlockMagic ends the entries of each block of an orphan file (struct
// ext4_orphan_block_tail).
const orphanBlockMagic = 0x0B10CA04

// IsOrphanBlock reports whether a block has the tail of an orphan file's
// blocks.
func IsOrphanBlock(block []byte) bool {
	return len(block) >= OrphanTailLen && binary.LittleEndian.Uint32(block[len(block)-OrphanTailLen:]) == orphanBlockMagic
}
