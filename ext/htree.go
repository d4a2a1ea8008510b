package ext

import "encoding/binary"

// An index block of a directory hides its entries from linear readers: the
// root behind "." and a ".." that is as long as the rest of the block, a node
// behind an unused entry that spans the block.
//
//	root                                        node
//	+-----------------------------------+ 0     +-----------------------------------+ 0
//	| "."                               |       | inode 0, rec_len                  |
//	+-----------------------------------+ 12    +-----------------------------------+ 8
//	| ".."                              |       | limit, count, block               |
//	+-----------------------------------+ 24    | hash, block                       |
//	| 0, hash version, 8, levels, flags |       | hash, block                       |
//	+-----------------------------------+ 32    | ...                               |
//	| limit, count, block               |       | tail: 0, checksum                 |
//	| hash, block                       |       +-----------------------------------+
//	| ...                               |
//
// (struct dx_root, dx_node, dx_entry, dx_tail.) The entries ascend by hash, and
// each leads to a block with names from that hash on; a hash with its lowest
// bit set goes on with one that the block before ends in.
const (
	dxEntryLen  = 8
	dxTailLen   = 8
	dxInfoLen   = 8
	dxNodeStart = 8
	dxRootStart = 2*direntMinLen + dxInfoLen
)

// An IndexBlock is a view of a root or a node.
type IndexBlock struct {
	block []byte
	start int // of the entries; in place of the first one's hash stand limit and count
}

// DecodeIndexRoot takes block for the first of an indexed directory; false
// where that has no root, by the rule of e2fsck, or where neither "." and ".."
// nor its limit are those of one.
func DecodeIndexRoot(block []byte) (IndexBlock, bool) {
	if len(block) < dxRootStart+dxEntryLen {
		return IndexBlock{}, false
	}
	info := block[2*direntMinLen:]
	x := IndexBlock{block, 2*direntMinLen + int(info[5])}
	if binary.LittleEndian.Uint32(info) != 0 || info[5] < dxInfoLen || info[5]%4 != 0 || x.start+dxEntryLen > len(block) {
		return IndexBlock{}, false
	}
	fits := (len(block) - x.start) / dxEntryLen
	dots := block[direntHeaderLen] == '.' && string(block[direntMinLen+direntHeaderLen:][:2]) == ".."
	return x, dots || x.Limit() == fits || x.Limit() == fits-dxTailLen/dxEntryLen
}

// DecodeIndexNode decodes a block of an indexed directory as a node. It returns
// false if the block is not a node by the rule of e2fsck: the limit is the
// number of entries that fit.
func DecodeIndexNode(block []byte) (IndexBlock, bool) {
	if len(block) < dxNodeStart+dxEntryLen {
		return IndexBlock{}, false
	}
	le := binary.LittleEndian
	x := IndexBlock{block, dxNodeStart}
	fits := (len(block) - dxNodeStart) / dxEntryLen
	return x, le.Uint32(block) == 0 && RecLen(le.Uint16(block[4:]), len(block)) == len(block) && block[6] == 0 &&
		(x.Limit() == fits || x.Limit() == fits-dxTailLen/dxEntryLen)
}

// HashVersion returns hash_version of a root.
func (x IndexBlock) HashVersion() DirHash { return DirHash(x.block[2*direntMinLen+4]) }

// SetHashVersion sets hash_version of a root.
func (x IndexBlock) SetHashVersion(v DirHash) { x.block[2*direntMinLen+4] = byte(v) }

// Limit returns how many entries the block says that it has room for.
func (x IndexBlock) Limit() int { return int(binary.LittleEndian.Uint16(x.block[x.start:])) }

// Count returns the number of used entries, at most as many as fit.
func (x IndexBlock) Count() int {
	return min(int(binary.LittleEndian.Uint16(x.block[x.start+2:])), (len(x.block)-x.start)/dxEntryLen)
}

// Hash returns the four bytes of the hash of entry i, which is neither the
// first nor beyond Count.
func (x IndexBlock) Hash(i int) []byte {
	off := x.start + i*dxEntryLen
	return x.block[off : off+4]
}

// Limits returns limit and count, four bytes in place of the hash of the first
// entry.
func (x IndexBlock) Limits() []byte { return x.block[x.start : x.start+4] }

// Block returns the four bytes of the block number of entry i, which is below
// Count or zero.
func (x IndexBlock) Block(i int) []byte {
	off := x.start + i*dxEntryLen + 4
	return x.block[off : off+4]
}
