package scan

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
)

// sector is the smallest piece that a read which failed is broken into.
const sector = 512

// maxFailedReads bounds how many reads may fail before whatever cannot be
// read whole is given up whole: a device that errors everywhere ends soon.
const maxFailedReads = 4096

// A Range is a range of bytes [Start, End).
type Range struct {
	Start, End int64
}

// A device reads the source. What cannot be read is read again in halves down
// to a sector; what is lost is zero, and listed. So no read fails.
type device struct {
	r    io.ReaderAt
	size int64

	mu     sync.Mutex
	lost   []Range
	failed int
}

// tryRead fills p from off if that can be done in one go.
func (d *device) tryRead(p []byte, off int64) bool {
	if off < 0 || off > d.size-int64(len(p)) {
		return false
	}
	n, _ := d.r.ReadAt(p, off)
	return n == len(p)
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
		n, err := d.r.ReadAt(p, off)
		if n == len(p) {
			return
		}
		if n > 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		// What came before the failure is good up to a sector's border.
		good := max(int64(n)-(off+int64(n))%sector, 0)
		p, off = p[good:], off+good
		end := off + int64(len(p))
		if errors.Is(err, io.EOF) || off/sector == (end-1)/sector || d.giveUp() {
			clear(p)
			d.lose(off, end)
			return
		}
		half := (off+int64(len(p)/2)+sector-1)&^(sector-1) - off
		if half == int64(len(p)) {
			half = sector - off%sector
		}
		d.read(p[:half], off)
		p, off = p[half:], off+half
	}
}

func (d *device) giveUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed++
	return d.failed > maxFailedReads
}

// lose lists the sectors that [start, end) lies in.
func (d *device) lose(start, end int64) {
	start, end = start&^(sector-1), (end+sector-1)&^(sector-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.lost); n > 0 && d.lost[n-1].End == start {
		d.lost[n-1].End = end
		return
	}
	d.lost = append(d.lost, Range{start, end})
}

// unreadable returns what was lost, ascending and merged.
func (d *device) unreadable() []Range {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.SortFunc(d.lost, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
	})
	merged := d.lost[:0]
	for _, r := range d.lost {
		if n := len(merged); n > 0 && r.Start <= merged[n-1].End {
			merged[n-1].End = max(merged[n-1].End, r.End)
		} else {
			merged = append(merged, r)
		}
	}
	d.lost = merged
	return slices.Clone(merged)
}
