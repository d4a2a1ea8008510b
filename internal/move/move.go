// Package move moves a filesystem on the disk that it lies on, though its old
// and its new place may overlap.
//
//	to the left    ┌─ To ─────────┬╌╌╌╌╌╌╌╌╌┐      windows from the first to the
//	               │    new    ◄──┼── old   │      last: what is written over was
//	               └╌╌╌╌╌╌╌╌╌╌╌╌╌╌┴─ From ──┘      moved before
//	to the right   from the last window to the first
//
// Only runs that are in use are moved, a window at a time: it is read whole,
// then written. If that ends midway the filesystem is in two pieces, and the
// table of what lies where is gone with it. So a [Journal], a file elsewhere,
// may hold that table, and how far the move is:
//
//	┌────────┬──────┬──────────────┬──────────────┐
//	│ header │ runs │ slot 0       │ slot 1       │
//	│ CRC    │ CRC  │ head, window │ head, window │
//	└────────┴──────┴──────────────┴──────────────┘
//
// Slots are written in turns, so that one is whole whenever power is cut. What
// has to be on which disk before the next step, for window k:
//
//	far: new and old place of a window do not overlap
//	    disk: window k at its new place ─ fsync ─► journal: slot "next is k+1" ─ fsync ─► k+1
//	near: they do; then the journal holds the window itself
//	    journal: slot "k", with the window ─ fsync ─► disk: window k at its new place ─ fsync ─► k+1
//
// Far, the old place of window k is whole until the journal says that it is no
// longer needed: only windows before k are written over before. Near, window k
// is in the journal before its old place is touched, and window k-1 is at its
// new place on the disk before the journal forgets it. Window k+1 is read from
// its old place, which window k does not reach. So whatever is the newest slot
// that is whole, going on from there gives the same filesystem.
//
// The journal appears under its name when all of it is on its disk, before
// anything is written, with the room that it will need. It stays when the move
// is done, and says so: to begin again would put what is left of the old place
// over the new.
package move

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"

	"e2qcow/internal/image"
)

// A Disk is what a filesystem is moved on.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Sync has what was written reach the disk.
	Sync() error
}

// A Plan is a filesystem that is to be moved: Size bytes from byte From of a
// disk to byte To, of which only runs are in use.
type Plan struct {
	From, To, Size int64
	runs           []run
	window         int64
	near           bool // windows overlap their new place
}

// A run is the bytes [start, end) of a filesystem.
type run struct{ start, end int64 }

// window is how many bytes are moved at a time, at most.
const window = 32 << 20

// New returns a plan to move the runs of img, which lies at From, to To.
func New(img image.Image, from, to int64) (*Plan, error) {
	p := &Plan{From: from, To: to, Size: img.Size()}
	for off := int64(0); ; {
		start, end, err := img.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		p.runs = append(p.runs, run{start, end})
		off = end
	}
	p.lay()
	return p, nil
}

// lay chooses the windows.
func (p *Plan) lay() {
	const align = 4096
	distance := p.To - p.From
	if distance < 0 {
		distance = -distance
	}
	p.window = window
	p.near = distance < window && distance < p.Size
	if distance < align {
		p.near = true
	}
}

// Used returns how many bytes there are to move.
func (p *Plan) Used() int64 {
	n := int64(0)
	for _, r := range p.runs {
		n += r.end - r.start
	}
	return n
}

// windows returns how many windows there are.
func (p *Plan) windows() int64 { return (p.Size + p.window - 1) / p.window }

// bounds returns the bytes of the k-th window to be moved.
func (p *Plan) bounds(k int64) (start, end int64) {
	if p.To <= p.From {
		return k * p.window, min((k+1)*p.window, p.Size)
	}
	return max(p.Size-(k+1)*p.window, 0), p.Size - k*p.window
}

// destroys tells whether the k-th window is written over the old place.
func (p *Plan) destroys(k int64) bool {
	start, end := p.bounds(k)
	return p.To+start < p.From+p.Size && p.To+end > p.From
}

// parts calls f with each part of a run within the k-th window.
func (p *Plan) parts(k int64, f func(start, end int64) error) error {
	start, end := p.bounds(k)
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].end > start })
	for ; i < len(p.runs) && p.runs[i].start < end; i++ {
		if err := f(max(p.runs[i].start, start), min(p.runs[i].end, end)); err != nil {
			return err
		}
	}
	return nil
}

// read appends the k-th window, as it lies from byte at of the disk on, to b.
func (p *Plan) read(d io.ReaderAt, at, k int64, b []byte) ([]byte, error) {
	err := p.parts(k, func(start, end int64) error {
		n := len(b)
		b = b[:n+int(end-start)]
		if got, err := d.ReadAt(b[n:], at+start); got < len(b)-n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		return nil
	})
	return b, err
}

