package qcow2

import (
	"io"
	"slices"
	"sync"
	"time"

	"e2qcow/internal/ranges"
)

const (
	// tableSector is the piece of a table that is lost where it cannot be read.
	tableSector = 512

	// maxTableFailures is after how many failed reads of tables, and tableTime
	// after what time for them, a failed read is no longer broken up: a dying disk
	// takes seconds for each.
	maxTableFailures = 1 << 12
	tableTime        = 5 * time.Minute
)

// A tableReader reads tables of a damaged file. No read fails: what is behind the
// end of the file, or cannot be read, is zero, and bad tells.
type tableReader struct {
	r    io.ReaderAt
	size int64

	mu       sync.Mutex
	failures int
	wasted   time.Duration // on failed reads
	unread   []Range       // of the file; ascending and disjoint
}

// ReadAt fills b.
func (t *tableReader) ReadAt(b []byte, off int64) (int, error) {
	n := max(0, min(int64(len(b)), t.size-off))
	clear(b[n:])
	t.read(b[:n], off)
	return len(b), nil
}

// read fills b, which lies in the file.
func (t *tableReader) read(b []byte, off int64) {
	for len(b) > 0 {
		bad := t.nextUnread(off)
		if n := max(0, min(int64(len(b)), bad.Start-off)); n > 0 {
			t.readUntried(b[:n], off)
			b, off = b[n:], off+n
		}
		if n := max(0, min(int64(len(b)), bad.End-off)); n > 0 {
			clear(b[:n])
			b, off = b[n:], off+n
		}
	}
}

func (t *tableReader) readUntried(b []byte, off int64) {
	for len(b) > 0 {
		started := time.Now()
		n, _ := t.r.ReadAt(b, off)
		if n == len(b) {
			return
		}
		good := max(int64(n)-(off+int64(n))%tableSector, 0)
		b, off = b[good:], off+good
		if t.failed(time.Since(started)) || int64(len(b)) <= tableSector-off%tableSector {
			clear(b)
			t.lose(off, off+int64(len(b)))
			return
		}
		half := (off+int64(len(b)/2)+tableSector-1)&^(tableSector-1) - off
		if half >= int64(len(b)) {
			half = tableSector - off%tableSector
		}
		t.readUntried(b[:half], off)
		b, off = b[half:], off+half
	}
}

// failed counts a failure that took some time, and reports whether there were too
// many.
func (t *tableReader) failed(took time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
	t.wasted += took
	return t.failures > maxTableFailures || t.wasted > tableTime
}

func (t *tableReader) lose(start, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := ranges.Find(t.unread, start)
	t.unread = slices.Insert(t.unread, i, Range{start, end})
	if i > 0 && t.unread[i-1].End == start {
		t.unread[i-1].End = end
		t.unread = slices.Delete(t.unread, i, i+1)
	}
}

// nextUnread returns the first range that ends behind off and was found to be
// unreadable; one behind every file if there is none.
func (t *tableReader) nextUnread(off int64) Range {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := ranges.Find(t.unread, off); i < len(t.unread) {
		return t.unread[i]
	}
	return Range{endless, endless}
}

// bad reports whether some of n bytes that were read could not be.
func (t *tableReader) bad(off, n int64) bool {
	return off+n > t.size || t.nextUnread(off).Start < off+n
}
