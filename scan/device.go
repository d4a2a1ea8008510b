package scan

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// sector is the smallest piece that a read which failed is broken into.
const sector = 512

// Failing reads take a dying disk seconds each. When breakUpTime has gone into
// them, a read that fails is no longer broken up; when nothing but failures
// has come for deadTime, nothing more is read at all.
const (
	breakUpTime = 15 * time.Minute
	deadTime    = 2 * time.Minute
)

// A Range is a range of bytes [Start, End).
type Range struct {
	Start, End int64
}

// A device reads the source. It splits a failed read in halves, down to a
// sector. Lost bytes are zero, and listed. So no read fails.
type device struct {
	r       io.ReaderAt
	size    int64
	retries int     // more tries for a sector that cannot be read
	bad     []Range // not to be read: known to be bad; ascending, disjoint

	// done is closed when nothing more is wanted; nil never is.
	done <-chan struct{}

	mu     sync.Mutex
	failed *ReadError // the first read that failed
	lost   []Range
	wasted time.Duration // on failed reads, of which several may go on at once
	barren time.Duration // on failed reads since one succeeded
	ended  time.Time     // when the last one failed
}

// A ReadError says that no filesystem was found and that a place where its
// superblock might be cannot be read. It is an ErrNotExt.
type ReadError struct {
	Offset int64 // in the source
	Err    error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("%v, but byte %d cannot be read: %v", ErrNotExt, e.Offset, e.Err)
}

func (e *ReadError) Unwrap() []error { return []error{ErrNotExt, e.Err} }

var errKnownBad = errors.New("known to be unreadable")

// tryRead fills p from off if that can be done in one go. Of a dead device
// nothing can.
func (d *device) tryRead(p []byte, off int64) bool { return d.tryReadFor(p, off, image.Again) }

func (d *device) tryReadFor(p []byte, off int64, use image.Use) bool {
	if d.dead() || off < 0 || off > d.size-int64(len(p)) {
		return false
	}
	if bad := d.nextBad(off); bad.Start < off+int64(len(p)) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.fail(max(off, bad.Start), errKnownBad)
		return false
	}
	n, _ := d.ask(p, off, use)
	return n == len(p)
}

// nearBad is the distance from a bad area within which reads bypass the page
// cache, because the page cache also reads bytes beside the requested ones.
const nearBad = 128 << 10

// ask reads from the source, and keeps account of failures.
func (d *device) ask(p []byte, off int64, use image.Use) (int, error) {
	if d.nextBad(off-nearBad).Start < off+int64(len(p))+nearBad {
		use = image.Once
	}
	start := time.Now()
	n, err := image.ReadFor(d.r, p, off, use)
	if n == len(p) {
		err = nil
	} else if err == nil {
		err = io.ErrUnexpectedEOF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.barren = 0
	case lostTo(err, off+int64(n)) > 0: // nothing was tried in vain
		d.fail(off+int64(n), err)
	default:
		now := time.Now()
		if start.Before(d.ended) {
			start = d.ended
		}
		d.wasted += now.Sub(start)
		d.barren += now.Sub(start)
		d.ended = now
		d.fail(off+int64(n), err)
	}
	return n, err
}

// fail remembers the first failure.
func (d *device) fail(off int64, err error) {
	if d.failed == nil {
		d.failed = &ReadError{off, err}
	}
}

// failure returns the first failure to read, if there was one.
func (d *device) failure() *ReadError {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// nextBad returns the first range known to be bad that ends behind off.
func (d *device) nextBad(off int64) Range {
	i := ranges.Find(d.bad, off)
	if i == len(d.bad) {
		return Range{math.MaxInt64, math.MaxInt64}
	}
	return d.bad[i]
}

// read fills p from off. Beyond the end of the source all is zero.
func (d *device) read(p []byte, off int64) {
	if off >= d.size {
		clear(p)
		return
	}
	if rest := d.size - off; int64(len(p)) > rest {
		clear(p[rest:])
		p = p[:rest]
	}
	for len(p) > 0 {
		bad := d.nextBad(off)
		if n := min(max(bad.Start-off, 0), int64(len(p))); n > 0 {
			d.readGood(p[:n], off, image.Again)
			p, off = p[n:], off+n
		}
		if n := min(bad.End-off, int64(len(p))); n > 0 {
			clear(p[:n])
			d.lose(off, off+n)
			p, off = p[n:], off+n
		}
	}
}

// readGood fills p from off, which lies within the source. After a failure it
// reads past the page cache, where a bad sector would cost its whole page.
func (d *device) readGood(p []byte, off int64, use image.Use) {
	tries := 0
	for len(p) > 0 {
		if d.dead() {
			clear(p)
			d.lose(off, off+int64(len(p)))
			return
		}
		n, err := d.ask(p, off, use)
		if err == nil {
			return
		}
		if end := lostTo(err, off+int64(n)); end > 0 {
			p, off = p[n:], off+int64(n)
			n := min(end-off, int64(len(p)))
			clear(p[:n])
			d.lose(off, off+n)
			p, off = p[n:], off+n
			continue
		}
		use = image.Once
		// What came before the failure is good up to a sector's border.
		good := max(int64(n)-(off+int64(n))%sector, 0)
		p, off = p[good:], off+good
		end := off + int64(len(p))
		if oneSector := off/sector == (end-1)/sector; oneSector || d.giveUp() {
			if oneSector && (good > 0 || tries < d.retries) {
				tries++
				continue
			}
			clear(p)
			d.lose(off, end)
			return
		}
		half := (off+int64(len(p)/2)+sector-1)&^(sector-1) - off
		if half >= int64(len(p)) {
			half = sector - off%sector
		}
		d.readGood(p[:half], off, use)
		p, off = p[half:], off+half
	}
}

// lostTo returns the end of the range that a failed read found to be lost, and
// that at lies in; 0 if the error does not say.
func lostTo(err error, at int64) int64 {
	if lost := (*image.LostError)(nil); errors.As(err, &lost) && lost.Start <= at && at < lost.End {
		return lost.End
	}
	return 0
}

// giveUp reports whether failed reads are no longer split.
func (d *device) giveUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wasted > breakUpTime
}

// dead reports whether the device is not read any more.
func (d *device) dead() bool {
	select {
	case <-d.done:
		return true
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.barren > deadTime
}

// lose lists the sectors that [start, end) lies in.
func (d *device) lose(start, end int64) {
	start, end = start&^(sector-1), (end+sector-1)&^(sector-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail(start, errKnownBad) // else something failed before
	d.lost = ranges.Append(d.lost, start, end)
}

// lostIn returns the lost ranges in [start, end), in any order.
func (d *device) lostIn(start, end int64) (in []Range) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.lost {
		if ranges.Overlap(r, Range{start, end}) {
			in = append(in, r)
		}
	}
	return in
}

// unreadable returns the lost ranges, ascending and merged.
func (d *device) unreadable() []Range {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = ranges.Join(d.lost)
	return slices.Clone(d.lost)
}
