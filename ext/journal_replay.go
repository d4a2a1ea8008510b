package ext

import (
	"iter"
	"slices"
)

// A JournalCopy is the copy of a filesystem block that recovery puts in its
// place.
type JournalCopy struct {
	Block   uint32 // in the journal
	Escaped bool   // see [Unescape]
}

// A JournalReplay has for each filesystem block that recovery replaces the copy
// that is there in the end. Block numbers are as the journal has them, bounded
// by nothing.
type JournalReplay struct {
	blocks []uint64 // ascending
	copies []uint32 // in the journal, beside blocks
	state  []copyState
	by     []uint32 // while it is made: the last sequence that revokes the block
}

type copyState uint8

const (
	copyReplayed copyState = 1 << iota
	copyEscaped
	copyRevoked
)

// Len returns how many blocks are replaced.
func (r *JournalReplay) Len() int { return len(r.blocks) }

func (r *JournalReplay) at(i int) JournalCopy {
	return JournalCopy{r.copies[i], r.state[i]&copyEscaped != 0}
}

// From yields the blocks that are replaced from block first on, ascending.
func (r *JournalReplay) From(first uint64) iter.Seq2[uint64, JournalCopy] {
	return func(yield func(uint64, JournalCopy) bool) {
		for i, _ := slices.BinarySearch(r.blocks, first); i < len(r.blocks); i++ {
			if !yield(r.blocks[i], r.at(i)) {
				return
			}
		}
	}
}

// finish drops the blocks that no copy replaces.
func (r *JournalReplay) finish() {
	n := 0
	for i, state := range r.state {
		if state&copyReplayed != 0 {
			r.blocks[n], r.copies[n], r.state[n] = r.blocks[i], r.copies[i], state
			n++
		}
	}
	r.blocks, r.copies, r.state, r.by = r.blocks[:n], r.copies[:n], r.state[:n], nil
}

// replay finds out which copy each block gets. Revoked blocks are remembered
// only if the log has a copy of them, so that the revoke blocks, which can name
// far more, do not decide how much memory is used.
func (w *journalWalk) replay() {
	r := JournalReplay{blocks: make([]uint64, 0, w.tags)}
	if !w.eachCopy(func(t JournalTag, _ JournalLogBlock, _ uint64) {
		r.blocks = append(r.blocks, t.Block)
	}) {
		return
	}
	slices.Sort(r.blocks)
	if r.blocks = slices.Compact(r.blocks); len(r.blocks) < cap(r.blocks)/2 {
		r.blocks = slices.Clone(r.blocks)
	}
	r.copies, r.by = make([]uint32, len(r.blocks)), make([]uint32, len(r.blocks))
	r.state = make([]copyState, len(r.blocks))
	if !w.revoke(&r) {
		return
	}
	next := 0 // tags often ascend
	w.eachCopy(func(t JournalTag, d JournalLogBlock, at uint64) {
		i := next
		if i >= len(r.blocks) || r.blocks[i] != t.Block {
			i, _ = slices.BinarySearch(r.blocks, t.Block)
		}
		next = i + 1
		if r.state[i]&copyRevoked != 0 && !before(r.by[i], d.Sequence) {
			return
		}
		if err := w.checkCopy(t, d, at); err != nil {
			w.fail(err)
			return // recovery goes on
		}
		r.copies[i] = uint32(at)
		r.state[i] = r.state[i]&copyRevoked | copyReplayed
		if t.Escaped {
			r.state[i] |= copyEscaped
		}
	})
	r.finish()
	w.result.Replay = r
}

// checkCopy returns why recovery would not replay a copy; nil if it would.
func (w *journalWalk) checkCopy(t JournalTag, d JournalLogBlock, at uint64) error {
	if at >= uint64(w.j.MaxLen) {
		return &JournalError{What: "the log leads out of the journal", Block: d.Block}
	}
	if !w.j.BlockChecksums() {
		return nil
	}
	if err := w.load(at, w.data); err != nil {
		return err
	}
	if !w.j.verifyTag(t, d.Sequence, w.data) {
		return &JournalError{What: "wrong checksum of a data block", Block: uint32(at)}
	}
	return nil
}

// revoke records the blocks in the revoke blocks of the transactions to replay.
// It returns false if recovery would give up at a revoke block.
func (w *journalWalk) revoke(r *JournalReplay) bool {
	for b := range w.result.Logged(JournalRevoke, w.result.End) {
		err := w.load(uint64(b.Block), w.block)
		if err == nil {
			err = w.j.Revokes(w.block, func(block uint64) {
				i, ok := slices.BinarySearch(r.blocks, block)
				if ok && (r.state[i]&copyRevoked == 0 || before(r.by[i], b.Sequence)) {
					r.state[i], r.by[i] = copyRevoked, b.Sequence
				}
			})
		}
		if err != nil {
			w.fail(err)
			return false
		}
	}
	return true
}
