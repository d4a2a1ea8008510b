package qcow2

import (
	"fmt"
	"io"
	"sync"
)

const (
	maxTableSlice   = 64 << 10
	tableCacheBytes = 4 << 20
)

// A tableCache holds slices of L2 tables, at most tableCacheBytes of them. The
// offset of a slice determines its place, so a reader that goes through
// consecutive tables in order reads each once.
type tableCache struct {
	r     io.ReaderAt
	slice int64 // size of a slice: a power of two, at most a cluster
	slots []tableSlot
}

type tableSlot struct {
	mu   sync.Mutex
	off  int64 // of the slice in data
	data []byte
}

func newTableCache(r io.ReaderAt, clusterSize int64) *tableCache {
	slice := min(clusterSize, maxTableSlice)
	return &tableCache{r: r, slice: slice, slots: make([]tableSlot, tableCacheBytes/slice)}
}

// with calls f with the bytes of the slice that off is in, from off on. They
// are valid during the call only.
func (c *tableCache) with(off int64, f func(b []byte)) error {
	start := off &^ (c.slice - 1)
	s := &c.slots[start/c.slice%int64(len(c.slots))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil || s.off != start {
		if s.data == nil {
			s.data = make([]byte, c.slice)
		}
		s.off = -1
		if n, err := c.r.ReadAt(s.data, start); n < len(s.data) {
			return fmt.Errorf("read qcow2 L2 table at %#x: %w", start, unexpectedEOF(err))
		}
		s.off = start
	}
	f(s.data[off-start:])
	return nil
}
