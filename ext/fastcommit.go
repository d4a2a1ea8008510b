package ext

import "encoding/binary"

// The fast-commit area holds the changes since the last full commit as tags
// (type, length, value; little-endian, in contrast to the rest of the
// journal). A fast commit runs over as many blocks as it needs, each filled up
// with a PAD, and ends in a TAIL with a crc32c over all its tags. The first
// tag of the area is a HEAD that names the transaction.
//
//	0     2        4
//	+-----+--------+----------------------------------------------+
//	| tag | length | value                                        |
//	+-----+--------+----------------------------------------------+
//	HEAD       features, transaction
//	ADD_RANGE  inode, extent (12 bytes, as in an extent tree)
//	DEL_RANGE  inode, first logical block, count
//	CREAT, LINK, UNLINK  parent inode, inode, name
//	INODE      inode, the inode's bytes
//	TAIL       transaction, crc
const fastCommitTagLen = 4

// A FastCommitType is the type of a tag (EXT4_FC_TAG_*).
type FastCommitType uint16

// The types of tags.
const (
	FastCommitAddRange FastCommitType = iota + 1
	FastCommitDelRange
	FastCommitCreate
	FastCommitLink
	FastCommitUnlink
	FastCommitInode
	FastCommitPad
	FastCommitTail
	FastCommitHead
)

// A FastCommitTag is one tag. Which fields it has is for its type to say; the
// others are zero.
type FastCommitTag struct {
	Type        FastCommitType
	Inode       uint32 // all but HEAD, PAD and TAIL
	Parent      uint32 // CREAT, LINK, UNLINK
	Name        []byte // CREAT, LINK, UNLINK
	Logical     uint32 // ADD_RANGE, DEL_RANGE: first block in the file
	Count       uint32 // ADD_RANGE, DEL_RANGE: blocks
	Physical    uint64 // ADD_RANGE: first block on disk
	Unwritten   bool   // ADD_RANGE
	Raw         []byte // INODE: the inode up to the end of its extra fields
	Features    uint32 // HEAD
	Transaction uint32 // HEAD, TAIL
	Checksum    uint32 // TAIL
	Value       []byte // all that is behind type and length
}

// extentInitMax is the largest length of an initialised extent; longer ones
// are uninitialised, by that much shorter.
const extentInitMax = 1 << 15

// decodeFastCommit decodes a tag of that type from its value; ok is false if
// the value is too short or the type unknown.
func decodeFastCommit(typ FastCommitType, v []byte) (t FastCommitTag, ok bool) {
	le := binary.LittleEndian
	t.Type, t.Value = typ, v
	var need int
	switch typ {
	case FastCommitAddRange:
		need = 16
	case FastCommitDelRange:
		need = 12
	case FastCommitCreate, FastCommitLink, FastCommitUnlink, FastCommitTail, FastCommitHead:
		need = 8
	case FastCommitInode:
		need = 4 + goodOldInodeSize
	case FastCommitPad:
		return t, true
	default:
		return t, false
	}
	if len(v) < need {
		return t, false
	}
	switch typ {
	case FastCommitAddRange:
		t.Inode = le.Uint32(v)
		t.Logical = le.Uint32(v[4:])
		t.Count = uint32(le.Uint16(v[8:]))
		t.Physical = uint64(le.Uint16(v[10:]))<<32 | uint64(le.Uint32(v[12:]))
		if t.Count > extentInitMax {
			t.Count -= extentInitMax
			t.Unwritten = true
		}
	case FastCommitDelRange:
		t.Inode, t.Logical, t.Count = le.Uint32(v), le.Uint32(v[4:]), le.Uint32(v[8:])
	case FastCommitCreate, FastCommitLink, FastCommitUnlink:
		t.Parent, t.Inode, t.Name = le.Uint32(v), le.Uint32(v[4:]), v[8:]
	case FastCommitInode:
		t.Inode, t.Raw = le.Uint32(v), v[4:]
	case FastCommitTail:
		t.Transaction, t.Checksum = le.Uint32(v), le.Uint32(v[4:])
	case FastCommitHead:
		t.Features, t.Transaction = le.Uint32(v), le.Uint32(v[4:])
	}
	return t, true
}

// DecodeFastCommit decodes the tag that b begins with; ok is false if there is
// no valid tag. The result aliases b.
func DecodeFastCommit(b []byte) (t FastCommitTag, ok bool) {
	if len(b) < fastCommitTagLen {
		return t, false
	}
	n := fastCommitTagLen + int(binary.LittleEndian.Uint16(b[2:]))
	if n > len(b) {
		return t, false
	}
	return decodeFastCommit(FastCommitType(binary.LittleEndian.Uint16(b)), b[fastCommitTagLen:n])
}

// FastCommitScan goes through the fast-commit area block by block, as the scan
// pass of a recovery does.
type FastCommitScan struct {
	transaction uint32
	crc         uint32
	seen        uint32 // blocks
	valid       uint32 // blocks up to the last good tail
	done        bool
	end         FastCommitEnd
}

// A FastCommitEnd is where fast commits end: a block of their area, counted
// from its first, and an offset in that.
type FastCommitEnd struct {
	Block  uint32
	Offset int
}

// NewFastCommitScan starts a scan for fast commits on top of transaction, the
// first that is not in the log.
func NewFastCommitScan(transaction uint32) *FastCommitScan {
	return &FastCommitScan{transaction: transaction}
}

// Blocks is the number of blocks, from the first on, with fast commits that
// have a good tail.
func (s *FastCommitScan) Blocks() uint32 { return s.valid }

// End is the end of the bytes that determine the scan: behind the last good
// tail, or, without one, behind the tag that stopped the scan. Of an invalid
// tag, only type and length count.
func (s *FastCommitScan) End() FastCommitEnd { return s.end }

// Block takes the next block and reports whether recovery would read a further
// one. yield, unless nil, is called with every valid tag, also with the tags of
// a fast commit that turns out to have no good tail. Its argument aliases
// block.
func (s *FastCommitScan) Block(block []byte, yield func(*FastCommitTag)) (more bool) {
	if s.done {
		return false
	}
	s.done = true // unless all goes well
	for off := 0; len(block)-off >= fastCommitTagLen; {
		t, ok := DecodeFastCommit(block[off:])
		if !ok || s.seen == 0 && off == 0 && t.Type != FastCommitHead {
			s.extend(off + fastCommitTagLen)
			return false
		}
		n := fastCommitTagLen + len(t.Value)
		s.extend(off + n)
		switch t.Type {
		case FastCommitHead:
			if t.Features != 0 || t.Transaction != s.transaction {
				return false
			}
			s.crc = CRC32C(s.crc, block[off:off+n])
		case FastCommitTail:
			s.crc = CRC32C(s.crc, block[off:off+fastCommitTagLen+4])
			if t.Transaction != s.transaction || t.Checksum != s.crc {
				return false
			}
			s.crc = 0
			s.valid = s.seen + 1
			s.end = FastCommitEnd{s.seen, off + n}
		default:
			s.crc = CRC32C(s.crc, block[off:off+n])
		}
		if yield != nil {
			yield(&t)
		}
		off += n
	}
	s.seen++
	s.done = false
	return true
}

// extend moves End to off, the end of a tag, until there is a good tail.
func (s *FastCommitScan) extend(off int) {
	if s.valid == 0 {
		s.end = FastCommitEnd{s.seen, off}
	}
}
