// Package buffer has the large buffers that are read into.
//
// They lie on borders of pages, as reads that pass the page cache need, and those
// of some size in huge pages where the system has them: a request to a device is
// cut where the memory is not contiguous, so that in pages of 4 KiB it may be as
// short as 512 KiB.
package buffer

import "sync"

const hugePage = 2 << 20

// maxIdle is how many bytes of buffers are kept for whoever comes next.
const maxIdle = 32 << 20

var pool struct {
	sync.Mutex
	idle  map[int][]*Buffer // by size
	bytes int
}

// A Buffer is a piece of memory outside the heap.
type Buffer struct {
	Bytes  []byte
	mapped []byte // what it lies in; nil on the heap
}

// New returns a buffer of size bytes, whose contents are anything.
func New(size int) *Buffer {
	pool.Lock()
	if list := pool.idle[size]; len(list) > 0 {
		b := list[len(list)-1]
		pool.idle[size] = list[:len(list)-1]
		pool.bytes -= size
		pool.Unlock()
		return b
	}
	pool.Unlock()
	length := size
	huge := size >= hugePage/4
	if huge {
		// In whole huge pages, and one more to begin at the border of one: memory
		// that is not touched costs nothing.
		length = (size+hugePage-1)/hugePage*hugePage + hugePage
	}
	mapped, err := mapMemory(length)
	if err != nil {
		return &Buffer{Bytes: make([]byte, size)}
	}
	if !huge {
		return &Buffer{Bytes: mapped, mapped: mapped}
	}
	adviseHuge(mapped)
	from := -address(mapped) & (hugePage - 1)
	return &Buffer{Bytes: mapped[from:][:size:size], mapped: mapped}
}

// Free gives the memory back. Nothing may use it after that.
func (b *Buffer) Free() {
	if b.mapped == nil {
		return
	}
	pool.Lock()
	size := len(b.Bytes)
	keep := pool.bytes+size <= maxIdle
	if keep {
		if pool.idle == nil {
			pool.idle = make(map[int][]*Buffer)
		}
		pool.idle[size] = append(pool.idle[size], b)
		pool.bytes += size
	}
	pool.Unlock()
	if !keep {
		unmapMemory(b.mapped)
	}
}

// Aligned tells whether b begins at a multiple of n, a power of two.
func Aligned(b []byte, n int64) bool {
	return len(b) == 0 || int64(address(b))&(n-1) == 0
}