// write writes the k-th window, which b holds, to its new place.
func (p *Plan) write(d io.WriterAt, k int64, b []byte) error {
	return p.parts(k, func(start, end int64) error {
		n, err := d.WriteAt(b[:end-start], p.To+start)
		if err == nil && int64(n) < end-start {
			err = io.ErrShortWrite
		}
		b = b[end-start:]
		return err
	})
}

// ErrOther says that a journal is not of the filesystem on this disk.
var ErrOther = errors.New("does not hold what the journal says was moved")

// Options are what Run is told beside its plan.
type Options struct {
	// Journal is where the move is recorded, and resumed from; nil is nowhere.
	Journal *Journal
	// Progress is told how many of all bytes are moved, and whether the old
	// place is being written over. It may be nil.
	Progress func(done, total int64, destroying bool)
}

// Run moves the filesystem. When ctx ends it stops between two windows; an
// error from the first of them on says that the move stopped midway.
func (p *Plan) Run(ctx context.Context, d Disk, opt Options) error {
	m := &mover{Plan: p, disk: d, Options: opt, total: p.Used()}
	next := int64(0)
	if j := opt.Journal; j != nil {
		var err error
		if next, m.sum, err = p.resume(d, j); err != nil {
			return err
		}
		if j.done {
			return nil
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
	done, total int64  // bytes
	destroying  bool   // the old place is written over
	sum         uint32 // of the window before
	buf         []byte // holds a window
}

// run moves the windows from next on.
func (m *mover) run(ctx context.Context, next int64) error {
	for k := range next {
		m.done += m.bytes(k)
	}
	m.destroying = next > 0 && m.destroys(next-1)
	m.buf = make([]byte, 0, min(m.window, m.Size))
	for k := next; k < m.windows(); k++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.move(k); err != nil {
			return err
		}
	}
	m.report()
	if err := m.disk.Sync(); err != nil || m.Journal == nil {
		return err
	}
	if err := m.Journal.put(m.windows(), m.sum, nil); err != nil {
		return err
	}
	m.Journal.done = true
	return nil
}

// move moves the k-th window, in the order that the package comment draws.
func (m *mover) move(k int64) (err error) {
	if m.buf, err = m.read(m.disk, m.From, k, m.buf[:0]); err != nil {
		return err
	}
	if m.Journal != nil && m.near {
		if err := m.Journal.put(k, m.sum, m.buf); err != nil {
			return err
		}
	}
	m.destroying = m.destroying || m.destroys(k)
	m.report()
	if err := m.write(m.disk, k, m.buf); err != nil {
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
	return m.Journal.put(k+1, m.sum, nil)
}

func (m *mover) report() {
	if m.Progress != nil {
		m.Progress(m.done, m.total, m.destroying)
	}
}

// bytes returns how many bytes of the k-th window are in use.
func (p *Plan) bytes(k int64) (n int64) {
	_ = p.parts(k, func(start, end int64) error { n += end - start; return nil })
	return n
}

// resume finishes the window that the journal holds, if it holds one, and
// returns the window to go on with, and the checksum of that before.
func (p *Plan) resume(d Disk, j *Journal) (next int64, sum uint32, err error) {
	s, found, err := j.newest()
	if err != nil || !found {
		if err == nil {
			err = p.checkAnchor(d, j)
		}
		return 0, 0, err
	}
	if s.window > p.windows() {
		return 0, 0, ErrNotJournal
	}
	if s.window == p.windows() {
		j.done = true // the filesystem may have been in use since
		return s.window, 0, nil
	}
	if s.window > 0 {
		before, err := p.read(d, p.To, s.window-1, make([]byte, 0, min(p.window, p.Size)))
		if err != nil {
			return 0, 0, err
		}
		if crc32.Checksum(before, castagnoli) != s.before {
			return 0, 0, ErrOther
		}
	} else if p.windows() > 1 { // else its old place may be written over
		if err := p.checkAnchor(d, j); err != nil {
			return 0, 0, err
		}
	}
	if !p.near {
		return s.window, s.before, nil
	}
	if int64(len(s.data)) != p.bytes(s.window) {
		return 0, 0, ErrOther
	}
	if err := p.write(d, s.window, s.data); err != nil {
		return 0, 0, err
	}
	if err := d.Sync(); err != nil {
		return 0, 0, err
	}
	return s.window + 1, crc32.Checksum(s.data, castagnoli), nil
}

// anchor returns a checksum of the window that is moved last. Till then it
// tells the disk.
func (p *Plan) anchor(d io.ReaderAt) (uint32, error) {
	b, err := p.read(d, p.From, p.windows()-1, make([]byte, 0, min(p.window, p.Size)))
	return crc32.Checksum(b, castagnoli), err
}

func (p *Plan) checkAnchor(d io.ReaderAt, j *Journal) error {
	sum, err := p.anchor(d)
	if err == nil && sum != j.anchor {
		err = ErrOther
	}
	return err
}
