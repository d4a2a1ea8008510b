package reduce

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"e2qcow/image"
	"e2qcow/internal/ranges"
	"e2qcow/internal/zero"
)

// page is the unit of changes, in bytes: the smallest block of a filesystem.
const page = 1024

// A disk is a base, which stays as it is, and the pages that differ from it.
type disk struct {
	base    image.Image
	size    int64
	pages   map[int64][]byte // by number
	log     []*change        // what was accepted, in order
	version int              // the length of log
}

func newDisk(base image.Image) *disk {
	return &disk{base: base, size: base.Size(), pages: map[int64][]byte{}}
}

// ReadAt reads as io.ReaderAt does. What cannot be read of the base is zero.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(min(int64(len(p)), d.size-off), 0))
	if _, err := d.base.ReadAt(p[:n], off); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for at := off / page; at*page < off+int64(n); at++ {
		if b, ok := d.pages[at]; ok {
			start := max(at*page, off)
			end := min((at+1)*page, off+int64(n))
			copy(p[start-off:end-off], b[start-at*page:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// accept makes c a part of the disk.
func (d *disk) accept(c *change) {
	for n, b := range c.pages {
		d.pages[n] = b
	}
	if c.size != 0 {
		d.size = c.size
	}
	d.log = append(d.log, c)
	d.version++
}

// A change is what a disk may become: pages, and a smaller size.
type change struct {
	pages map[int64][]byte
	size  int64 // bytes; 0 for as before
}

// empty reports whether c changes nothing on d.
func (c *change) empty(d *disk) bool {
	if c.size != 0 && c.size != d.size {
		return false
	}
	b := make([]byte, page)
	for n, p := range c.pages {
		clear(b)
		if _, err := d.ReadAt(b, n*page); err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if !bytes.Equal(b, p) {
			return false
		}
	}
	return true
}

// A snapshot is a disk at one time: an image of its pages that are not zero.
type snapshot struct {
	base  image.Image
	size  int64
	pages map[int64][]byte
	runs  []ranges.Range[int64] // bytes
}

// image returns the disk as it is now.
func (d *disk) image() *snapshot {
	s := &snapshot{base: d.base, size: d.size, pages: map[int64][]byte{}}
	for n, b := range d.pages {
		s.pages[n] = b
	}
	var numbers []int64
	b := make([]byte, 256<<10)
	for off := int64(0); off < d.size; {
		start, end, err := d.base.NextRun(off)
		if err != nil || start >= d.size {
			break
		}
		start, end = start/page*page, min(end, d.size)
		for at := start; at < end; at += int64(len(b)) {
			n, _ := d.base.ReadAt(b[:min(int64(len(b)), end-at)], at)
			for i := 0; i < n; i += page {
				if number := (at + int64(i)) / page; d.pages[number] == nil && !zero.IsZero(b[i:min(i+page, n)]) {
					numbers = append(numbers, number)
				}
			}
		}
		off = end
	}
	for n, p := range d.pages {
		if n*page < d.size && !zero.IsZero(p) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		s.runs = ranges.Append(s.runs, n*page, min((n+1)*page, s.size))
	}
	return s
}

// blocks returns how many pages are not zero.
func (s *snapshot) blocks() int {
	n := int64(0)
	for _, r := range s.runs {
		n += (r.End - r.Start + page - 1) / page
	}
	return int(n)
}

// Size returns the size of the disk.
func (s *snapshot) Size() int64 { return s.size }

// NextRun returns the next run as image.Image says.
func (s *snapshot) NextRun(off int64) (start, end int64, err error) {
	i := ranges.Find(s.runs, off)
	if i == len(s.runs) {
		return 0, 0, io.EOF
	}
	return max(s.runs[i].Start, off), s.runs[i].End, nil
}

// ReadAt reads as io.ReaderAt does.
func (s *snapshot) ReadAt(p []byte, off int64) (int, error) {
	d := disk{base: s.base, size: s.size, pages: s.pages}
	return d.ReadAt(p, off)
}
