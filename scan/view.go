package scan

import (
	"io"
	"sync/atomic"

	"e2qcow/image"
)

// A View is the image of a filesystem's metadata: the blocks of the map as
// the source has them, all else zero.
type View struct {
	dev       *device
	runs      *runIndex
	scanned   *runIndex // of runs, what the scan has read but for a few (Map.scanned)
	slack     *slackIndex
	holes     holes // of the source
	blockSize int64
	size      int64

	unscanned *atomic.Int64 // bytes that were read and that the scan had not read
}

// UnscannedRead returns how many bytes of those that the scan had no need to read
// have been read (Result.ReadBytes).
func (v *View) UnscannedRead() int64 { return v.unscanned.Load() }

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

// NextData is NextRun without the blocks in holes of the source. These are
// zero, so the writer of an image need not read them.
func (v *View) NextData(off int64) (start, end int64, err error) {
	holes := v.holes // asked anew: the view is for several goroutines
	for {
		start, end, err = v.NextRun(off)
		if err != nil {
			return 0, 0, err
		}
		if from, to := holes.data(start, end); from < to {
			return max(start, from-from%v.blockSize), min(end, (to+v.blockSize-1)/v.blockSize*v.blockSize), nil
		}
		off = end
	}
}

// ReadAt reads as io.ReaderAt does. Unreadable bytes are zero, and
// Result.Unreadable lists them. The only errors are io.EOF at the end, and the
// error of image.DamageOf if the source is an image whose tables contradict
// each other.
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
	if damage := image.DamageOf(v.dev.r); damage != nil {
		return 0, damage
	}
	return len(p), err
}

// Advice returns the advice of the source on how to read it.
func (v *View) Advice() image.Advice { return image.AdviceOf(v.dev.r) }

// leastPart is the smallest number of bytes, read by the scan or not, for a
// read of their own.
const leastPart = 64 << 10

// tryRead fills p, which begins and ends with known bytes, from off. It reads
// blocks that the scan has read apart from the others. It returns false if a
// byte could not be read.
func (v *View) tryRead(p []byte, off int64) bool {
	for end := off + int64(len(p)); off < end; {
		stop, use := v.part(off, end)
		if !v.dev.tryReadFor(p[:stop-off], off, use) {
			return false
		}
		if use == image.Once {
			v.unscanned.Add(v.covered(v.runs, off, stop) - v.covered(v.scanned, off, stop))
		}
		p, off = p[stop-off:], stop
	}
	return true
}

// part returns the end of the part of [off, end) that one call reads, and the
// Use of that part.
func (v *View) part(off, end int64) (int64, image.Use) {
	stop := end
	for at := off; at < end; {
		start, e, ok := v.scanned.next(uint64(at / v.blockSize))
		if !ok || int64(start)*v.blockSize >= end {
			break
		}
		from, to := max(int64(start)*v.blockSize, off), min(int64(e)*v.blockSize, end)
		if to-from >= leastPart {
			if from == off {
				return to, image.Last
			}
			stop = from
			break
		}
		at = to
	}
	if v.covered(v.scanned, off, stop) == v.covered(v.runs, off, stop) {
		return stop, image.Last
	}
	return stop, image.Once
}

// covered returns how many bytes of [off, end) are in the runs of x.
func (v *View) covered(x *runIndex, off, end int64) (n int64) {
	for at := off; at < end; {
		start, e, ok := x.next(uint64(at / v.blockSize))
		if !ok || int64(start)*v.blockSize >= end {
			break
		}
		to := min(int64(e)*v.blockSize, end)
		n += to - max(int64(start)*v.blockSize, at)
		at = to
	}
	return n
}

// readSpan reads the run [start, stop), and the runs behind it that only
// short gaps keep apart, in one go, then clears the gaps. It returns where
// the span ends. p[0] is the byte at off.
func (v *View) readSpan(p []byte, off, start, stop, end int64) int64 {
	from, bridge := start, int64(v.Advice().Bridge)
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
	if !v.tryRead(p[start-off:stop-off], start) {
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
