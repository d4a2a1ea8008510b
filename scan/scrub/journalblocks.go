package scrub

import (
	"bytes"

	"e2qcow/ext"
)

// The blocks of a log that are no copies: each begins as zeros, and is written
// by the rules of its fields. What makes a recovery stop still does: a checksum
// that was wrong is wrong, a count that is too large is too large.

// journalSuperblock scrubs the first block of a journal, in place. A block that
// is none becomes zeros. uuid, unless nil, changes the UUIDs in it.
func journalSuperblock(d *drawer, l *limits, block []byte, uuid func([]byte)) {
	const (
		headerEnd  = 8 // behind the magic number and the type
		uuidOff    = 0x30
		users      = 0x40
		sumOff     = 0xFC
		usersOff   = 0x100
		uuidLength = 16
	)
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	if _, ok := ext.DecodeJournalHeader(old); !ok || len(old) < journalSuperblockFields.size {
		return
	}
	old, block = old[:journalSuperblockFields.size], block[:journalSuperblockFields.size]
	jsb, err := ext.DecodeJournalSuperblock(old)
	switch {
	case err != nil:
		journalHeaderFields.write(d, l, block[:headerEnd], old[:headerEnd], plausible)
		return
	case jsb.Version == 1:
		writeJournalSuperblock(d, l, journalSuperblockV1Fields, block, old)
		return
	}
	writeJournalSuperblock(d, l, journalSuperblockFields, block, old)
	copyUUID := func(off int) {
		copy(block[off:off+uuidLength], old[off:])
		if uuid != nil {
			uuid(block[off : off+uuidLength])
		}
	}
	copyUUID(uuidOff)
	if n := be.Uint32(old[users:]); n <= journalMaxUsers {
		for i := range int(n) {
			copyUUID(usersOff + i*uuidLength)
		}
	}
	if jsb.BlockChecksums() {
		sum := func(b []byte) uint32 {
			crc := ext.CRC32C(^uint32(0), b[:sumOff])
			return ext.CRC32C(ext.CRC32C(crc, make([]byte, 4)), b[sumOff+4:])
		}
		is := sum(block)
		be.PutUint32(block[sumOff:], d.sumOf(jsb.Checksum, is, jsb.Checksum == sum(old)))
	}
}

// maxJournalFlaws is how many fields of the superblock of a journal may be
// impossible: of one that contents lie over, more are.
const maxJournalFlaws = 2

func writeJournalSuperblock(d *drawer, l *limits, st *structure, block, old []byte) {
	how := plausible
	if st.flaws(l, old[:st.size]) > maxJournalFlaws {
		how = garbage
	}
	st.write(d, l, block[:st.size], old[:st.size], how)
	copy(block[:8], old) // the magic number and a type that there is
}

// erase takes the contents of a block of the log, and leaves in the block the
// header and nothing else.
func (x *journalIndex) erase(d *drawer, block []byte) (old []byte) {
	d.source = append(d.source[:0], block...)
	clear(block)
	n := min(len(block), journalHeaderFields.size)
	journalHeaderFields.write(d, x.scrub.lim, block[:n], d.source[:n], genuine)
	return d.source
}

// sound tells whether the checksum of a descriptor or revoke block is right. It
// is none where the journal has no checksums.
func (x *journalIndex) sound(block []byte) bool {
	return x.jsb.BlockChecksums() && x.jsb.VerifyBlock(block)
}

// tail writes the checksum at the end of a descriptor or revoke block.
func (x *journalIndex) tail(d *drawer, block, old []byte, right bool) {
	const size = 4
	if at := len(block) - size; x.jsb.BlockChecksums() && at >= 0 {
		be.PutUint32(block[at:], d.sumOf(be.Uint32(old[at:]), x.fresh.BlockChecksum(block), right))
	}
}

// The flags of a tag that recovery looks at.
const (
	tagEscaped  = 1
	tagSameUUID = 2
	tagLast     = 8
)

// descriptor scrubs a descriptor. next yields the role of each of its copies.
func (x *journalIndex) descriptor(d *drawer, block []byte, next func() journalRole) {
	old := x.erase(d, block)
	right := x.sound(old)
	for r := x.jsb.Tags(old); r.Next(); {
		start, end := r.Range()
		x.tag(d, block[start:end], old[start:end], r.Tag().Block, right, next())
	}
	x.tail(d, block, old, right)
}

// tag writes the tag of a copy.
func (x *journalIndex) tag(d *drawer, tag, old []byte, block uint64, sure bool, role journalRole) {
	const flags, sum2, sum3, high = 6, 4, 12, 8
	n := x.number(d, block, sure)
	be.PutUint32(tag, uint32(n))
	if x.jsb.Incompat&ext.JournalIncompat64bit != 0 {
		be.PutUint32(tag[high:], uint32(n>>32))
	}
	f := be.Uint16(old[flags:]) & (tagSameUUID | tagLast)
	if role.escape {
		f |= tagEscaped
	}
	be.PutUint16(tag[flags:], f)
	switch {
	case x.jsb.Incompat&ext.JournalIncompatCsumV3 != 0:
		be.PutUint32(tag[sum3:], role.sum)
	case x.jsb.Incompat&ext.JournalIncompatCsumV2 != 0:
		be.PutUint16(tag[sum2:], uint16(role.sum))
	}
}

