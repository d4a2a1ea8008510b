// Package move moves a filesystem on the disk that it lies on, though its old
// and its new place may overlap.
//
//	to the left    ┌─ To ─────────┬╌╌╌╌╌╌╌╌╌┐      windows from the first to the
//	               │    new    ◄──┼── old   │      last: what is written over was
//	               └╌╌╌╌╌╌╌╌╌╌╌╌╌╌┴─ From ──┘      moved before
//	to the right   from the last window to the first
//
// Only runs in use are moved, one window at a time: a window is read whole,
// then written. Windows without a run are skipped. If a move ends midway, the
// filesystem is in two pieces, and the table of their places is lost. So a
// [Journal], a file elsewhere, may record that table and the progress of the
// move:
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
// # Marks
//
// A filesystem in two pieces must not be mounted, repaired or moved once more.
// So the sector that holds the magic number of the superblock is not moved with
// the others. It is kept in the header of the journal, and on the disk:
//
//	                  at the old place        at the new place
//	nothing lost yet  the superblock          zeros
//	old place marked  a mark                  a mark, once its window is there
//	moved             zeros                   the superblock
//
// The old place is marked before the first window that overwrites it. If the
// places do not overlap, the old place does not change. A mark contains a
// random number of the move. It cannot be mounted. A repair with a copy of the
// superblock overwrites the mark, and a resumed move notices that.
//
// # Proofs
//
// A resume writes nothing before the disk has proved to be the one that the
// journal is about, in the state that it was left in: see proof.go.
//
// The journal appears under its name before anything else is written, when all
// of it is on its disk, with the room that it will need. It stays when the move
// is done, and records that: a second move would write the rest of the old
// place over the new place.
package move

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// A Disk is the disk on which a filesystem is moved.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Sync writes everything to the disk.
	Sync() error
	// Size returns the length in bytes.
	Size() int64
}

// A Plan describes a move: Size bytes from byte From of a disk to byte To, in
// which only runs are in use.
type Plan struct {
	From, To, Size int64

	id         [16]byte        // random
	super      [superSize]byte // the superblock
	diskSize   int64           // bytes
	runs       []run           // but for the marked sector
	windowSize int64           // bytes
	near       bool            // windows overlap their new place
	anchor     uint32          // checksum at the old place of the window that is moved last; of a plan with a journal
}

// A run is a range of the bytes of a filesystem.
type run ranges.Range[int64]

// Where the superblock of a filesystem lies, and its first sector, which is
// marked.
const (
	superAt   = 1024
	superSize = 1024
	markEnd   = superAt + markSize
	superEnd  = superAt + superSize
)

// Sizes in bytes.
const (
	maxWindow = 32 << 20 // of what is moved at a time
	align     = 4096     // of windows
	unit      = 1024     // of filesystems: the smallest block there is
	maxPlace  = 1 << 62  // far below what an int64 takes
)

// New returns a plan to move the runs of img, which lies at From of d, to To.
// The disk is as long already as it will be.
func New(img image.Image, d Disk, from, to int64) (*Plan, error) {
	p := &Plan{From: from, To: to, Size: img.Size(), diskSize: d.Size(), windowSize: maxWindow}
	if !p.possible() {
		return nil, fmt.Errorf("a filesystem of %d bytes cannot be moved from byte %d to byte %d of a disk of %d bytes", p.Size, from, to, p.diskSize)
	}
	if _, err := rand.Read(p.id[:]); err != nil {
		return nil, err
	}
	if err := readFull(d, p.super[:], from+superAt); err != nil {
		return nil, err
	}
	added := false
	for off := int64(0); ; {
		start, end, err := img.NextRun(off)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return nil, err
		}
		if !added && (last || end > superAt) {
			// All of the superblock but the marked sector, whatever img says.
			p.add(start, min(end, superAt))
			p.add(markEnd, superEnd)
			added = true
		}
		if last {
			break
		}
		p.add(start, min(end, superAt))
		p.add(max(start, superEnd), end)
		off = end
	}
	p.lay()
	return p, nil
}

// add adds a run behind the others, unless there is nothing in it.
func (p *Plan) add(start, end int64) {
	if n := len(p.runs); n > 0 {
		start = max(start, p.runs[n-1].End)
	}
	p.runs = ranges.Append(p.runs, start, end)
}

// possible reports whether both places are on the disk, and hold a superblock.
func (p *Plan) possible() bool {
	inside := func(at int64) bool { return at >= 0 && at <= maxPlace && p.Size <= p.diskSize-at }
	return p.Size >= superEnd && p.Size%unit == 0 && p.Size <= maxPlace && p.diskSize >= 0 && p.From != p.To && inside(p.From) && inside(p.To)
}

