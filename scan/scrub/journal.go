package scrub

import (
	"context"

	"e2qcow/ext"
)

// What is left of a journal is what a recovery reads. Copies of blocks are
// scrubbed as the blocks they stand for, and take their place behind an escape
// where they need one; the tag of each has its checksum follow, then the
// descriptor its own, then the commit block that of the whole transaction
// (csum v1). So a replay gives what scrubbing what it gave would have given.
//
//	block of the journal          is scrubbed to
//	superblock                    its fields
//	descriptor, revoke, commit    its fields: not what no recovery reads, as UUIDs and the rest of the block
//	copy, in a transaction        the copy, scrubbed; zeros if that block is no metadata
//	  that has a commit block
//	fast commit                   the fields of its tags, other names, scrubbed inodes
//	any other                     zeros
//
// The fields of these are in journalfields.go, what is written for them in
// journalblocks.go and fastcommit.go.
//
// Only the superblock is left of a journal that is clean, and of one that
// e2fsck would not recover from. It is all that is left of an external journal
// too: the filesystem whose blocks it has copies of is on another device, so
// nobody knows what they hold, and zeros in their place would be replayed. With
// its log left out, a recovery finds nothing to replay.

// A journalScrub is what scrubbing a journal takes from the rest. All of it is
// called by several goroutines at once.
type journalScrub struct {
	keys   *keyring
	lim    *limits
	blocks uint64 // length of the device

	// known tells whether a block is metadata, or in use, so that no text is its
	// number by chance; nil takes all for such.
	known func(block uint64) bool

	// metadata scrubs data, in place, as what stands at that block of the
	// filesystem. What is no metadata becomes zeros, what is a block of the
	// journal is for scrubJournalSuperblock.
	metadata func(block uint64, data []byte)

	// name and inode scrub what a fast commit holds, in place. An inode there
	// may be cut short behind its fixed fields.
	name  func(parent uint32, name []byte)
	inode func(ino uint32, in ext.Inode)

	// uuid changes a UUID, in place; nil leaves them all.
	uuid func(uuid []byte)
}

// A journalRole is what a block of the log is.
type journalRole struct {
	block   uint64 // of the filesystem: what a copy is of
	sum     uint32 // a copy's checksum in its tag; a commit's, of its transaction (csum v1)
	kind    ext.JournalBlockKind
	escaped bool // the copy as it is read,
	escape  bool // and as it is scrubbed
}

// A journalIndex knows what scrubbing any block of a journal takes: some 60 bytes
// for each block of its log, 8 for each of its fast commits. It does not
// change once made.
type journalIndex struct {
	scrub journalScrub
	jsb   *ext.JournalSuperblock // nil if there is nothing to recover
	fresh *ext.JournalSuperblock // with the UUID that checksums will begin with
	roles map[uint32]journalRole

	fast      []fastCommitSums // at the beginning of each block of fast commits
	fastFirst uint32
	fastNext  uint32 // the transaction that they are on top of
	fastEnd   ext.FastCommitEnd
	fastValid bool // there is one with a good tail
}

// newJournalIndex reads the journal that jsb is the superblock of, and scrubs
// all copies in it once. blockSize is the filesystem's, blocks the journal's
// length as its inode has it; read fills buf with a block of it. If jsb is nil
// only a superblock will be left. The only error is that of ctx.
func newJournalIndex(ctx context.Context, jsb *ext.JournalSuperblock, blockSize int, blocks uint64,
	read func(n uint32, buf []byte) error, s journalScrub) (*journalIndex, error) {
	x := &journalIndex{scrub: s}
	recoverable := jsb != nil && jsb.Start != 0 && jsb.Check(blockSize, blocks) == nil
	if !recoverable {
		return x, nil
	}
	recovery, err := ext.WalkJournal(jsb, blocks, func(n uint32, buf []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return read(n, buf)
	}, nil)
	if ctx.Err() != nil || err != nil {
		return x, ctx.Err()
	}
	fresh := *jsb
	if s.uuid != nil {
		s.uuid(fresh.UUID[:])
	}
	x.jsb, x.fresh, x.roles = jsb, &fresh, make(map[uint32]journalRole)
	d := s.keys.get()
	defer s.keys.put(d)
	r := &journalReader{
		index: x, ctx: ctx, recovery: recovery,
		read:   read,
		head:   make([]byte, blockSize),
		before: make([]byte, blockSize),
		after:  make([]byte, blockSize),
	}
	for _, b := range recovery.Log {
		x.roles[b.Block] = journalRole{kind: b.Kind}
	}
	r.copies(d)
	if jsb.TransactionChecksums() {
		r.transactions(d)
	}
	r.fastCommits(d)
	return x, ctx.Err()
}

