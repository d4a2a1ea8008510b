package move

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
)

// What a disk has to show before a resume writes to it. Here "moved" are the
// windows before the one that the journal says is next.
//
//	the disk     has the size that it had
//	superblock   whole: as it was, at the old place
//	marks        marking: the superblock or the mark, or some bytes of each, at the old
//	             place, of which nothing is written over yet
//	             split: the mark, wherever it was not written over
//	moved        the last window that was moved is at its new place
//	to be moved  far: the last window is at its old place; near: of the next window,
//	             which the journal holds, each byte at the old place is as it was
//	             or as it will be
//
// A window without a run is never a proof: there is nothing in it to compare.

// Why a move is not resumed.
var (
	// ErrOther says that a disk is not the one that a journal is about.
	ErrOther = errors.New("is not the disk that the journal is about, or has been written over since")
	// ErrStale says that the filesystem changed after a move began, and that
	// the move has not yet overwritten any of it.
	ErrStale = errors.New("has changed since the move began, which has not written over any of the filesystem: it was mounted, checked or written to")
	// ErrShort says that a disk ends before the places that a move is about.
	ErrShort = errors.New("is shorter than the disk that the journal is about")
)

// A ChangedError names the part of a disk that changed since a move stopped.
// The disk is that of the journal.
type ChangedError struct{ What string }

func (e *ChangedError) Error() string {
	return "has changed since the move stopped, " + e.What + ": a part of it was mounted, checked, or written to"
}

// A prover compares a disk with a journal.
type prover struct {
	*Plan
	disk Disk
	slot
	buf   []byte
	inUse bool // all was moved, and the filesystem is in use at its new place
	marks bool // they are where they should be, and there are some
}

// resume finds out where to go on, and that this is the disk to do so on.
func (m *mover) resume() (next int64, done bool, err error) {
	s, err := m.Journal.newest(m.Plan)
	if err != nil {
		return 0, false, err
	}
	v := &prover{Plan: m.Plan, disk: m.disk, slot: s, buf: m.buf}
	if m.disk.Size() < max(m.From, m.To)+m.Size {
		return 0, false, fmt.Errorf("%w: it has %d bytes, that had %d", ErrShort, m.disk.Size(), m.diskSize)
	}
	if s.window > m.windows() {
		m.Journal.done = true
		return s.window, true, v.proveDone()
	}
	err = v.prove()
	if changed := (*ChangedError)(nil); errors.As(err, &changed) && m.Force {
		m.remark, err = true, nil
	}
	m.stage, m.sum, m.inUse = s.stage, s.sum, v.inUse
	if s.data != nil {
		m.buf, m.loaded = append(m.buf[:0], s.data...), true
	}
	return s.window, false, err
}

// checkLength refuses a disk that has become shorter.
func (v *prover) checkLength() error {
	if v.disk.Size() < v.diskSize {
		return fmt.Errorf("%w: it has %d bytes, that had %d", ErrShort, v.disk.Size(), v.diskSize)
	}
	return nil
}

// prove returns an error if the disk has changed since the move stopped.
func (v *prover) prove() error {
	if used, err := v.used(); used || err != nil {
		v.inUse = used
		if err == nil {
			err = v.checkLength()
		}
		return err
	}
	if v.stage == whole {
		return v.proveWhole()
	}
	if v.stage == marking {
		// Nothing is written over before the marks are there.
		var super [superSize]byte
		if err := readFull(v.disk, super[:], v.From+superAt); err != nil {
			return err
		}
		mark := v.mark()
		switch {
		case super == v.super:
			return v.proveWhole()
		case !mixed(super[:markSize], v.super[:markSize], mark[:]) && sameFilesystem(super[:], v.super[:]):
			return ErrStale
		}
	}
	var what []string
	for _, check := range []func() (string, error){v.checkMarks, v.checkMoved, v.checkRest} {
		text, err := check()
		if err != nil {
			return err
		}
		if text != "" {
			what = append(what, text)
		}
	}
	if len(what) == 0 && v.disk.Size() != v.diskSize {
		return &ChangedError{fmt.Sprintf("to %d bytes from %d", v.disk.Size(), v.diskSize)}
	}
	switch {
	case len(what) == 0:
		return nil
	case !v.known():
		return ErrOther
	}
	return &ChangedError{what[0]}
}

