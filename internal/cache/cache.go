// Package cache keeps what was read of an image that is slow to read: one whose
// clusters are compressed, read in pieces that are smaller than a cluster.
//
//	img := cache.New(guest, 64<<10, 64<<20) // pages of 64 KiB, 64 MiB in all
package cache

import (
	"container/list"
	"errors"
	"io"
	"runtime"
	"sync"

	"e2qcow/image"
)

// An Image is an image whose pages are kept, the last read ones.
type Image struct {
	base image.Image
	page int64 // bytes
	most int   // pages

	readers chan struct{} // holds one for each page that is being read

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
	return &Image{base: base, page: size, most: int(max(limit/size, 1)), readers: make(chan struct{}, runtime.GOMAXPROCS(0)+1), pages: map[int64]*list.Element{}, used: list.New()}
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

// ReadAt reads as io.ReaderAt does. Pages that are missing are read at once, in
// parallel; behind a read that goes on where another ended, a few more are.
func (c *Image) ReadAt(p []byte, off int64) (int, error) {
	var end error
	if rest := max(c.base.Size()-off, 0); int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if len(p) == 0 {
		return 0, end
	}
	first, last := off/c.page, (off+int64(len(p))-1)/c.page
	pages := make([]*page, 0, last-first+1)
	for number := first; number <= last; number++ {
		pages = append(pages, c.want(number))
	}
	if c.goesOn(first, last) {
		for number := last + 1; number <= last+max(ahead, last-first+1) && number*c.page < c.base.Size(); number++ {
			c.want(number)
		}
	}
	n := 0
	for i, pg := range pages {
		<-pg.ready
		if pg.err != nil {
			return n, pg.err
		}
		from := int64(0)
		if i == 0 {
			from = off - first*c.page
		}
		to := p[n:min(int64(len(p)), int64(n)+c.page-from)]
		if pg == &zeros {
			clear(to)
		} else if from > int64(len(pg.data)) || copy(to, pg.data[from:]) < len(to) {
			return n, io.ErrUnexpectedEOF
		}
		n += len(to)
	}
	return n, end
}

// ahead is how many pages are read that nobody has asked for yet; behind a long
// read, as many as that has.
const ahead = 4

// zeros stands for every page that is known to be zero, which is not kept.
var zeros = page{ready: make(chan struct{})}

func init() { close(zeros.ready) }

// goesOn reports whether the pages before a read of some pages are here, and those
// behind it are not.
func (c *Image) goesOn(first, last int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pages[first-1] != nil && c.pages[last+1] == nil
}

// find returns a page that is here or on its way.
func (c *Image) find(number int64) *page {
	e := c.pages[number]
	if e == nil {
		return nil
	}
	c.used.MoveToFront(e)
	pg, _ := e.Value.(*page)
	return pg
}

// want returns a page, and has it read if it is not here.
func (c *Image) want(number int64) *page {
	c.mu.Lock()
	pg := c.find(number)
	c.mu.Unlock()
	if pg != nil {
		return pg
	}
	if start, _, err := c.NextData(number * c.page); errors.Is(err, io.EOF) || err == nil && start >= (number+1)*c.page {
		return &zeros
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if pg := c.find(number); pg != nil {
		return pg
	}
	pg = &page{number: number, ready: make(chan struct{})}
	c.pages[number] = c.used.PushFront(pg)
	if c.used.Len() > c.most {
		if last, ok := c.used.Remove(c.used.Back()).(*page); ok {
			delete(c.pages, last.number)
		}
	}
	go c.read(pg)
	return pg
}

// read reads a page. A page that cannot be read is forgotten: the next one who
// asks may have more luck.
func (c *Image) read(pg *page) {
	c.readers <- struct{}{}
	defer func() { <-c.readers }()
	defer close(pg.ready)
	off := pg.number * c.page
	pg.data = make([]byte, min(c.page, c.base.Size()-off))
	n, err := c.base.ReadAt(pg.data, off)
	if n == len(pg.data) {
		return
	}
	if pg.err = err; err == nil || errors.Is(err, io.EOF) {
		pg.err = io.ErrUnexpectedEOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.pages[pg.number]; e != nil && e.Value == pg {
		c.used.Remove(e)
		delete(c.pages, pg.number)
	}
}