// A journalReader makes a journalIndex.
type journalReader struct {
	index    *journalIndex
	ctx      context.Context
	recovery *ext.JournalRecovery
	read     func(n uint32, buf []byte) error

	head, before, after []byte // one block each
}

// load reads a block of the journal. What cannot be read is zero, as it is in
// the image.
func (r *journalReader) load(n uint32, buf []byte) {
	if r.read(n, buf) != nil {
		clear(buf)
	}
}

// each yields the tags of the descriptor in head, and where in the journal
// their copies are.
func (r *journalReader) each(descriptor uint32, yield func(t ext.JournalTag, at uint32)) {
	jsb := r.index.jsb
	at := jsb.Next(uint64(descriptor))
	for tags := jsb.Tags(r.head); tags.Next() && r.ctx.Err() == nil; at = jsb.Next(at) {
		if at < uint64(jsb.MaxLen) {
			yield(tags.Tag(), uint32(at))
		}
	}
}

// copies gives the copies of all transactions with a commit block their roles.
func (r *journalReader) copies(d *drawer) {
	x := r.index
	for b := range r.recovery.Logged(ext.JournalDescriptor, r.recovery.Committed) {
		r.load(b.Block, r.head)
		r.each(b.Block, func(t ext.JournalTag, at uint32) {
			if _, taken := x.roles[at]; taken || at == 0 {
				return // the log of a damaged journal runs over itself
			}
			if r.read(at, r.before) != nil {
				return // there is no such block, though a journal of holes may name billions
			}
			role := journalRole{kind: ext.JournalData, block: t.Block, escaped: t.Escaped}
			copy(r.after, r.before)
			role.escape = x.copy(role, r.after)
			role.sum = x.copySum(d, t.Checksum, b.Sequence, r.before, r.after)
			x.roles[at] = role
		})
	}
}

// transactions computes what the checksum of each transaction changes by.
func (r *journalReader) transactions(d *drawer) {
	const start = ^ext.JournalSum(0)
	before, after := start, start
	add := func(n uint32, buf []byte) {
		before.Add(buf)
		r.index.block(n, buf)
		after.Add(buf)
	}
	for _, b := range r.recovery.Log {
		switch b.Kind {
		case ext.JournalDescriptor:
			r.load(b.Block, r.head)
			add(b.Block, append(r.after[:0], r.head...))
			r.each(b.Block, func(_ ext.JournalTag, at uint32) {
				r.load(at, r.before)
				add(at, r.before)
			})
		case ext.JournalCommit:
			role := r.index.roles[b.Block]
			r.load(b.Block, r.head)
			role.sum = r.index.transactionSum(d, r.head, before, after)
			r.index.roles[b.Block] = role
			before, after = start, start
		}
	}
}

// copy scrubs a copy, in place, and reports whether it is escaped.
func (x *journalIndex) copy(role journalRole, data []byte) (escaped bool) {
	if role.escaped {
		ext.Unescape(data)
	}
	if block := x.place(role.block); block < x.scrub.blocks {
		x.scrub.metadata(block, data)
	} else {
		clear(data)
	}
	return ext.Escape(data)
}

// place is the block that e2fsck writes to when it is told to write to block:
// it computes the offset in bytes, which may overflow.
func (x *journalIndex) place(block uint64) uint64 {
	size := uint64(x.jsb.BlockSize)
	return block * size / size
}

// block scrubs block n of the journal, in place.
func (x *journalIndex) block(n uint32, data []byte) {
	d := x.scrub.keys.get()
	defer x.scrub.keys.put(d)
	if n == 0 {
		journalSuperblock(d, x.scrub.lim, data, x.scrub.uuid)
		return
	}
	role, ok := x.roles[n]
	if !ok {
		x.fastCommit(d, n, data)
		return
	}
	switch role.kind {
	case ext.JournalDescriptor:
		at := x.jsb.Next(uint64(n))
		x.descriptor(d, data, func() (role journalRole) { // of no copy: nobody checks a sum there
			if at < uint64(x.jsb.MaxLen) {
				role = x.roles[uint32(at)]
			}
			at = x.jsb.Next(at)
			return role
		})
	case ext.JournalRevoke:
		x.revokes(d, data)
	case ext.JournalCommit:
		x.commit(d, data, role.sum)
	default:
		x.copy(role, data)
	}
}
