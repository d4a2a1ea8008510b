package ext

import (
	"encoding/binary"
)

// Offsets in a journal's superblock, beside those in journal.go.
const (
	journalSuperFixedLen     = 0x30 // up to the UUID
	journalUsersCountOffset  = 0x40
	journalChecksumPadding   = 0x51
	journalFastCommitsOffset = 0x54
	journalPaddingOffset     = 0x5C
	journalUsersOffset       = 0x100
	journalMaxUsers          = (journalSuperblockLen - journalUsersOffset) / journalUUIDLen
)

const (
	journalTagFlags = journalTagEscaped | journalTagSameUUID | journalTagLast

	journalNanoseconds = 1e9
)

// A JournalEdit rewrites the blocks of a journal, in place, for one that
// differs in what its copies hold. All that recovery does not read becomes
// zero, and a checksum that was right is right, a wrong one is wrong, and tells
// nothing of what was there.
type JournalEdit struct {
	from, to *JournalSuperblock
}

// Edit returns what rewrites the blocks of j for a journal with another UUID,
// which the checksums begin with, or with the same one.
func (j *JournalSuperblock) Edit(uuid [16]byte) *JournalEdit {
	to := *j
	to.UUID = uuid
	return &JournalEdit{j, &to}
}

// EditJournalSuperblock rewrites the first block of a journal. edit, unless
// nil, is called with the UUIDs in it: the journal's own, and those of the
// filesystems that share it. A block that is none becomes zero.
func EditJournalSuperblock(block []byte, edit func(uuid []byte)) {
	be := binary.BigEndian
	if len(block) < journalSuperblockLen || be.Uint32(block) != journalMagic {
		clear(block)
		return
	}
	sb := block[:journalSuperblockLen]
	clear(block[journalSuperblockLen:])
	typ := be.Uint32(sb[4:])
	if typ != journalTypeSuperblockV1 && typ != journalTypeSuperblockV2 {
		clear(sb[8:])
		return
	}
	sum := func() uint32 { return crc32cHole(^uint32(0), sb, journalChecksumOffset, 4) }
	before := sum()
	stored := be.Uint32(sb[journalChecksumOffset:])
	users := sb[journalUsersOffset:]
	if n := be.Uint32(sb[journalUsersCountOffset:]); n <= journalMaxUsers {
		users = users[:n*journalUUIDLen]
	} else {
		users = users[:0]
	}
	clear(sb[journalUsersOffset+len(users):])
	clear(sb[8:12]) // the sequence in the header
	clear(sb[journalChecksumPadding:journalFastCommitsOffset])
	clear(sb[journalPaddingOffset:journalChecksumOffset])
	if typ == journalTypeSuperblockV1 {
		// What else version 2 has is not looked at, but for features and users.
		clear(sb[journalSuperFixedLen:journalUsersCountOffset])
		clear(sb[journalUsersCountOffset+4:])
		return
	}
	if edit != nil {
		edit(sb[journalUUIDOffset:][:journalUUIDLen])
		for ; len(users) > 0; users = users[journalUUIDLen:] {
			edit(users[:journalUUIDLen])
		}
	}
	if be.Uint32(sb[0x28:])&(JournalIncompatCsumV2|JournalIncompatCsumV3) == 0 {
		clear(sb[journalChecksumOffset:][:4])
		return
	}
	be.PutUint32(sb[journalChecksumOffset:], mendedSum(stored, before, sum()))
}

// mendedSum returns what takes the place of a checksum, when the right one was
// before and is after: one that was right is right, none is none, and a wrong
// one is wrong in all bits, so that it does not tell what it was wrong by.
func mendedSum(stored, before, after uint32) uint32 {
	switch stored {
	case before:
		return after
	case 0:
		return 0
	}
	return ^after
}

// Descriptor rewrites a descriptor. edit may change each of its tags.
func (e *JournalEdit) Descriptor(block []byte, edit func(*JournalTag)) {
	before := e.tailSum(e.from, block)
	be := binary.BigEndian
	r := e.from.Tags(block)
	for raw := r.b; r.Next(); raw = r.b {
		t := r.Tag()
		flags := be.Uint16(raw[6:]) & journalTagFlags &^ journalTagEscaped
		clear(raw[:len(raw)-len(r.b)])
		edit(&t)
		if t.Escaped {
			flags |= journalTagEscaped
		}
		be.PutUint32(raw, uint32(t.Block))
		if e.from.Incompat&JournalIncompat64bit != 0 {
			be.PutUint32(raw[8:], uint32(t.Block>>32))
		}
		be.PutUint16(raw[6:], flags)
		switch {
		case e.from.Incompat&JournalIncompatCsumV3 != 0:
			be.PutUint32(raw[12:], t.Checksum)
		case e.from.Incompat&JournalIncompatCsumV2 != 0:
			be.PutUint16(raw[4:], uint16(t.Checksum))
		}
	}
	clear(r.b)
	e.mendTail(block, before)
}

