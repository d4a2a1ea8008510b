package ext

import (
	"encoding/binary"
	"fmt"
)

// Extended attributes lie in the tail of a large inode, and in one block that
// inodes with equal attributes may share. Entries grow up from the start,
// values down from the end:
//
//	block                                     inode
//	+---------------------------+ 0           +---------------------------+ 128 + i_extra_isize
//	| magic, refcount, blocks,  |             | magic                     |
//	| hash, checksum, reserved  |             +---------------------------+ +4
//	+---------------------------+ 32          | entry                     |
//	| entry                     |             | entry                     |
//	| entry                     |             | four zero bytes           |
//	| four zero bytes           |             | ...                       |
//	| ...                       |             | value, value              |
//	| value, value              |             +---------------------------+ inode size
//	+---------------------------+ block size
//
//	entry
//	0      1       2         4            8            12     16
//	+------+-------+---------+------------+------------+------+----------+-----+
//	| nlen | index | v. offs | v. inode   | v. size    | hash | name     | pad |
//	+------+-------+---------+------------+------------+------+----------+-----+
//
// Value offsets count from the start of the block, or from the first entry in
// an inode. With ea_inode a large value lies in an inode of its own.
const (
	// Sizes in bytes.
	XattrHeaderLen = 32 // of the header of a block
	XattrEntryLen  = 16 // up to the name
	XattrMagicLen  = 4  // all the header there is in an inode

	xattrMagic       = 0xEA020000
	xattrMagicV1     = 0xEA010000
	xattrHashOffset  = 12 // of h_hash, and of e_hash
	extraIsizeOffset = 0x80
	atimeOffset      = 0x08

	xattrNameHashShift  = 5
	xattrValueHashShift = 16
	xattrBlockHashShift = 16
)

// Attribute name prefixes that stand for themselves (EXT4_XATTR_INDEX_*).
const (
	XattrUser            = 1
	XattrPosixACLAccess  = 2
	XattrPosixACLDefault = 3
	XattrTrusted         = 4
	XattrSecurity        = 6
	XattrSystem          = 7
	XattrRichACL         = 8
	XattrEncryption      = 9
	XattrHurd            = 10
)

// XattrError tells where a list of attributes stops making sense.
type XattrError struct {
	What   string
	Offset int // from the start of the block or inode
}

func (e *XattrError) Error() string {
	return fmt.Sprintf("extended attributes: %s at offset %d", e.What, e.Offset)
}

// XattrHeader is the header of an attribute block.
type XattrHeader struct {
	Magic    uint32
	Refcount uint32
	Blocks   uint32
	Hash     uint32
	Checksum uint32
}

// DecodeXattrHeader decodes the header of an attribute block as it is; ok is
// false if block is too short to hold one.
func DecodeXattrHeader(block []byte) (h XattrHeader, ok bool) {
	if len(block) < XattrHeaderLen {
		return XattrHeader{}, false
	}
	le := binary.LittleEndian
	return XattrHeader{
		Magic:    le.Uint32(block),
		Refcount: le.Uint32(block[4:]),
		Blocks:   le.Uint32(block[8:]),
		Hash:     le.Uint32(block[xattrHashOffset:]),
		Checksum: le.Uint32(block[xattrChecksumOffset:]),
	}, true
}

// Valid reports whether e2fsck and the kernel would go on to the entries: the
// magic number of either version, and one block.
func (h XattrHeader) Valid() bool { return h.KnownMagic() && h.Blocks == 1 }

// KnownMagic reports whether the magic number is that of either version.
func (h XattrHeader) KnownMagic() bool {
	return h.Magic == xattrMagic || h.Magic == xattrMagicV1
}

// An Xattr is one entry. Name aliases the block that was read.
type Xattr struct {
	Offset      int // of the entry, from the start of the block or inode
	NameIndex   uint8
	Name        []byte
	ValueOffset uint16 // as stored
	ValueInode  uint32 // e_value_inum: the inode that holds the value, 0 if it lies here
	ValueSize   uint32 // bytes, as stored
	Hash        uint32
}

// IsInlineData reports whether the entry is system.data, the second part of
// inline data.
func (x *Xattr) IsInlineData() bool {
	return x.NameIndex == XattrSystem && string(x.Name) == "data"
}

// XattrReader walks the attributes of a block or an inode.
//
//	r := NewXattrBlockReader(block)
//	for r.Next() {
//		use(r.Entry())
//	}
//	if err := r.Err(); err != nil { ... }
type XattrReader struct {
	area  []byte // the whole block or inode
	base  int    // value offsets count from here
	next  int
	entry Xattr
	err   *XattrError
}

// NewXattrBlockReader reads the entries of an attribute block, whatever its
// header says: see [XattrHeader.Valid].
func NewXattrBlockReader(block []byte) XattrReader {
	if len(block) < XattrHeaderLen {
		return XattrReader{err: &XattrError{What: "no room for the header"}}
	}
	return XattrReader{area: block, next: XattrHeaderLen}
}

// NewInodeXattrReader reads the entries in the tail of an inode. inode is all
// of it, inode size bytes. An inode without attributes (no room, or no magic
// number) has no entries and no error; an impossible i_extra_isize is an error.
func NewInodeXattrReader(inode []byte) XattrReader {
	if len(inode) < goodOldInodeSize+4 {
		return XattrReader{}
	}
	extra := int(binary.LittleEndian.Uint16(inode[extraIsizeOffset:]))
	if extra == 0 {
		return XattrReader{}
	}
	start := goodOldInodeSize + extra
	if extra < 4 || extra&3 != 0 || start > len(inode) {
		return XattrReader{err: &XattrError{What: "impossible i_extra_isize", Offset: extraIsizeOffset}}
	}
	if len(inode)-start < XattrMagicLen || binary.LittleEndian.Uint32(inode[start:]) != xattrMagic {
		return XattrReader{}
	}
	return XattrReader{area: inode, base: start + XattrMagicLen, next: start + XattrMagicLen}
}

