package ext

import (
	"encoding/binary"
	"errors"
	"iter"
)

// JournalBlockKind is the role of a journal block in a recovery.
type JournalBlockKind uint8

// The kinds of blocks that a recovery reads.
const (
	JournalDescriptor JournalBlockKind = iota
	JournalData
	JournalRevoke
	JournalCommit
	JournalEnd // where the log stops making sense: read, and not used
	JournalFastCommit
)

// A JournalLogBlock is a descriptor, revoke or commit block of the log.
type JournalLogBlock struct {
	Block    uint32 // in the journal
	Sequence uint32
	Kind     JournalBlockKind
}

// JournalRecovery describes the result of a recovery.
type JournalRecovery struct {
	First uint32 // sequence of the first transaction
	End   uint32 // sequence of the first that is not replayed

	// Log contains the descriptor, revoke and commit blocks in their order.
	// Committed is the sequence number behind that of the last commit block:
	// all earlier transactions have a commit block, even if they are not
	// replayed.
	Log       []JournalLogBlock
	Committed uint32

	// Replay is empty if the recovery fails before it replays.
	Replay JournalReplay

	// FastCommits is the number of blocks of the fast-commit area that hold
	// valid fast commits, to be replayed after all else.
	FastCommits uint32

	// Err is why a recovery fails, or fails in part: bad checksums, read
	// errors. A log that ends where it ends gives none.
	Err error
}

// Logged yields the log's blocks of a kind, up to the transaction end.
func (r *JournalRecovery) Logged(kind JournalBlockKind, end uint32) iter.Seq[JournalLogBlock] {
	return func(yield func(JournalLogBlock) bool) {
		for _, b := range r.Log {
			if !before(b.Sequence, end) || b.Kind == kind && !yield(b) {
				return
			}
		}
	}
}

var (
	// ErrJournalLoop says that the log goes round the whole ring without an end.
	ErrJournalLoop = errors.New("the log has no end")

	// ErrJournalTags says that the log names more blocks than are followed.
	ErrJournalTags = errors.New("the log names too many blocks")
)

// maxJournalTags bounds how many copies a log can have. The largest journals
// that mke2fs makes have 10 million blocks.
const maxJournalTags = 1 << 24

// WalkJournal goes through a journal as the recovery of e2fsck 1.47 and the
// kernel do: it finds the end of the log, collects the revoked blocks, and
// tells what is replayed. read fills buf with a block of the journal. blocks
// is the journal's length as its inode has it, and no block beyond that is
// read. live, unless nil, is called for each block that some recovery reads,
// the superblock aside: every header, the data of every transaction that has
// a commit block whatever its checksum, the block that ends the log, and the
// fast commits; a block may be named twice.
//
// The journal must have passed [JournalSuperblock.Check]; an empty one
// (Start is 0) gives an empty recovery. An error is returned only for a
// journal that cannot be walked; what stops a recovery is in its Err.
//
// A log that names more than 2²⁴ blocks is taken to end there, with
// [ErrJournalTags].
//
// Memory: 12 bytes for each descriptor, revoke and commit block of the log, 17
// for each filesystem block it names; never more of either than the ring has blocks.
func WalkJournal(j *JournalSuperblock, blocks uint64, read func(block uint32, buf []byte) error,
	live func(block uint32, kind JournalBlockKind)) (*JournalRecovery, error) {
	if j.BlockSize < journalSuperblockLen || j.BlockSize > 1<<16 {
		return nil, &JournalError{What: "impossible block size"}
	}
	if err := j.Check(int(j.BlockSize), blocks); err != nil {
		return nil, err
	}
	marks := live != nil
	if !marks {
		live = func(uint32, JournalBlockKind) {}
	}
	w := &journalWalk{
		j: j, read: read, live: live,
		block:   make([]byte, j.BlockSize),
		data:    make([]byte, j.BlockSize),
		maxTags: maxJournalTags,
		result:  &JournalRecovery{First: j.Sequence, End: j.Sequence, Committed: j.Sequence},
	}
	w.first, w.last = j.ring()
	if j.Start == 0 {
		return w.result, nil
	}
	ok := w.scan()
	if marks {
		w.markData()
	}
	if j.Incompat&JournalIncompatFastCommit != 0 && ok {
		w.fastCommits()
	}
	if ok {
		w.replay()
	}
	return w.result, nil
}

type journalWalk struct {
	j           *JournalSuperblock
	read        func(uint32, []byte) error
	live        func(uint32, JournalBlockKind)
	first, last uint32
	block, data []byte
	tags        uint64 // in the log
	maxTags     uint64

	result *JournalRecovery
}

func (w *journalWalk) load(block uint64, buf []byte) error {
	if block >= uint64(w.j.MaxLen) {
		return &JournalError{What: "the log leads out of the journal", Block: uint32(min(block, 1<<32-1))}
	}
	if err := w.read(uint32(block), buf); err != nil {
		return &JournalError{What: "read", Block: uint32(block), Err: err}
	}
	return nil
}

func (w *journalWalk) fail(err error) {
	if w.result.Err == nil {
		w.result.Err = err
	}
}

// wrap takes a block number that has run over the end of the ring back to its
// start, once, as recovery does.
func (j *JournalSuperblock) wrap(n uint64) uint64 {
	if first, last := j.ring(); n >= uint64(last) {
		n -= uint64(last - first)
	}
	return n
}

// Next is the block behind block n in the log: the first copy of a descriptor,
// and so on. It may lie beyond the end of a damaged journal.
func (j *JournalSuperblock) Next(n uint64) uint64 { return j.wrap(n + 1) }