// copySum returns the checksum in the tag of a copy, in the journal's form, that
// becomes another.
func (x *journalIndex) copySum(d *drawer, stored, sequence uint32, before, after []byte) uint32 {
	if !x.jsb.BlockChecksums() {
		return 0
	}
	return d.sumOf(stored, x.fresh.TagChecksum(sequence, after), stored == x.jsb.TagChecksum(sequence, before))
}

// revokes scrubs a revoke block.
func (x *journalIndex) revokes(d *drawer, block []byte) {
	old := x.erase(d, block)
	right := x.sound(old)
	head, end := journalRevokeFields.size, len(old)
	if x.jsb.BlockChecksums() {
		end -= 4
	}
	if end >= head {
		journalRevokeFields.write(d, x.scrub.lim, block[:head], old[:head], plausible)
		width := 4
		if x.jsb.Incompat&ext.JournalIncompat64bit != 0 {
			width = 8
		}
		// Recovery looks no further where more is in use than there is.
		if used := uint64(be.Uint32(old[head-4:])); used <= uint64(end) {
			for at := head; at+width <= int(used); at += width {
				n := x.number(d, uintOf(be, old[at:at+width]), right)
				putUint(be, block[at:at+width], n)
			}
		} else if be.Uint32(block[head-4:]) <= uint32(end) {
			be.PutUint32(block[head-4:], uint32(len(block)))
		}
	}
	x.tail(d, block, old, right)
}

// commit scrubs a commit block. transaction is the checksum of its transaction,
// where the journal has such.
func (x *journalIndex) commit(d *drawer, block []byte, transaction uint32) {
	const kind, sum = 0x0C, 0x10
	old := x.erase(d, block)
	n := journalCommitFields.size
	if len(old) < n {
		return
	}
	journalCommitFields.write(d, x.scrub.lim, block[:n], old[:n], plausible)
	stored := be.Uint32(old[sum:])
	switch {
	case x.jsb.BlockChecksums():
		be.PutUint32(block[sum:], d.sumOf(stored, x.fresh.CommitChecksum(block), x.jsb.VerifyCommit(old)))
	case x.jsb.TransactionChecksums() && (stored != 0 || old[kind] != 0): // else it has none
		be.PutUint32(block[sum:], transaction)
	}
}

// transactionSum returns what takes the place of the checksum of a transaction
// that changes.
func (x *journalIndex) transactionSum(d *drawer, commit []byte, before, after ext.JournalSum) uint32 {
	const sum = 0x10
	if len(commit) < journalCommitFields.size {
		return 0
	}
	stored := be.Uint32(commit[sum:])
	return d.sumOf(stored, uint32(after), stored == uint32(before))
}

// number scrubs the number of a block of the filesystem. One beyond the end of
// the device becomes the first beyond it. Any other stays if it is sure or known,
// and becomes the number of a block that is no metadata if it is not: of such a
// block only zeros are written.
func (x *journalIndex) number(d *drawer, block uint64, sure bool) uint64 {
	if x.place(block) >= x.scrub.blocks {
		return x.scrub.blocks
	}
	if sure || x.scrub.known == nil || x.scrub.known(block) {
		return block
	}
	possible := func(v uint64) bool { return v != 0 && v < x.scrub.blocks && !x.scrub.known(v) }
	if v := d.noise(block, 8, possible); possible(v) {
		return v
	}
	return x.scrub.blocks
}

// isUUID tells whether 16 bytes are a UUID of a version that there is, or none:
// text is not.
func isUUID(u []byte) bool {
	version := u[6] >> 4
	return allZero(u) || u[8]&0xC0 == 0x80 && 1 <= version && version <= 8
}

// eachFastCommit yields the tags that a block begins with, and where each
// begins, up to the first that makes no sense.
func eachFastCommit(block []byte, yield func(off int, t *ext.FastCommitTag)) {
	for off := 0; ; {
		t, ok := ext.DecodeFastCommit(block[off:])
		if !ok {
			return
		}
		yield(off, &t)
		off += fastCommitFields.size + len(t.Value)
	}
}

// sameUUID tells whether a UUID is one of those of the filesystem.
func (s *scrubber) sameUUID(u []byte) bool {
	for i := range s.readings {
		b := s.readings[i].Super.Bytes()
		if bytes.Equal(u, superUUID.in(b)) || bytes.Equal(u, superJournalUUID.in(b)) {
			return true
		}
	}
	return false
}
