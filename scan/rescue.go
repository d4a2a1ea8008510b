package scan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// A Rescue is an image as it is, of which some may be lost: lost bytes are zero,
// and no run. It reads as a scan does, so no read fails but at the end.
type Rescue struct {
	img   image.Image
	dev   *device
	known []Range // lost before they are read
}

var _ image.DataFinder = (*Rescue)(nil)

// NewRescue returns img without what is lost of it. A sector that cannot be read
// is tried as often again as retries says.
func NewRescue(ctx context.Context, img image.Image, retries int) (*Rescue, error) {
	r := &Rescue{img: img, dev: &device{r: img, size: img.Size(), retries: retries, done: ctx.Done()}}
	for off := int64(0); off < img.Size(); {
		start, end, err := image.NextLost(img, off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if end <= off {
			return nil, fmt.Errorf("scan: a lost range ends at %d, before %d", end, off)
		}
		r.known = ranges.Append(r.known, start, end)
		off = end
	}
	return r, nil
}

// Size returns the size of the image in bytes.
func (r *Rescue) Size() int64 { return r.img.Size() }

// Advice returns the advice of the image on how to read it.
func (r *Rescue) Advice() image.Advice { return image.AdviceOf(r.img) }

// ReadAt reads as io.ReaderAt does. The only error is io.EOF at the end.
func (r *Rescue) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= r.Size() {
		return 0, io.EOF
	}
	if rest := r.Size() - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	r.dev.read(p, off)
	return len(p), err
}

// NextRun returns the next run of the image without what is known to be lost.
func (r *Rescue) NextRun(off int64) (start, end int64, err error) {
	return r.next(off, r.img.NextRun)
}

// NextData is NextRun without the bytes that are known to be zero.
func (r *Rescue) NextData(off int64) (start, end int64, err error) {
	return r.next(off, image.Data(r.img).NextRun)
}

func (r *Rescue) next(off int64, find func(off int64) (start, end int64, err error)) (start, end int64, err error) {
	for {
		if start, end, err = find(off); err != nil {
			return 0, 0, err
		}
		i := ranges.Find(r.known, start)
		if i == len(r.known) || r.known[i].Start >= end {
			return start, end, nil
		}
		if lost := r.known[i]; lost.Start > start {
			return start, lost.Start, nil
		} else if off = lost.End; off >= r.Size() {
			return 0, 0, io.EOF
		}
	}
}

// Unreadable returns the lost ranges in bytes, ascending and merged: those that
// were known, and those that were read till now.
func (r *Rescue) Unreadable() []Range {
	return ranges.Join(append(r.dev.unreadable(), r.known...))
}