// Next goes to the next entry. It returns false at the end of the list and at
// the first invalid entry. An entry with a value outside the block is still
// valid: see Value.
func (r *XattrReader) Next() bool {
	if r.err != nil {
		return false
	}
	b := r.area[r.next:]
	if len(b) < 4 || binary.LittleEndian.Uint32(b) == 0 {
		return false
	}
	if len(b) < XattrEntryLen || len(b) < XattrEntryLen+int(b[0]) {
		r.err = &XattrError{What: "entry runs over the end", Offset: r.next}
		return false
	}
	le := binary.LittleEndian
	nameEnd := XattrEntryLen + int(b[0])
	r.entry = Xattr{
		Offset:      r.next,
		NameIndex:   b[1],
		Name:        b[XattrEntryLen:nameEnd],
		ValueOffset: le.Uint16(b[2:]),
		ValueInode:  le.Uint32(b[4:]),
		ValueSize:   le.Uint32(b[8:]),
		Hash:        XattrEntryHash(b),
	}
	r.next += min((nameEnd+3)&^3, len(b))
	return true
}

// Entry is the entry Next went to, valid until the next call of Next.
func (r *XattrReader) Entry() *Xattr { return &r.entry }

// Found reports whether there is a list: an inode without the magic number has
// none.
func (r *XattrReader) Found() bool { return r.area != nil || r.err != nil }

// Err is an *XattrError where the list broke off, nil where it reached its end.
func (r *XattrReader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// ValueRange is where the value of the current entry lies, from the start of
// the block or inode. ok is false where it lies in an inode of its own or,
// wrongly, outside.
func (r *XattrReader) ValueRange() (offset, size int, ok bool) {
	off := r.base + int(r.entry.ValueOffset)
	if r.entry.ValueInode != 0 || off > len(r.area) || uint64(r.entry.ValueSize) > uint64(len(r.area)-off) {
		return 0, 0, false
	}
	return off, int(r.entry.ValueSize), true
}

// Value returns the value of the current entry, which aliases the block that
// was read; ok is as in ValueRange.
func (r *XattrReader) Value() (value []byte, ok bool) {
	off, size, ok := r.ValueRange()
	if !ok {
		return nil, false
	}
	return r.area[off : off+size], true
}

// XattrHash computes the hash of an entry (e_hash) from its name and, if the
// value lies beside it, the value; words beyond the value's end count as
// zeros, as they are on disk. The name's bytes are taken as unsigned, or as
// signed, which is how kernels on machines with signed chars wrote it; either
// is right.
//
// The value of an entry with an inode of its own is nil here, and its hash is
// added with [XattrHashInode].
func XattrHash(name, value []byte, signed bool) uint32 {
	var h uint32
	for _, c := range name {
		w := uint32(c)
		if signed {
			w = uint32(int32(int8(c)))
		}
		h = h<<xattrNameHashShift ^ h>>(32-xattrNameHashShift) ^ w
	}
	for ; len(value) >= 4; value = value[4:] {
		h = xattrHashWord(h, binary.LittleEndian.Uint32(value))
	}
	if len(value) > 0 {
		var last [4]byte
		copy(last[:], value)
		h = xattrHashWord(h, binary.LittleEndian.Uint32(last[:]))
	}
	return h
}

// XattrHashInode adds the hash of a value in an inode of its own to that of
// the name.
func XattrHashInode(nameHash, valueHash uint32) uint32 {
	return xattrHashWord(nameHash, valueHash)
}

func xattrHashWord(h, w uint32) uint32 {
	return h<<xattrValueHashShift ^ h>>(32-xattrValueHashShift) ^ w
}

// XattrBlockHash computes the hash of an attribute block (h_hash) from those
// of its entries: 0 if one of them is 0, which keeps the block from being shared.
func XattrBlockHash(block []byte) uint32 {
	var h uint32
	r := NewXattrBlockReader(block)
	for r.Next() {
		if r.entry.Hash == 0 {
			return 0
		}
		h = h<<xattrBlockHashShift ^ h>>(32-xattrBlockHashShift) ^ r.entry.Hash
	}
	return h
}

// XattrEntryHash returns the hash that an entry has (e_hash).
func XattrEntryHash(entry []byte) uint32 {
	return binary.LittleEndian.Uint32(entry[xattrHashOffset:])
}

// SetXattrEntryHash sets the hash of an entry.
func SetXattrEntryHash(entry []byte, hash uint32) {
	binary.LittleEndian.PutUint32(entry[xattrHashOffset:], hash)
}

// SetXattrBlockHash sets the hash of an attribute block (h_hash).
func SetXattrBlockHash(block []byte, hash uint32) {
	binary.LittleEndian.PutUint32(block[xattrHashOffset:], hash)
}

// SetXattrBlockChecksum sets the checksum of an attribute block (h_checksum).
func SetXattrBlockChecksum(block []byte, sum uint32) {
	binary.LittleEndian.PutUint32(block[xattrChecksumOffset:], sum)
}

// XattrValueHashField returns the hash of the value of an EA inode, which is
// in i_atime. [XattrValueHash] computes it.
func XattrValueHashField(inode []byte) []byte {
	return inode[atimeOffset : atimeOffset+4 : atimeOffset+4]
}
