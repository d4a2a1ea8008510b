package ordered

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sync/errgroup"

	"e2qcow/image"
	"e2qcow/internal/buffer"
)

// Runs walks the known bytes of an image in whole granules: each run is
// widened to multiples of the granule, and runs that then meet are one.
type Runs struct {
	img        image.Image
	granule    int64
	off        int64 // where the search goes on
	start, end int64 // the run found ahead, if start < end
	ended      bool  // there was no more: holes of a file may become data meanwhile
}

// NewRuns returns a walk of img from its start.
func NewRuns(img image.Image, granule int) *Runs {
	return &Runs{img: img, granule: int64(granule)}
}

// Next returns the bounds of the next run. The end of the last may lie behind
// the end of the image, by less than a granule. The error is io.EOF at the end.
func (r *Runs) Next() (start, end int64, err error) {
	if r.start == r.end {
		if err := r.find(); err != nil {
			return 0, 0, err
		}
	}
	start, end = r.start, r.end
	for {
		r.start, r.end = 0, 0
		err := r.find()
		if errors.Is(err, io.EOF) {
			return start, end, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if r.start > end {
			return start, end, nil
		}
		end = max(end, r.end)
	}
}

// find reads the next run of the image into r.start and r.end.
func (r *Runs) find() error {
	if r.ended || r.off >= r.img.Size() {
		return io.EOF
	}
	start, end, err := r.img.NextRun(r.off)
	if err != nil {
		r.ended = errors.Is(err, io.EOF)
		return err
	}
	if start < r.off || start >= end || end > r.img.Size() {
		return fmt.Errorf("image run [%d, %d) after %d of %d bytes is out of order", start, end, r.off, r.img.Size())
	}
	r.off = end
	r.start = start - start%r.granule
	r.end = end
	if rest := end % r.granule; rest != 0 {
		if end > math.MaxInt64-r.granule {
			return fmt.Errorf("image run [%d, %d) ends too far out for granules of %d bytes", start, end, r.granule)
		}
		r.end += r.granule - rest
	}
	return nil
}

// A Span is a part of a chunk whose bytes are known: Off and the length of
// Data are multiples of the granule. Bytes behind the end of the image are zero.
type Span struct {
	Off  int64 // in the image
	Data []byte
}

// A Chunk is a few spans, ascending, that are worked on together. Their data
// lies in one buffer, in order: a worker may move it towards the front.
type Chunk struct {
	Spans []Span

	memory *buffer.Buffer
	buf    []byte // its bytes, which hold the data of all spans
	cuts   []cut
}

// Cap returns how many bytes a chunk may hold.
func (c *Chunk) Cap() int { return len(c.buf) }

// A cut is where a span is in the image and in the buffer of its chunk.
type cut struct {
	off int64
	pos int
	n   int
}

// read fills the spans of c from img, with so many reads at once. Its error is
// that of the first read that fails.
func (c *Chunk) read(img image.Image, depth int) error {
	var reads errgroup.Group
	reads.SetLimit(depth)
	errs := make([]error, len(c.cuts)) // of the reads by their last cuts
	for i := 0; i < len(c.cuts); {
		first, last := c.cuts[i], c.cuts[i]
		for i++; i < len(c.cuts) && c.cuts[i].off-first.off == int64(c.cuts[i].pos-first.pos); i++ {
			last = c.cuts[i]
		}
		buf := c.buf[first.pos : last.pos+last.n]
		if depth == 1 {
			if err := readFull(img, buf, first.off); err != nil {
				return err
			}
			continue
		}
		err := &errs[i-1]
		reads.Go(func() error {
			*err = readFull(img, buf, first.off)
			return *err
		})
	}
	if reads.Wait() != nil {
		return cmp.Or(errs...)
	}
	c.Spans = c.Spans[:0]
	for _, k := range c.cuts {
		c.Spans = append(c.Spans, Span{Off: k.off, Data: c.buf[k.pos:][:k.n]})
	}
	return nil
}

// readFull fills buf from img; what lies behind its end is zero.
func readFull(img image.Image, buf []byte, off int64) error {
	known := buf[:min(int64(len(buf)), img.Size()-off)]
	clear(buf[len(known):])
	n, err := img.ReadAt(known, off)
	if n == len(known) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("image at byte %d: %w", off+int64(n), io.ErrUnexpectedEOF)
	}
	return err // of an image, which says itself what and where
}

// A cutter cuts runs into the spans of chunks.
type cutter struct {
	runs       *Runs
	size       int   // the most bytes in the buffer of a chunk
	bridge     int64 // spans no further apart are read with one call
	start, end int64 // what is left of the current run
}

// next sets the cuts of c to those of the next chunk.
func (k *cutter) next(c *Chunk) error {
	c.cuts = c.cuts[:0]
	pos, jumps := 0, 0
	for len(c.cuts) < maxSpans {
		if k.start == k.end {
			start, end, err := k.runs.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			k.start, k.end = start, end
		}
		if n := len(c.cuts); n > 0 {
			last := c.cuts[n-1]
			between := k.start - last.off - int64(last.n)
			if between > far {
				if jumps++; jumps > maxJumps {
					break
				}
			}
			// What lies between is read through: the image zeroes it, and sees
			// fewer and larger reads.
			if between <= k.bridge && int64(pos)+between < int64(k.size) {
				pos += int(between)
			}
		}
		n := int(min(k.end-k.start, int64(k.size-pos)))
		if n == 0 {
			break
		}
		c.cuts = append(c.cuts, cut{off: k.start, pos: pos, n: n})
		k.start += int64(n)
		pos += n
	}
	if len(c.cuts) == 0 {
		return io.EOF
	}
	return nil
}

// A chunk ends early where its spans are far from one another, or many: then
// its reads are seeks, which workers should share.
const (
	far      = 64 << 20
	maxJumps = 16
	maxSpans = 256
)
