package scan

import (
	"io"
)

// A View is the image of a filesystem's metadata: the blocks of the map as
// the source has them, all else zero.
type View struct {
	dev       *device
	runs      *runIndex
	slack     *slackIndex
	blockSize int64
	size      int64
}

// Size returns the virtual size in bytes: the source's length, rounded down
// to whole sectors of 512 bytes.
func (v *View) Size() int64 { return v.size }

// NextRun returns the bounds of the first run of metadata at or after off, in
// bytes; io.EOF where there is none.
func (v *View) NextRun(off int64) (start, end int64, err error) {
	if off < v.size {
		if s, e, ok := v.runs.next(uint64(off / v.blockSize)); ok && int64(s)*v.blockSize < v.size {
			return max(off, int64(s)*v.blockSize), min(v.size, int64(e)*v.blockSize), nil
		}
	}
	return 0, 0, io.EOF
}

// bridge is the longest gap between blocks, in bytes, that is read through
// rather than skipped: a request costs more than so many bytes even where
// nothing has to seek.
const bridge = 32 << 10

// ReadAt reads as io.ReaderAt does. What the source cannot give is zero and
// listed by Result.Unreadable; the only error is io.EOF at the end.
func (v *View) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= v.size {
		return 0, io.EOF
	}
	if rest := v.size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	end := off + int64(len(p))
	for at := off; at < end; {
		start, stop, runErr := v.NextRun(at)
		if runErr != nil || start >= end {
			clear(p[at-off:])
			break
		}
		clear(p[at-off : start-off])
		at = v.readSpan(p, off, start, min(stop, end), end)
	}
	return len(p), err
}

// readSpan reads the run [start, stop), and the runs behind it that only
// short gaps keep apart, in one go, then clears the gaps. It returns where
// the span ends. p[0] is the byte at off.
func (v *View) readSpan(p []byte, off, start, stop, end int64) int64 {
	from := start
	type gap struct{ start, end int64 }
	var buf [64]gap
	gaps := buf[:0]
	for stop < end && len(gaps) < cap(gaps) {
		s, e, err := v.NextRun(stop)
		if err != nil || s >= end || s-stop > bridge {
			break
		}
		gaps = append(gaps, gap{stop, s})
		stop = min(e, end)
	}
	if !v.dev.tryRead(p[start-off:stop-off], start) {
		// A bad sector may lie in a gap, where it does no harm.
		for _, g := range gaps {
			v.dev.read(p[start-off:g.start-off], start)
			start = g.end
		}
		v.dev.read(p[start-off:stop-off], start)
	}
	for _, g := range gaps {
		clear(p[g.start-off : g.end-off])
	}
	v.clearSlack(p[from-off:stop-off], from)
	return stop
}