func (w *journalWalk) countTags(block []byte) uint64 {
	n := uint64(0)
	for r := w.j.Tags(block); r.Next(); {
		n++
	}
	return n
}

// scan finds the end of the log. It returns false where recovery gives up
// without replaying anything.
//
// A descriptor or revoke block with a wrong checksum may be left from an older
// use of the journal: then the commit block that follows is not younger than
// the one before, and the log just ends there.
func (w *journalWalk) scan() bool {
	var (
		j        = w.j
		next     = uint64(j.Start)
		sequence = j.Sequence
		ended    bool // by a bad commit block, though the scan goes on
		suspect  bool
		lastTime uint64
		sum      = ^uint32(0) // csum v1
		walked   uint64
		v1       = j.Compat&JournalCompatChecksum != 0
	)
	end := func(at uint32) {
		w.result.End = at
		ended = true
	}
	log := func(block uint64, kind JournalBlockKind) {
		w.live(uint32(block), kind)
		w.result.Log = append(w.result.Log, JournalLogBlock{uint32(block), sequence, kind})
	}
loop:
	for {
		here := next
		if err := w.load(here, w.block); err != nil {
			w.fail(err)
			return false
		}
		next = j.wrap(next + 1)
		walked++
		h, ok := DecodeJournalHeader(w.block)
		if !ok || h.Sequence != sequence {
			w.live(uint32(here), JournalEnd)
			break
		}
		if walked > uint64(w.last-w.first) {
			w.live(uint32(here), JournalEnd)
			w.fail(&JournalError{What: "walk", Block: uint32(here), Err: ErrJournalLoop})
			break
		}
		switch h.Type {
		case journalTypeDescriptor:
			log(here, JournalDescriptor)
			suspect = suspect || !j.VerifyBlock(w.block)
			n := w.countTags(w.block)
			walked += n
			if w.tags += n; w.tags > w.maxTags {
				w.fail(&JournalError{What: "walk", Block: uint32(here), Err: ErrJournalTags})
				break loop
			}
			if v1 && !suspect && !ended {
				sum = crc32be(sum, w.block)
				for range n {
					at := next
					next = j.wrap(next + 1)
					if err := w.load(at, w.data); err != nil {
						break
					}
					w.live(uint32(at), JournalData)
					sum = crc32be(sum, w.data)
				}
				continue
			}
			next = j.wrap(next + n)
		case journalTypeRevoke:
			log(here, JournalRevoke)
			suspect = suspect || !j.VerifyBlock(w.block)
		case journalTypeCommit:
			log(here, JournalCommit)
			w.result.Committed = sequence + 1
			time := binary.BigEndian.Uint64(w.block[journalCommitTimeOffset:])
			if suspect {
				if time >= lastTime {
					w.fail(&JournalError{What: "wrong checksum in a transaction", Block: uint32(here)})
					return false
				}
				break loop
			}
			if v1 && ended {
				continue // with the same sequence, which ends the scan
			}
			if v1 && !commitSumOK(w.block, sum) || !j.VerifyCommit(w.block) {
				if time < lastTime {
					break loop
				}
				w.fail(&JournalError{What: "wrong checksum of a commit", Block: uint32(here)})
				end(sequence)
				if j.Incompat&JournalIncompatAsyncCommit == 0 {
					continue
				}
			}
			sum = ^uint32(0)
			lastTime = time
			sequence++
		default:
			w.live(uint32(here), JournalEnd)
			break loop
		}
	}
	if !ended {
		w.result.End = sequence
	}
	return true
}

// commitSumOK checks the checksum over a transaction (csum v1) that its commit
// block has, if it has one.
func commitSumOK(block []byte, sum uint32) bool {
	typ, size := block[journalCommitTypeOffset], block[journalCommitTypeOffset+1]
	found := binary.BigEndian.Uint32(block[journalCommitChecksumOffset:])
	return typ == journalChecksumCRC32 && size == 4 && found == sum || typ == 0 && size == 0 && found == 0
}

// before compares sequence numbers, which wrap.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// markData reports the data of all transactions that have a commit block.
func (w *journalWalk) markData() {
	for d := range w.result.Logged(JournalDescriptor, w.result.Committed) {
		if w.load(uint64(d.Block), w.block) != nil {
			continue
		}
		next := w.j.Next(uint64(d.Block))
		for r := w.j.Tags(w.block); r.Next(); next = w.j.Next(next) {
			if next < uint64(w.j.MaxLen) {
				w.live(uint32(next), JournalData)
			}
		}
	}
}

// eachCopy visits the copies in the transactions to replay, in their order.
// It returns false where a descriptor cannot be read any more.
func (w *journalWalk) eachCopy(visit func(t JournalTag, d JournalLogBlock, at uint64)) bool {
	for d := range w.result.Logged(JournalDescriptor, w.result.End) {
		if err := w.load(uint64(d.Block), w.block); err != nil {
			w.fail(err)
			return false
		}
		at := w.j.Next(uint64(d.Block))
		for r := w.j.Tags(w.block); r.Next(); at = w.j.Next(at) {
			visit(r.Tag(), d, at)
		}
	}
	return true
}

// fastCommits reads the fast-commit area as long as it makes sense.
func (w *journalWalk) fastCommits() {
	first, end := w.j.FastCommitArea()
	s := NewFastCommitScan(w.result.End)
	for n := first; n < end; n++ {
		if w.load(uint64(n), w.data) != nil {
			return
		}
		w.live(n, JournalFastCommit)
		more := s.Block(w.data, nil)
		w.result.FastCommits = s.Blocks()
		if !more {
			return
		}
	}
}
