package qcow2

import (
	"errors"
	"io"
	"math"
	"sync"
)

// holes find the bytes of a file that are not zero, as lseek with SEEK_DATA
// does. They are those of a reader that has NextRun, as an image.Image has; of
// any other there are none.
type holes interface {
	NextRun(off int64) (start, end int64, err error)
}

func holesOf(r io.ReaderAt) holes {
	h, _ := r.(holes)
	return h
}

// fileRuns find the runs of a file that are no holes. They keep the last run:
// most files are one, and an image asks for each of its clusters. The zero
// fileRuns take all for data.
type fileRuns struct {
	holes holes

	mu               sync.Mutex
	from, start, end int64 // the first run at or after from
}

// data returns the bounds of the first of the n bytes from off on that lie in no
// hole; they are equal if all do.
func (f *fileRuns) data(off, n int64) (start, end int64) {
	if f.holes == nil {
		return off, off + n
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < f.from || off >= f.end {
		start, end, err := f.holes.NextRun(off)
		switch {
		case errors.Is(err, io.EOF):
			start, end = math.MaxInt64, math.MaxInt64
		case err != nil: // reading tells
			return off, off + n
		}
		f.from, f.start, f.end = off, start, end
	}
	start = min(max(off, f.start), off+n)
	return start, max(start, min(f.end, off+n))
}

// hole reports whether the n bytes of the file from off on are known to be a
// hole: tables of a sparse file may be as long as the file says.
func (f *fileRuns) hole(off, n int64) bool {
	start, end := f.data(off, n)
	return start == end
}
