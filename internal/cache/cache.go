// Package cache keeps what was read of an image that is slow to read: one whose
// clusters are compressed, read in pieces that are smaller than a cluster.
//
//	img := cache.New(guest, 64<<10, 64<<20) // pages of 64 KiB, 64 MiB in all
package cache

import (
	"container/list"
	"errors"
	"io"
	"sync"

	"e2qcow/image"
)

// An Image is an image whose pages are kept, the last read ones.
type Image struct {
	base image.Image
	page int64 // bytes
	most int   // pages

	mu    sync.Mutex
	pages map[int64]*list.Element // by number
	used  *list.List              // of *page, the last used one first
}

// A page is a piece of the image. ready is closed when data and err are set.
type page struct {
	number int64
	ready  chan struct{}
	data   []byte
	err    error
}

// New returns an image that keeps up to limit bytes of base in pages of size
// bytes.
func New(base image.Image, size, limit int64) *Image {
	return &Image{base: base, page: size, most: int(max(limit/size, 1)), pages: map[int64]*list.Element{}, used: list.New()}
}

// Size returns the size of the image.
func (c *Image) Size() int64 { return c.base.Size() }

// NextRun returns the next run as image.Image says.
func (c *Image) NextRun(off int64) (start, end int64, err error) { return c.base.NextRun(off) }

// NextData returns the next run as image.DataFinder says.
func (c *Image) NextData(off int64) (start, end int64, err error) {
	if f, ok := c.base.(image.DataFinder); ok {
		return f.NextData(off)
	}
	return c.base.NextRun(off)
}

// Damage returns the damage that reading the base met.
func (c *Image) Damage() error { return image.DamageOf(c.base) }

// ReadAt reads as io.ReaderAt does.
func (c *Image) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		number := (off + int64(n)) / c.page
		pg := c.get(number)
		<-pg.ready
		from := off + int64(n) - number*c.page
		k := 0
		if from < int64(len(pg.data)) {
			k = copy(p[n:], pg.data[from:])
		}
		n += k
		if n < len(p) && (pg.err != nil || k == 0) {
			if pg.err != nil {
				return n, pg.err
			}
			return n, io.EOF
		}
	}
	return n, nil
}

// get returns a page, read by whoever asks for it first.
func (c *Image) get(number int64) *page {
	c.mu.Lock()
	if e := c.pages[number]; e != nil {
		c.used.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*page)
	}
	pg := &page{number: number, ready: make(chan struct{})}
	c.pages[number] = c.used.PushFront(pg)
	if c.used.Len() > c.most {
		last := c.used.Back()
		delete(c.pages, c.used.Remove(last).(*page).number)
	}
	c.mu.Unlock()

	pg.data = make([]byte, min(c.page, max(c.base.Size()-number*c.page, 0)))
	n, err := c.base.ReadAt(pg.data, number*c.page)
	if pg.data = pg.data[:n]; err != nil && !errors.Is(err, io.EOF) {
		pg.err = err
		c.drop(pg) // the next one may try again
	}
	close(pg.ready)
	return pg
}

// drop forgets a page that could not be read.
func (c *Image) drop(pg *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.pages[pg.number]; e != nil && e.Value.(*page) == pg {
		c.used.Remove(e)
		delete(c.pages, pg.number)
	}
}
