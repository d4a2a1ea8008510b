package ext

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The journal (JBD2) is a ring of blocks behind a superblock, all of it
// big-endian:
//
//	0            s_first                            last             s_maxlen
//	+------------+----------------------------------+----------------+
//	| superblock | ring of transactions             | fast commits   |
//	+------------+----------------------------------+----------------+
//
// A transaction is any number of descriptors, each followed by the blocks it
// describes, and revoke blocks, then one commit block. Each of these begins
// with a header, 12 bytes: magic, type, sequence. Recovery starts at s_start
// with the sequence s_sequence and goes on while the headers fit.
//
//	descriptor                             tag, by features
//	+--------+-----+------+-----+------+   32 bit   64 bit   csum v3
//	| header | tag | uuid | tag | ...  |   0 block low
//	+--------+-----+------+-----+------+   4 checksum (16)   4 flags (32)
//	                                       6 flags (16)
//	revoke                                 8 -      8 block high
//	+--------+--------+-------+-------+                      12 checksum
//	| header | length | block | block |
//	+--------+--------+-------+-------+    csum v2 makes the first two 2 bytes longer
//
// A uuid of 16 bytes follows each tag without the flag "same uuid". With the
// checksums v2 or v3 descriptors and revoke blocks end in a crc32c. A block
// that begins with the magic number is stored with four zeros there instead,
// and flagged: it is escaped.
const (
	journalMagic     = 0xC03B3998
	journalHeaderLen = 12

	journalTypeDescriptor   = 1
	journalTypeCommit       = 2
	journalTypeSuperblockV1 = 3
	journalTypeSuperblockV2 = 4
	journalTypeRevoke       = 5

	journalSuperblockLen  = 1024
	journalChecksumOffset = 0xFC
	journalUUIDOffset     = 0x30
	journalTailLen        = 4
	journalUUIDLen        = 16
	journalRevokeStart    = journalHeaderLen + 4

	journalCommitTypeOffset     = 12
	journalCommitChecksumOffset = 16
	journalCommitTimeOffset     = 48
	journalCommitLen            = 60

	journalTagEscaped  = 1
	journalTagSameUUID = 2
	journalTagLast     = 8

	journalDefaultFastCommitBlocks = 256
	journalMinBlocks               = 1024

	journalChecksumCRC32  = 1
	journalChecksumCRC32C = 4
)

// Features of a journal.
const (
	JournalCompatChecksum      = 0x1
	JournalIncompatRevoke      = 0x1
	JournalIncompat64bit       = 0x2
	JournalIncompatAsyncCommit = 0x4
	JournalIncompatCsumV2      = 0x8
	JournalIncompatCsumV3      = 0x10
	JournalIncompatFastCommit  = 0x20

	journalIncompatKnown = JournalIncompatRevoke | JournalIncompat64bit | JournalIncompatAsyncCommit |
		JournalIncompatCsumV2 | JournalIncompatCsumV3 | JournalIncompatFastCommit
)

// JournalError describes an error in a journal.
type JournalError struct {
	What        string
	Block       uint32 // in the journal
	Unsupported bool   // not damaged, but of a kind that recovery does not know
	Err         error  // the cause, if there is one
}

