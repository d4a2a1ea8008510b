package move

import (
	"context"
	"fmt"
	"hash/crc32"
)

// Options are the options of Run.
type Options struct {
	// Journal is where the move is recorded, and resumed from; nil is nowhere.
	Journal *Journal
	// Force goes on with a move after a *ChangedError.
	Force bool
	// Progress is told how many of all bytes are moved, and whether the old
	// place is being written over. It may be nil.
	Progress func(done, total int64, destroying bool)
}

// A stage is the state of the old place.
type stage uint8

const (
	whole   stage = iota // as it was
	marking              // it is being marked
	split                // it was marked, and is written over
)

// Run moves the filesystem, or goes on where its journal says. When ctx ends it
// stops between two windows; an error from the first of them on says that the
// move stopped midway. Before, it is a *ChangedError, ErrOther or another that
// says why nothing was written.
func (p *Plan) Run(ctx context.Context, d Disk, opt Options) error {
	m := &mover{Plan: p, disk: d, Options: opt, total: p.Used(), buf: p.buffer()}
	next := p.next(0)
	if opt.Journal != nil {
		var (
			done bool
			err  error
		)
		if next, done, err = m.resume(); err != nil || done {
			return err
		}
	}
	if err := m.run(ctx, next); err != nil {
		return fmt.Errorf("the move stopped midway: %w", err)
	}
	return nil
}

// A mover is the state of a move.
type mover struct {
	*Plan
	disk Disk
	Options
	done, total int64 // bytes
	stage       stage
	sum         uint32 // of the window that was moved last
	buf         []byte // holds a window
	loaded      bool   // buf is the next window, and in the journal
	remark      bool   // marks may be gone
	inUse       bool   // the superblock at the new place is in use already
}

// run moves the windows from next on.
func (m *mover) run(ctx context.Context, next int64) error {
	m.done = m.bytesBefore(next)
	for k := next; k < m.windows(); k = m.next(k + 1) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.move(k); err != nil {
			return err
		}
	}
	m.done = m.total
	m.report()
	var err error
	switch {
	case m.Journal == nil:
		err = m.disk.Sync()
	case m.near && next < m.windows():
		err = m.record(slot{window: m.windows()}) // far, it is there by now
	}
	if err != nil {
		return err
	}
	return m.finish()
}

// move moves the k-th window, in the order that the package comment draws.
func (m *mover) move(k int64) (err error) {
	held := m.loaded // by the journal
	if m.loaded = false; !held {
		if m.buf, err = m.read(m.disk, m.From, k, m.buf); err != nil {
			return err
		}
	}
	if m.stage == whole && m.destroys(k) {
		m.stage = marking
		if err := m.record(slot{window: k}); err != nil {
			return err
		}
	}
	m.report()
	marked := m.stage == marking || m.remark
	if marked {
		if err := m.writeMarks(k); err != nil {
			return err
		}
		m.stage, m.remark = split, false
	}
	if m.near && !held || marked {
		s := slot{window: k}
		if m.near {
			s.data = m.buf
		}
		if err := m.record(s); err != nil {
			return err
		}
	}
	if err := m.write(k); err != nil {
		return err
	}
	m.sum = crc32.Checksum(m.buf, castagnoli)
	m.done += int64(len(m.buf))
	if m.Journal == nil {
		return nil
	}
	if err := m.disk.Sync(); err != nil || m.near {
		return err
	}
	return m.record(slot{window: m.next(k + 1)})
}

// record writes the progress of the move to the journal, if there is one.
func (m *mover) record(s slot) error {
	if m.Journal == nil {
		return nil
	}
	s.stage, s.sum = m.stage, m.sum
	return m.Journal.put(s)
}

// write writes the k-th window, which buf holds, to its new place. What takes
// the place of the superblock comes first.
func (m *mover) write(k int64) error {
	if k == m.marked() {
		var b [markSize]byte
		if m.stage != whole {
			b = m.mark()
		}
		if err := writeFull(m.disk, b[:], m.To+superAt); err != nil {
			return err
		}
	}
	b := m.buf
	return m.parts(k, func(start, end int64) error {
		part := b[:end-start]
		b = b[end-start:]
		return writeFull(m.disk, part, m.To+start)
	})
}

// writeMarks marks the old place, and the new one if its superblock was to be
// there by now, before the k-th window is written.
func (m *mover) writeMarks(k int64) error {
	b := m.mark()
	if !m.reaches(k) {
		if err := writeFull(m.disk, b[:], m.From+superAt); err != nil {
			return err
		}
	}
	if m.marked() < k {
		if err := writeFull(m.disk, b[:], m.To+superAt); err != nil {
			return err
		}
	}
	return m.disk.Sync()
}

// finish writes the superblock when everything else is at the new place, and
// removes the mark. It overwrites only data that the move itself has written:
// after a kill, the filesystem may have been used at its new place, and the old
// place may belong to one of its files.
func (m *mover) finish() error {
	var zeros [markSize]byte
	mark := m.mark()
	if !m.inUse {
		held := zeros[:]
		if m.stage != whole {
			held = mark[:]
		}
		switch ours, err := m.holds(m.To+superAt, held, m.super[:markSize]); {
		case err != nil:
			return err
		case !ours:
			return &ChangedError{fmt.Sprintf("at byte %d, where the superblock belongs", m.To+superAt)}
		}
		if err := writeFull(m.disk, m.super[:markSize], m.To+superAt); err != nil {
			return err
		}
	}
	if m.stage != whole && !m.reaches(m.windows()) {
		ours, err := m.holds(m.From+superAt, mark[:], zeros[:])
		if err == nil && ours {
			err = writeFull(m.disk, zeros[:], m.From+superAt)
		}
		if err != nil {
			return err
		}
	}
	if err := m.disk.Sync(); err != nil || m.Journal == nil {
		return err
	}
	if err := m.record(slot{window: m.windows() + 1}); err != nil {
		return err
	}
	m.Journal.done = true
	return nil
}

// holds reports whether the sector at off has contents that the move left
// there: the old ones, the new ones or, after a torn write, a part of each.
func (m *mover) holds(off int64, before, after []byte) (bool, error) {
	var b [markSize]byte
	if err := readFull(m.disk, b[:], off); err != nil {
		return false, err
	}
	return mixed(b[:], before, after), nil
}

func (m *mover) report() {
	if m.Progress != nil {
		m.Progress(m.done, m.total, m.stage != whole)
	}
}