// Copy returns the checksum of a tag, sum, as it is when the copy, in the
// journal's form, becomes another.
func (e *JournalEdit) Copy(sum, sequence uint32, before, after []byte) uint32 {
	if !e.from.blockChecksums() {
		return 0
	}
	return mendedSum(sum, e.from.TagChecksum(sequence, before), e.to.TagChecksum(sequence, after))
}

// Revokes rewrites a revoke block. edit returns what takes the place of the
// number of each filesystem block in it.
func (e *JournalEdit) Revokes(block []byte, edit func(uint64) uint64) {
	before := e.tailSum(e.from, block)
	b := e.from.content(block)
	be := binary.BigEndian
	if len(b) >= journalRevokeStart {
		used := be.Uint32(b[journalHeaderLen:])
		if uint64(used) > uint64(len(b)) {
			used = 0 // recovery looks no further
		}
		n := 4
		if e.from.Incompat&JournalIncompat64bit != 0 {
			n = 8
		}
		rest := b[journalRevokeStart:]
		for left := int(used) - journalRevokeStart; left >= n; left -= n {
			if n == 8 {
				be.PutUint64(rest, edit(be.Uint64(rest)))
			} else {
				be.PutUint32(rest, uint32(edit(uint64(be.Uint32(rest)))))
			}
			rest = rest[n:]
		}
		clear(rest)
	}
	e.mendTail(block, before)
}

// tailSum computes the checksum at the end of a descriptor or revoke block.
func (e *JournalEdit) tailSum(j *JournalSuperblock, block []byte) uint32 {
	if !j.blockChecksums() || len(block) < journalTailLen {
		return 0
	}
	return j.BlockChecksum(block)
}

func (e *JournalEdit) mendTail(block []byte, before uint32) {
	if e.from.blockChecksums() && len(block) >= journalTailLen {
		tail := block[len(block)-journalTailLen:]
		binary.BigEndian.PutUint32(tail, mendedSum(binary.BigEndian.Uint32(tail), before, e.tailSum(e.to, block)))
	}
}

// Commit rewrites a commit block. transaction is the checksum that
// [JournalEdit.Transaction] returns, unused where it has none.
func (e *JournalEdit) Commit(block []byte, transaction uint32) {
	if len(block) < journalCommitLen {
		clear(block[min(len(block), journalHeaderLen):])
		return
	}
	be := binary.BigEndian
	sums := e.from.blockChecksums()
	var before uint32
	if sums {
		before = e.from.CommitChecksum(block)
	}
	b := block[:journalCommitLen]
	clear(block[journalCommitLen:])
	clear(b[journalCommitTypeOffset+2 : journalCommitChecksumOffset])
	clear(b[journalCommitChecksumOffset+4 : journalCommitTimeOffset])
	// debugfs writes seconds to the upper half, the kernel to the lower one.
	// Eight bytes in use are no time; the order of such is kept.
	seconds, ns := b[journalCommitTimeOffset:], b[journalCommitTimeOffset+8:]
	if be.Uint32(seconds) != 0 {
		clear(seconds[4:8])
	}
	if be.Uint32(ns) >= journalNanoseconds {
		clear(ns)
	}
	sum := b[journalCommitChecksumOffset:]
	switch {
	case sums:
		be.PutUint32(sum, mendedSum(be.Uint32(sum), before, e.to.CommitChecksum(block)))
	case e.from.Compat&JournalCompatChecksum == 0:
		clear(sum[:4])
	case be.Uint32(sum) != 0 || b[journalCommitTypeOffset] != 0: // else it has none
		be.PutUint32(sum, transaction)
	}
}

// Transaction returns what takes the place of the checksum of all its
// transaction in a commit block, when that changes from before to after.
func (e *JournalEdit) Transaction(commit []byte, before, after JournalSum) uint32 {
	if len(commit) < journalCommitLen {
		return 0
	}
	return mendedSum(binary.BigEndian.Uint32(commit[journalCommitChecksumOffset:]), uint32(before), uint32(after))
}

// TransactionChecksums reports whether a commit block has a checksum of all
// its transaction (csum v1), the revoke blocks aside.
func (j *JournalSuperblock) TransactionChecksums() bool {
	return j.Compat&JournalCompatChecksum != 0 && !j.blockChecksums()
}

// A JournalSum is the checksum of a transaction (csum v1): of its descriptors
// and copies as the journal has them, in their order.
type JournalSum uint32

// Add continues a checksum over a block.
func (s *JournalSum) Add(block []byte) { *s = JournalSum(crc32be(uint32(*s), block)) }

// Escape gives a copy the form that it has in a journal, and reports whether
// that differs: see [Unescape].
func Escape(data []byte) bool {
	if len(data) < 4 || binary.BigEndian.Uint32(data) != journalMagic {
		return false
	}
	clear(data[:4])
	return true
}