func (e *JournalError) Error() string {
	s := fmt.Sprintf("journal block %d: %s", e.Block, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *JournalError) Unwrap() error { return e.Err }

// JournalSuperblock is the first block of a journal, as it is. A journal of
// version 1 has none of the fields from Compat on; they are 0 then.
type JournalSuperblock struct {
	Version          int    // 1 or 2
	BlockSize        uint32 // bytes
	MaxLen           uint32 // blocks, this one included
	First            uint32 // where the ring begins
	Sequence         uint32 // of the first transaction to recover
	Start            uint32 // block where that begins; 0: nothing to recover
	Errno            int32
	Compat           uint32
	Incompat         uint32
	RoCompat         uint32
	UUID             [journalUUIDLen]byte
	Users            uint32 // filesystems that share an external journal
	ChecksumType     uint8
	FastCommitBlocks uint32 // as stored: 0 stands for 256
	Head             uint32
	Checksum         uint32

	checksumOK bool
}

// DecodeJournalSuperblock decodes the first block of a journal, of which it
// needs 1024 bytes. It returns an error if the block is not that of a journal;
// [JournalSuperblock.Check] checks everything else.
func DecodeJournalSuperblock(b []byte) (*JournalSuperblock, error) {
	be := binary.BigEndian
	if len(b) < journalSuperblockLen {
		return nil, &JournalError{What: "superblock cut short"}
	}
	if be.Uint32(b) != journalMagic {
		return nil, &JournalError{What: "no journal superblock"}
	}
	j := &JournalSuperblock{
		BlockSize: be.Uint32(b[0x0C:]),
		MaxLen:    be.Uint32(b[0x10:]),
		First:     be.Uint32(b[0x14:]),
		Sequence:  be.Uint32(b[0x18:]),
		Start:     be.Uint32(b[0x1C:]),
		Errno:     int32(be.Uint32(b[0x20:])),
	}
	switch typ := be.Uint32(b[4:]); typ {
	case journalTypeSuperblockV1:
		j.Version = 1
	case journalTypeSuperblockV2:
		j.Version = 2
		j.Compat = be.Uint32(b[0x24:])
		j.Incompat = be.Uint32(b[0x28:])
		j.RoCompat = be.Uint32(b[0x2C:])
		copy(j.UUID[:], b[journalUUIDOffset:])
		j.Users = be.Uint32(b[0x40:])
		j.ChecksumType = b[0x50]
		j.FastCommitBlocks = be.Uint32(b[0x54:])
		j.Head = be.Uint32(b[0x58:])
		j.Checksum = be.Uint32(b[journalChecksumOffset:])
		j.checksumOK = j.Checksum == crc32cHole(^uint32(0), b[:journalSuperblockLen], journalChecksumOffset, 4)
	case journalTypeDescriptor, journalTypeCommit, journalTypeRevoke:
		return nil, &JournalError{What: "the superblock is another block of the journal"}
	default:
		return nil, &JournalError{What: fmt.Sprintf("superblock of an unknown type, %d", typ), Unsupported: true}
	}
	return j, nil
}

// Check reports why e2fsck would not recover from this journal: nil if it
// would. blockSize is the filesystem's, blocks the journal's length.
func (j *JournalSuperblock) Check(blockSize int, blocks uint64) error {
	bad := func(format string, args ...any) error { return &JournalError{What: fmt.Sprintf(format, args...)} }
	unsupported := func(format string, args ...any) error {
		return &JournalError{What: fmt.Sprintf(format, args...), Unsupported: true}
	}
	switch {
	case j.Users > 1:
		return unsupported("%d filesystems share it", j.Users)
	case j.Incompat&^journalIncompatKnown != 0:
		return unsupported("incompatible features %#x", j.Incompat&^journalIncompatKnown)
	case j.RoCompat != 0:
		return unsupported("read-only compatible features %#x", j.RoCompat)
	case j.Incompat&JournalIncompatCsumV2 != 0 && j.Incompat&JournalIncompatCsumV3 != 0,
		j.BlockChecksums() && j.Compat&JournalCompatChecksum != 0:
		return bad("more than one kind of checksums")
	case j.BlockChecksums() && j.ChecksumType != journalChecksumCRC32C:
		return bad("checksum type %d", j.ChecksumType)
	case j.BlockChecksums() && !j.checksumOK:
		return bad("wrong superblock checksum %#x", j.Checksum)
	case uint64(j.BlockSize) != uint64(blockSize):
		return bad("block size %d, the filesystem has %d", j.BlockSize, blockSize)
	case uint64(j.MaxLen) > blocks:
		return bad("length of %d blocks, there are %d", j.MaxLen, blocks)
	}
	first, last := j.ring()
	if j.Incompat&JournalIncompatFastCommit != 0 && last < journalMinBlocks {
		return bad("%d blocks for fast commits of %d", j.fastCommitBlocks(), j.MaxLen)
	}
	if first >= last {
		return bad("the ring begins at block %d and ends at %d", first, last)
	}
	return nil
}

// BlockChecksums reports whether every block has a crc32c (csum v2 or v3).
func (j *JournalSuperblock) BlockChecksums() bool {
	return j.Incompat&(JournalIncompatCsumV2|JournalIncompatCsumV3) != 0
}

func (j *JournalSuperblock) fastCommitBlocks() uint32 {
	if j.FastCommitBlocks == 0 {
		return journalDefaultFastCommitBlocks
	}
	return j.FastCommitBlocks
}

// ring is the part of the journal that transactions go round in: blocks first
// to last-1. first is not below last in a damaged journal only.
func (j *JournalSuperblock) ring() (first, last uint32) {
	last = j.MaxLen
	if j.Incompat&JournalIncompatFastCommit != 0 {
		last -= min(last, j.fastCommitBlocks())
	}
	return j.First, last
}

// FastCommitArea is where fast commits lie: blocks first to end-1. It is
// empty without the feature.
func (j *JournalSuperblock) FastCommitArea() (first, end uint32) {
	if j.Incompat&JournalIncompatFastCommit == 0 {
		return j.MaxLen, j.MaxLen
	}
	_, last := j.ring()
	// The kernel leaves the first block unused.
	return min(last+1, j.MaxLen), j.MaxLen
}

// seed is the start value of the checksums of the journal's blocks.
func (j *JournalSuperblock) seed() uint32 { return CRC32C(^uint32(0), j.UUID[:]) }

// tagLen is the length of a tag without its uuid.
func (j *JournalSuperblock) tagLen() int {
	if j.Incompat&JournalIncompatCsumV3 != 0 {
		return 16
	}
	n := 8
	if j.Incompat&JournalIncompat64bit != 0 {
		n += 4
	}
	if j.Incompat&JournalIncompatCsumV2 != 0 {
		n += 2
	}
	return n
}

// content is a descriptor or revoke block without its checksum.
func (j *JournalSuperblock) content(block []byte) []byte {
	if j.BlockChecksums() {
		return block[:max(len(block)-journalTailLen, 0)]
	}
	return block
}

// JournalHeader is the header of a descriptor, revoke or commit block.
type JournalHeader struct {
	Type     uint32
	Sequence uint32
}

// DecodeJournalHeader decodes the header of a block; ok is false if it has
// none.
func DecodeJournalHeader(block []byte) (h JournalHeader, ok bool) {
	if len(block) < journalHeaderLen || binary.BigEndian.Uint32(block) != journalMagic {
		return JournalHeader{}, false
	}
	return JournalHeader{Type: binary.BigEndian.Uint32(block[4:]), Sequence: binary.BigEndian.Uint32(block[8:])}, true
}

// A JournalTag says which filesystem block the next block of the journal is a
// copy of.
type JournalTag struct {
	Block    uint64
	Escaped  bool   // its first four bytes are the magic number, and zeros here
	Checksum uint32 // of the copy; 16 bits with csum v2, 0 without checksums
}

// JournalTagReader walks the tags of a descriptor.
type JournalTagReader struct {
	b       []byte
	j       *JournalSuperblock
	tagLen  int
	last    bool
	current JournalTag
	off     int // of the current tag in the block
	next    int // of the tag behind it
}

// Tags reads the tags of a descriptor block.
func (j *JournalSuperblock) Tags(block []byte) JournalTagReader {
	b := j.content(block)
	return JournalTagReader{b: b[min(journalHeaderLen, len(b)):], j: j, tagLen: j.tagLen(), next: journalHeaderLen}
}

// Next goes to the next tag; false at the last one, or where the block is full.
func (r *JournalTagReader) Next() bool {
	if r.last || len(r.b) < r.tagLen {
		return false
	}
	be := binary.BigEndian
	t := JournalTag{Block: uint64(be.Uint32(r.b))}
	if r.j.Incompat&JournalIncompat64bit != 0 {
		t.Block |= uint64(be.Uint32(r.b[8:])) << 32
	}
	switch {
	case r.j.Incompat&JournalIncompatCsumV3 != 0:
		t.Checksum = be.Uint32(r.b[12:])
	case r.j.Incompat&JournalIncompatCsumV2 != 0:
		t.Checksum = uint32(be.Uint16(r.b[4:]))
	}
	flags := be.Uint16(r.b[6:])
	t.Escaped = flags&journalTagEscaped != 0
	r.last = flags&journalTagLast != 0
	n := r.tagLen
	if flags&journalTagSameUUID == 0 {
		n += journalUUIDLen
	}
	r.off, r.next = r.next, r.next+n
	r.b = r.b[min(n, len(r.b)):]
	r.current = t
	return true
}

// Tag is the tag Next went to.
func (r *JournalTagReader) Tag() JournalTag { return r.current }

// Range returns the byte range of the current tag in the block, without its
// UUID.
func (r *JournalTagReader) Range() (start, end int) { return r.off, r.off + r.tagLen }

// Revokes calls yield with each filesystem block that a revoke block names. A
// block that recovery would not take gives an error.
func (j *JournalSuperblock) Revokes(block []byte, yield func(uint64)) error {
	if !j.VerifyBlock(block) {
		return &JournalError{What: "wrong checksum of a revoke block"}
	}
	b := j.content(block)
	if len(b) < journalRevokeStart {
		return &JournalError{What: "revoke block cut short"}
	}
	used := binary.BigEndian.Uint32(b[journalHeaderLen:])
	if uint64(used) > uint64(len(b)) {
		return &JournalError{What: fmt.Sprintf("revoke block with %d bytes in use", used)}
	}
	if used < journalRevokeStart {
		return nil
	}
	b = b[journalRevokeStart:used]
	if j.Incompat&JournalIncompat64bit != 0 {
		for ; len(b) >= 8; b = b[8:] {
			yield(binary.BigEndian.Uint64(b))
		}
		return nil
	}
	for ; len(b) >= 4; b = b[4:] {
		yield(uint64(binary.BigEndian.Uint32(b)))
	}
	return nil
}

// BlockChecksum computes the checksum (csum v2, v3) of a descriptor or revoke
// block, which its last four bytes hold.
func (j *JournalSuperblock) BlockChecksum(block []byte) uint32 {
	return crc32cHole(j.seed(), block, len(block)-journalTailLen, journalTailLen)
}

// VerifyBlock reports whether the checksum of a descriptor or revoke block is
// right, or the journal has none.
func (j *JournalSuperblock) VerifyBlock(block []byte) bool {
	if !j.BlockChecksums() {
		return true
	}
	return len(block) >= journalTailLen &&
		binary.BigEndian.Uint32(block[len(block)-journalTailLen:]) == j.BlockChecksum(block)
}

// CommitChecksum computes the checksum (csum v2, v3) of a commit block.
func (j *JournalSuperblock) CommitChecksum(block []byte) uint32 {
	return crc32cHole(j.seed(), block, journalCommitChecksumOffset, 4)
}

// VerifyCommit reports whether the checksum of a commit block is right, or
// the journal has none of that kind (csum v1 covers the whole transaction).
func (j *JournalSuperblock) VerifyCommit(block []byte) bool {
	if !j.BlockChecksums() {
		return true
	}
	return len(block) >= journalCommitLen &&
		binary.BigEndian.Uint32(block[journalCommitChecksumOffset:]) == j.CommitChecksum(block)
}

// TagChecksum computes the checksum of a copy for its tag. data is the copy as
// it is in the journal, escaped or not.
func (j *JournalSuperblock) TagChecksum(sequence uint32, data []byte) uint32 {
	sum := CRC32C(crc32cUint32(j.seed(), bits.ReverseBytes32(sequence)), data)
	if j.Incompat&JournalIncompatCsumV3 == 0 {
		sum &= 0xFFFF
	}
	return sum
}

// verifyTag reports whether a copy has the checksum in its tag, or the journal
// has no checksums.
func (j *JournalSuperblock) verifyTag(tag JournalTag, sequence uint32, data []byte) bool {
	return !j.BlockChecksums() || tag.Checksum == j.TagChecksum(sequence, data)
}

// Unescape gives a copy from the journal the first bytes it has in the
// filesystem.
func Unescape(data []byte) {
	if len(data) >= 4 {
		binary.BigEndian.PutUint32(data, journalMagic)
	}
}

// Escape gives a copy the form that it has in a journal, and reports whether
// that differs: see [Unescape].
func Escape(data []byte) bool {
	if len(data) < 4 || binary.BigEndian.Uint32(data) != journalMagic {
		return false
	}
	clear(data[:4])
	return true
}

// TransactionChecksums reports whether a commit block has a checksum of all
// its transaction (csum v1), the revoke blocks aside.
func (j *JournalSuperblock) TransactionChecksums() bool {
	return j.Compat&JournalCompatChecksum != 0 && !j.BlockChecksums()
}

// A JournalSum is the checksum of a transaction (csum v1): of its descriptors
// and copies as the journal has them, in their order.
type JournalSum uint32

// Add continues a checksum over a block.
func (s *JournalSum) Add(block []byte) { *s = JournalSum(crc32be(uint32(*s), block)) }

// crc32beTable is that of the unreflected polynomial 0x04C11DB7.
var crc32beTable = func() (table [256]uint32) {
	for i := range table {
		crc := uint32(i) << 24
		for range 8 {
			if crc&(1<<31) != 0 {
				crc = crc<<1 ^ 0x04C11DB7
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// crc32be continues a checksum as the kernel's crc32_be does: csum v1.
func crc32be(crc uint32, b []byte) uint32 {
	for _, c := range b {
		crc = crc<<8 ^ crc32beTable[uint8(crc>>24)^c]
	}
	return crc
}
