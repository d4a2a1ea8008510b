package locate

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/buffer"
)

const (
	unit  = 512      // superblocks begin at multiples of it: partitions begin with any sector
	page  = 4096     // reads that pass the page cache are of whole pages
	piece = 1 << 20  // of a read
	small = 64 << 10 // of a read where a piece cannot be read
)

// patience is how long reads may fail, one after the other, before the rest of the
// image is taken for unreadable.
const patience = 2 * time.Minute

// everywhere looks at all bytes that may be something but zeros, in large reads,
// ascending. What is unreadable is skipped, and what is known to be lost is not
// read: of a damaged image that can be far more than there are bytes in the file.
func (s *search) everywhere(ctx context.Context, progress func(done, total int64)) error {
	// Before the bytes of a read are the last of the one before: a superblock may
	// begin there.
	const before = ext.SuperblockSize - unit
	buf := buffer.New(page + piece)
	defer buf.Free()
	data, size := image.Data(s.img), s.img.Size()
	reader := &patientReader{img: s.img, since: time.Now()}
	joined := int64(-1) // the byte behind those of which the last are before the buffer
	run := int64(0)     // the end of the run of data, which a file finds slowly
	lost := lostRanges{img: s.img}
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		start := off
		if off >= run {
			next, end, err := data.NextRun(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				next, end = off, size // what cannot be asked is read
			}
			start = max(next&^(page-1), off)
			// With the page behind: a superblock may reach into a hole.
			run = (min(end, size-page)+page-1)&^(page-1) + page
		}
		end := min(run, start+min(piece, size-start))
		lostStart, lostEnd, err := lost.next(start)
		if err != nil {
			return err
		}
		if lostStart <= start {
			off = min((lostEnd-1)|(unit-1)+1, size)
			s.unreadable += off - start
			continue
		}
		end = min(end, lostStart)
		s.unreadable += reader.read(buf.Bytes[page:][:end-start], start)
		from := int64(page)
		if joined == start {
			from -= before
		}
		s.lookIn(buf.Bytes[from:page+end-start], start+from-page)
		copy(buf.Bytes[page-before:page], buf.Bytes[end-start+page-before:])
		joined, off = end, end
		if progress != nil {
			progress(end, size)
		}
	}
	if progress != nil {
		progress(size, size)
	}
	return nil
}

// lostRanges are the ranges of an image that are known to be lost.
type lostRanges struct {
	img        image.Image
	start, end int64 // the one that was found last
}

// next returns the first that ends behind off, which does not go back; one behind
// every image if there is none.
func (l *lostRanges) next(off int64) (start, end int64, err error) {
	if off >= l.end {
		l.start, l.end, err = image.NextLost(l.img, off)
		if errors.Is(err, io.EOF) {
			l.start, l.end, err = math.MaxInt64, math.MaxInt64, nil
		}
	}
	return l.start, l.end, err
}

// lookIn looks for superblocks in the bytes of the image from off on.
func (s *search) lookIn(b []byte, off int64) {
	for at := 0; at+ext.SuperblockSize <= len(b); at += unit {
		if ext.LooksLikeSuperblock(b[at:]) {
			s.look(b[at:at+ext.SuperblockSize], off+int64(at))
		}
	}
}

// A patientReader reads what can be read.
type patientReader struct {
	img   image.Image
	since time.Time // the last success
	dead  bool
}

// read reads the bytes at off, zeros where that fails, and returns how many could
// not be read.
func (r *patientReader) read(b []byte, off int64) (lost int64) {
	if !r.dead && r.try(b, off) {
		return 0
	}
	for len(b) > 0 {
		part := b[:min(small, len(b))]
		if r.dead || !r.try(part, off) {
			clear(part)
			lost += int64(len(part))
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return lost
}

func (r *patientReader) try(b []byte, off int64) bool {
	n, _ := image.ReadFor(r.img, b, off, image.Once)
	now := time.Now()
	if n == len(b) {
		r.since = now
		return true
	}
	r.dead = now.Sub(r.since) > patience
	return false
}