// used reports whether the whole filesystem was moved, the superblock too, and
// was then used at its new place before the journal recorded the end of the
// move.
func (v *prover) used() (bool, error) {
	if v.window != v.windows() {
		return false, nil
	}
	var super [superSize]byte
	if err := readFull(v.disk, super[:], v.To+superAt); err != nil {
		return false, err
	}
	before := make([]byte, markSize)
	if v.stage != whole {
		mark := v.mark()
		before = mark[:]
	}
	return super != v.super && !mixed(super[:markSize], v.super[:markSize], before) && sameFilesystem(super[:], v.super[:]), nil
}

// proveWhole returns an error if the filesystem at the old place, which was not
// overwritten, has changed.
func (v *prover) proveWhole() error {
	var super [superSize]byte
	if err := readFull(v.disk, super[:], v.From+superAt); err != nil {
		return err
	}
	if super != v.super {
		if !sameFilesystem(super[:], v.super[:]) {
			return ErrOther
		}
		return ErrStale
	}
	for _, check := range []func() (string, error){v.checkMoved, v.checkRest} {
		if text, err := check(); err != nil {
			return err
		} else if text != "" {
			return fmt.Errorf("%w (%s)", ErrStale, text)
		}
	}
	if v.disk.Size() != v.diskSize {
		return fmt.Errorf("%w (it has %d bytes now, and had %d)", ErrStale, v.disk.Size(), v.diskSize)
	}
	return nil
}

// proveDone returns an error if a disk does not contain the moved filesystem.
// The filesystem may have been used since.
func (v *prover) proveDone() error {
	if err := v.checkLength(); err != nil {
		return err
	}
	var super [superSize]byte
	if err := readFull(v.disk, super[:], v.To+superAt); err != nil {
		return err
	}
	if !sameFilesystem(super[:], v.super[:]) {
		return fmt.Errorf("%w: the move is done, and at byte %d there is another filesystem or none", ErrOther, v.To)
	}
	return nil
}

// sameFilesystem reports whether two superblocks are of the same filesystem: by
// the magic number and the UUID.
func sameFilesystem(a, b []byte) bool {
	const magicAt, uuidAt, uuidSize = 0x38, 0x68, 16
	return bytes.Equal(a[magicAt:magicAt+2], b[magicAt:magicAt+2]) && bytes.Equal(a[uuidAt:uuidAt+uuidSize], b[uuidAt:uuidAt+uuidSize])
}

// known reports whether the disk has a trace of this move: a mark, moved data,
// or a superblock that a repair has rewritten.
func (v *prover) known() bool {
	if v.marks {
		return true
	}
	for _, at := range []int64{v.From, v.To} {
		if m, ok := FindMark(v.disk, at); ok && m.id == v.id {
			return true
		}
	}
	if v.previous(v.window) >= 0 {
		if text, err := v.checkMoved(); err == nil && text == "" {
			return true
		}
	}
	at := v.To
	if v.previous(v.window) < 0 {
		at = v.From // at the new place there is nothing yet
	}
	var super [superSize]byte
	err := readFull(v.disk, super[:], at+superAt)
	return err == nil && sameFilesystem(super[:], v.super[:])
}