// lay finds out whether windows overlap their new place.
func (p *Plan) lay() {
	distance := max(p.To-p.From, p.From-p.To)
	p.near = distance < p.windowSize && distance < p.Size || distance < align
}

// Used returns how many bytes there are to move.
func (p *Plan) Used() int64 { return p.bytesBefore(p.windows()) + markSize }

// bytesBefore returns how many bytes are in use in the windows before the k-th.
func (p *Plan) bytesBefore(k int64) (n int64) {
	start, end := int64(0), p.Size
	if edge, _ := p.bounds(k); k < p.windows() && p.To <= p.From {
		end = edge
	} else if _, edge := p.bounds(k); k < p.windows() {
		start = edge
	}
	for _, r := range p.runs {
		n += max(min(r.End, end)-max(r.Start, start), 0)
	}
	return n
}

// windows returns how many windows there are.
func (p *Plan) windows() int64 { return (p.Size + p.windowSize - 1) / p.windowSize }

// bounds returns the bytes of the k-th window to be moved.
func (p *Plan) bounds(k int64) (start, end int64) {
	if p.To <= p.From {
		return k * p.windowSize, min((k+1)*p.windowSize, p.Size)
	}
	return max(p.Size-(k+1)*p.windowSize, 0), p.Size - k*p.windowSize
}

// windowOf returns which window a byte of the filesystem is moved with.
func (p *Plan) windowOf(off int64) int64 {
	if p.To <= p.From {
		return off / p.windowSize
	}
	return (p.Size - 1 - off) / p.windowSize
}

// next returns the first window that is not empty, from the k-th on; windows()
// if there is none.
func (p *Plan) next(k int64) int64 {
	if k >= p.windows() {
		return p.windows()
	}
	start, end := p.bounds(k)
	if p.To <= p.From {
		i := ranges.Find(p.runs, start)
		if i == len(p.runs) {
			return p.windows()
		}
		return p.windowOf(max(p.runs[i].Start, start))
	}
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].Start >= end }) - 1
	if i < 0 {
		return p.windows()
	}
	return p.windowOf(min(p.runs[i].End, end) - 1)
}

// previous returns the last window before the k-th that is not empty; -1 if
// there is none.
func (p *Plan) previous(k int64) int64 {
	if k <= 0 {
		return -1
	}
	start, end := p.bounds(k - 1)
	if p.To <= p.From {
		i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].Start >= end }) - 1
		if i < 0 {
			return -1
		}
		return p.windowOf(min(p.runs[i].End, end) - 1)
	}
	i := ranges.Find(p.runs, start)
	if i == len(p.runs) {
		return -1
	}
	return p.windowOf(max(p.runs[i].Start, start))
}

// destroys reports whether the k-th window is written over the old place.
func (p *Plan) destroys(k int64) bool {
	start, end := p.bounds(k)
	return p.To+start < p.From+p.Size && p.To+end > p.From
}

// Overlap reports whether the new place overlaps the old.
func (p *Plan) Overlap() bool { return max(p.To-p.From, p.From-p.To) < p.Size }

// parts calls f with each part of a run within the k-th window.
func (p *Plan) parts(k int64, f func(start, end int64) error) error {
	start, end := p.bounds(k)
	i := ranges.Find(p.runs, start)
	for ; i < len(p.runs) && p.runs[i].Start < end; i++ {
		if err := f(max(p.runs[i].Start, start), min(p.runs[i].End, end)); err != nil {
			return err
		}
	}
	return nil
}

// bytes returns how many bytes of the k-th window are in use.
func (p *Plan) bytes(k int64) (n int64) {
	_ = p.parts(k, func(start, end int64) error { n += end - start; return nil })
	return n
}

// read reads the k-th window, as it lies from byte at of the disk on, into b,
// which has room for a window.
func (p *Plan) read(d io.ReaderAt, at, k int64, b []byte) ([]byte, error) {
	b = b[:0]
	err := p.parts(k, func(start, end int64) error {
		n := len(b)
		b = b[:n+int(end-start)]
		return readFull(d, b[n:], at+start)
	})
	return b, err
}

// sum returns the checksum of the k-th window, as it lies from byte at on.
func (p *Plan) sum(d io.ReaderAt, at, k int64, b []byte) (uint32, error) {
	b, err := p.read(d, at, k, b)
	return crc32.Checksum(b, castagnoli), err
}

// buffer returns room for a window.
func (p *Plan) buffer() []byte { return make([]byte, 0, min(p.windowSize, p.Size)) }

// readFull fills b from a byte of the disk.
func readFull(d io.ReaderAt, b []byte, at int64) error {
	n, err := d.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeFull writes all of b.
func writeFull(d io.WriterAt, b []byte, at int64) error {
	n, err := d.WriteAt(b, at)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
