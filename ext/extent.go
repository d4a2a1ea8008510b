package ext

import (
	"encoding/binary"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

const (
	extentMagic      = 0xF30A
	extentHeaderSize = int(unsafe.Sizeof(ext4.ExtentHeaderNode{}))
	extentSize       = int(unsafe.Sizeof(ext4.ExtentLeafNode{}))

	maxInitExtent = 32768 // a longer ee_len says unwritten
)

// An ExtentNode is a view of one node of an extent tree: i_block or a block.
//
//	┌────────┬───────┬───────┬─────┬──────┐
//	│ header │ entry │ entry │ ... │ tail │   12 bytes each; the tail, in blocks, 4
//	└────────┴───────┴───────┴─────┴──────┘
//
// At depth 0 entries are extents, above they are index entries.
type ExtentNode []byte

var (
	extentHeader ext4.ExtentHeaderNode
	extentIndex  ext4.ExtentIndexNode
	extentLeaf   ext4.ExtentLeafNode
)

// Valid reports whether the header has the magic number. Its depth may be
// impossible: e2fsck walks such a tree to repair it.
func (n ExtentNode) Valid() bool {
	return len(n) >= extentHeaderSize &&
		binary.LittleEndian.Uint16(n[unsafe.Offsetof(extentHeader.EhMagic):]) == extentMagic
}

// Sound reports whether e2fsck would accept the header: the depth is at most
// five, eh_max is at most two entries below the room in the node, and
// eh_entries is not larger than eh_max.
func (n ExtentNode) Sound() bool {
	if !n.Valid() {
		return false
	}
	claimed, _ := n.Count()
	return n.Depth() <= 5 && n.Max() <= n.capacity() && n.Max() >= n.capacity()-2 && claimed <= n.Max()
}

// Depth returns eh_depth.
func (n ExtentNode) Depth() int {
	return int(binary.LittleEndian.Uint16(n[unsafe.Offsetof(extentHeader.EhDepth):]))
}

// capacity returns how many entries fit into the node, whatever eh_max says.
func (n ExtentNode) capacity() int { return (len(n) - extentHeaderSize) / extentSize }

// Count returns eh_entries, and how many of these entries fit into the node.
func (n ExtentNode) Count() (claimed, count int) {
	claimed = int(binary.LittleEndian.Uint16(n[unsafe.Offsetof(extentHeader.EhEntryCount):]))
	return claimed, min(claimed, n.capacity())
}

// Max returns eh_max.
func (n ExtentNode) Max() int {
	return int(binary.LittleEndian.Uint16(n[unsafe.Offsetof(extentHeader.EhMax):]))
}

// Index returns entry i of an index node: the block of the child node, and
// the first logical block below it.
func (n ExtentNode) Index(i int) (child uint64, logical uint32) {
	e := n[extentHeaderSize+i*extentSize:]
	child = uint64(binary.LittleEndian.Uint32(e[unsafe.Offsetof(extentIndex.EiLeafPhysicalBlockLo):])) |
		uint64(binary.LittleEndian.Uint16(e[unsafe.Offsetof(extentIndex.EiLeafPhysicalBlockHi):]))<<32
	return child, binary.LittleEndian.Uint32(e[unsafe.Offsetof(extentIndex.EiLogicalBlock):])
}

// An Extent is a run of blocks of a file.
type Extent struct {
	Logical   uint32 // first block in the file
	Start     uint64 // first block on the disk
	Len       uint32 // blocks
	Unwritten bool   // allocated, never written: reads as zero
}

// Extent returns entry i of a leaf node.
func (n ExtentNode) Extent(i int) Extent {
	e := n[extentHeaderSize+i*extentSize:]
	x := Extent{
		Logical: binary.LittleEndian.Uint32(e[unsafe.Offsetof(extentLeaf.EeFirstLogicalBlock):]),
		Len:     uint32(binary.LittleEndian.Uint16(e[unsafe.Offsetof(extentLeaf.EeLogicalBlockCount):])),
		Start: uint64(binary.LittleEndian.Uint32(e[unsafe.Offsetof(extentLeaf.EeStartPhysicalBlockLo):])) |
			uint64(binary.LittleEndian.Uint16(e[unsafe.Offsetof(extentLeaf.EeStartPhysicalBlockHi):]))<<32,
	}
	if x.Len > maxInitExtent {
		x.Len -= maxInitExtent
		x.Unwritten = true
	}
	return x
}

// ExtentChecksumField returns et_checksum of a block for which
// [ExtentBlockChecksum] is ok.
func ExtentChecksumField(block []byte) []byte {
	off, _ := extentTailOffset(block)
	return block[off : off+4 : off+4]
}