// checkMarks says which mark is not there, "" for none.
func (v *prover) checkMarks() (string, error) {
	mark := v.mark()
	original, zeros := v.super[:markSize], make([]byte, markSize)
	type place struct {
		at   int64
		a, b []byte // the one or the other, or some bytes of each
	}
	var places []place
	last := v.window == v.windows()
	if !v.reaches(v.window) && (v.stage == marking || !v.touches(v.window)) {
		old := place{v.From, mark[:], mark[:]}
		if v.stage == marking {
			old.b = original
		}
		if last {
			old.b = zeros
		}
		places = append(places, old)
	}
	if v.marked() < v.window {
		moved := place{v.To, mark[:], mark[:]}
		if v.stage == marking {
			moved.b = zeros
		}
		if last {
			moved.b = original
		}
		places = append(places, moved)
	}
	for _, p := range places {
		var there [markSize]byte
		if err := readFull(v.disk, there[:], p.at+superAt); err != nil {
			return "", err
		}
		if !mixed(there[:], p.a, p.b) {
			return fmt.Sprintf("where the superblock was or will be, at byte %d", p.at+superAt), nil
		}
	}
	v.marks = len(places) > 0
	return "", nil
}

// mixed reports whether each byte of got equals that of a or of b.
func mixed(got, a, b []byte) bool {
	for i, c := range got {
		if c != a[i] && c != b[i] {
			return false
		}
	}
	return true
}

// checkMoved says whether the window that was moved last is not at its new
// place.
func (v *prover) checkMoved() (string, error) {
	k := v.previous(v.window)
	if k < 0 {
		return "", nil
	}
	sum, err := v.Plan.sum(v.disk, v.To, k, v.buf)
	if err == nil && sum != v.slot.sum {
		start, end := v.bounds(k)
		return fmt.Sprintf("among the bytes %d to %d, which were moved last", v.To+start, v.To+end-1), nil
	}
	return "", err
}

// checkRest returns what has changed if the rest of the data is not at its old
// place, "" otherwise.
func (v *prover) checkRest() (string, error) {
	switch {
	case v.window == v.windows():
		return "", nil
	case v.data != nil:
		return v.checkNext()
	}
	k := v.previous(v.windows())
	sum, err := v.Plan.sum(v.disk, v.From, k, v.buf)
	if err == nil && sum != v.anchor {
		start, end := v.bounds(k)
		return fmt.Sprintf("among the bytes %d to %d, which are moved at the end", v.From+start, v.From+end-1), nil
	}
	return "", err
}

// checkNext says whether a byte of the window that the journal holds is, at its
// old place, neither as it was nor as this window makes it.
func (v *prover) checkNext() (string, error) {
	// Where the parts of the window lie in data.
	type part struct{ start, end, at int64 }
	var parts []part
	n := int64(0)
	_ = v.parts(v.window, func(start, end int64) error {
		parts = append(parts, part{start, end, n})
		n += end - start
		return nil
	})
	mark := v.mark()
	const piece = 1 << 20
	there, after := make([]byte, piece), make([]byte, piece)
	for _, p := range parts {
		for off := p.start; off < p.end; off += piece {
			size := min(p.end-off, piece)
			there, after := there[:size], after[:size]
			if err := readFull(v.disk, there, v.From+off); err != nil {
				return "", err
			}
			was := v.data[p.at+off-p.start:][:size]
			copy(after, was)
			// The same bytes of the disk, as bytes of the new place.
			first := v.From + off - v.To
			lay := func(start, end int64, b []byte) {
				if lo, hi := max(start, first), min(end, first+size); lo < hi {
					copy(after[lo-first:hi-first], b[lo-start:hi-start])
				}
			}
			i := sort.Search(len(parts), func(i int) bool { return parts[i].end > first })
			for ; i < len(parts) && parts[i].start < first+size; i++ {
				lay(parts[i].start, parts[i].end, v.data[parts[i].at:])
			}
			if v.window == v.marked() {
				var b [markSize]byte
				if v.stage != whole {
					b = mark
				}
				lay(superAt, markEnd, b[:])
			}
			if !mixed(there, was, after) {
				return fmt.Sprintf("among the bytes %d to %d, which are moved next", v.From+off, v.From+off+size-1), nil
			}
		}
	}
	return "", nil
}
