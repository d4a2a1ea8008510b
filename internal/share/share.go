// Package share has a new file share blocks with the file that an image lies in,
// where the filesystem of both can do that (reflinks on XFS and btrfs). What is
// shared takes no room and is not written.
//
//	image   ├──────────────run───────────────┤
//	source    │ block │ block │ block │ block │
//	target      │ block │ block │ block │         does not line up: written
//	target    │ block │ block │ block │ block │   lines up: blocks within the run are shared
//	          w       s       s       s       w
package share

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// A Target is a file that can share blocks with another one.
type Target interface {
	io.WriterAt
	// ShareUnit returns the size in bytes of the blocks that can be shared, a
	// power of two; 0 if none can.
	ShareUnit() int64
	// Share makes n bytes at off those of src at from. All three are multiples
	// of the unit. After an error the bytes at off are undefined.
	Share(src image.File, from, off, n int64) error
}

// least is the number of bytes that are worth a call: fewer are written faster.
const least = 16 << 10

// A Sharer shares the bytes of an image with a target. A nil Sharer shares
// nothing. Its methods are safe for concurrent use.
type Sharer struct {
	to     Target
	img    image.Image
	unit   int64
	failed atomic.Bool // nothing more is tried
}

// New returns a Sharer of img and to, nil if one of them cannot share.
func New(to io.WriterAt, img image.Image) *Sharer {
	t, ok := to.(Target)
	if !ok {
		return nil
	}
	if _, ok := img.(image.Locator); !ok {
		return nil
	}
	unit := t.ShareUnit()
	if unit <= 0 {
		return nil
	}
	return &Sharer{to: t, img: img, unit: unit}
}

// Share shares what it can of the bytes [start, end) of the image, which belong
// at byte to of the target, and calls rest with each part of them that is to be
// written. The bytes have been read.
func (s *Sharer) Share(start, end, to int64, rest func(start, end int64) error) error {
	if s == nil {
		return rest(start, end)
	}
	return s.share(start, end, to, true, rest)
}

func (s *Sharer) share(start, end, to int64, read bool, rest func(start, end int64) error) error {
	written := start // what lies before is shared, or was passed to rest
	for at := start; end-at >= least && !s.failed.Load(); {
		src, from, n := image.Locate(s.img, at, end-at, read)
		if n <= 0 {
			break
		}
		first, last := s.blocks(from, at, n)
		next := at + n
		if src == nil || (from-to-at+start)&(s.unit-1) != 0 || last-first < least {
			at = next
			continue
		}
		if s.to.Share(src, from+first-at, to+first-start, last-first) != nil {
			s.failed.Store(true)
			break
		}
		if written < first {
			if err := rest(written, first); err != nil {
				return err
			}
		}
		written, at = last, next
	}
	if written < end {
		return rest(written, end)
	}
	return nil
}

// blocks returns the bounds of the n bytes of the image at byte at that are whole
// blocks of the source, where they begin at byte from.
func (s *Sharer) blocks(from, at, n int64) (first, last int64) {
	first = at + -from&(s.unit-1)
	return first, first + (at+n-first)&^(s.unit-1)
}

// All shares all that it can of the image with a target that has the same bytes at
// the same offsets, and reads nothing. It returns the image of the rest, and how
// many bytes were shared. told, which may be nil, is told of the bytes as they are
// shared. The errors are those of the image and of ctx.
func (s *Sharer) All(ctx context.Context, told func(n int64)) (rest image.Image, shared int64, err error) {
	if f, _, n := image.Locate(s.img, 0, s.img.Size(), false); f == nil && n >= s.img.Size() {
		return s.img, 0, nil
	}
	r := &remainder{img: s.img}
	for off := int64(0); !s.failed.Load() && len(r.shared) < maxShared; {
		start, end, err := s.img.NextRun(off)
		switch {
		case errors.Is(err, io.EOF):
			return r, shared, nil
		case err != nil:
			return nil, 0, err
		case ctx.Err() != nil:
			return nil, 0, context.Cause(ctx)
		}
		at, before := start, shared
		_ = s.share(start, end, start, false, func(start, stop int64) error {
			r.shared = ranges.Append(r.shared, at, start)
			shared += start - at
			at = stop
			return nil
		})
		r.shared = ranges.Append(r.shared, at, end)
		shared += end - at
		if told != nil {
			told(shared - before)
		}
		off = end
	}
	return r, shared, nil
}

// maxShared bounds the list of a remainder: 16 MiB. Then nothing more is shared.
const maxShared = 1 << 20

// A remainder is an image without the ranges that were shared, which ascend.
type remainder struct {
	img    image.Image
	shared []ranges.Range[int64]
}

// NextRun returns the next run of the image that was not shared.
func (r *remainder) NextRun(off int64) (start, end int64, err error) {
	for {
		start, end, err = r.img.NextRun(off)
		if err != nil {
			return 0, 0, err
		}
		i := ranges.Find(r.shared, start)
		if i == len(r.shared) || r.shared[i].Start >= end {
			return start, end, nil
		}
		if next := r.shared[i]; next.Start > start {
			return start, next.Start, nil
		}
		off = r.shared[i].End
	}
}

// Size returns the length of the image in bytes.
func (r *remainder) Size() int64 { return r.img.Size() }

// ReadAt reads from the image.
func (r *remainder) ReadAt(p []byte, off int64) (int, error) { return r.img.ReadAt(p, off) }

func (r *remainder) Advice() image.Advice { return image.AdviceOf(r.img) }

func (r *remainder) Damage() error { return image.DamageOf(r.img) }

func (r *remainder) NextLost(off int64) (start, end int64, err error) {
	return image.NextLost(r.img, off)
}

func (r *remainder) ReadFor(p []byte, off int64, use image.Use) (int, error) {
	return image.ReadFor(r.img, p, off, use)
}

func (r *remainder) Locate(off, limit int64, read bool) (f image.File, at, n int64) {
	return image.Locate(r.img, off, limit, read)
}
