// Package raw writes an image byte by byte as the disk that it is of.
//
//	image    ├──────┬█run█┬──────────────┬█run█┬────┤ Size
//	file       hole   data      hole       data  hole     zeros in runs too
//	device     zero   data      zero       data  zero     or left as they are
//	stream     zero   data      zero       data  zero     written one by one
package raw

import (
	"context"
	"errors"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/share"
	"e2qcow/internal/zero"
)

// Options say how an image is written.
type Options struct {
	// Threads is how many threads there are to work on. 0 is GOMAXPROCS.
	Threads int
	// Progress is called now and then, from one goroutine at a time, with how
	// many bytes are done of those that have to be. It may be nil.
	Progress func(done, total int64)
}

// Stats are the measures of what was written.
type Stats struct {
	Size int64 // of the image
	Data int64 // bytes that were written, zeros that had to be to fill gaps not counted
}

// A File is what WriteFile writes to. It is empty.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Page is the unit that holes come in: the block of most filesystems.
const Page = 4096

// WriteFile writes img to f, which gets its exact size. Whole pages of zeros
// are holes, except in blocks that f shares with the file of the image: these are
// not read. It does not sync.
func WriteFile(ctx context.Context, f File, img image.Image, opt Options) (Stats, error) {
	img = image.Data(img)
	// First, to learn at once of a size that the filesystem cannot hold.
	if err := f.Truncate(img.Size()); err != nil {
		return Stats{}, err
	}
	s := &sink{w: f, size: img.Size(), progress: opt.Progress}
	if err := s.plan(ctx, img, Page); err != nil {
		return Stats{}, err
	}
	sharer := share.New(f, img)
	if sharer != nil {
		var err error
		if img, s.data, err = sharer.All(ctx, s.advance); err != nil {
			return Stats{}, err
		}
	}
	err := ordered.Run(ctx, img, ordered.Options{Granule: Page, Threads: opt.Threads},
		func() ordered.Worker { return &sparseWorker{partWorker{sink: s, sharer: sharer}} })
	return s.stats(), err
}

// A Device is what WriteDevice writes to.
type Device interface {
	io.WriterAt
	// ZeroOut zeroes n bytes at off, as fast as the device can, and tells
	// progress of each piece.
	ZeroOut(ctx context.Context, off, n int64, progress func(n int64)) error
}

// bridge is the shortest gap between runs that a device is asked to zero by
// itself; shorter ones are written with the runs, which costs less than to ask.
const bridge = 64 << 10

// WriteDevice writes img to d, of which every byte up to the size of img then
// reads as img does. It does not sync.
func WriteDevice(ctx context.Context, d Device, img image.Image, opt Options) (Stats, error) {
	s := &sink{w: d, size: img.Size(), progress: opt.Progress, total: img.Size()}
	if err := s.zeroGaps(ctx, d, img); err != nil {
		return Stats{}, err
	}
	err := ordered.Run(ctx, img, ordered.Options{Granule: bridge, Threads: opt.Threads},
		func() ordered.Worker { return &denseWorker{sink: s} })
	return s.stats(), err
}

// DeviceBytes returns how many bytes of img WriteDevice writes, the gaps that it
// has the device zero not counted.
func DeviceBytes(img image.Image) (int64, error) { return bytesOf(img, bridge) }

// AllocatedBytes returns how many bytes of img WriteAllocated writes.
func AllocatedBytes(img image.Image) (int64, error) { return bytesOf(img, sector) }

// StreamBytes returns how many bytes of img WriteStream writes where zeros cannot be
// skipped, the gaps not counted.
func StreamBytes(img image.Image) (int64, error) { return bytesOf(img, Page) }

func bytesOf(img image.Image, granule int) (n int64, err error) {
	for runs := ordered.NewRuns(img, granule); ; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += min(end, img.Size()) - start
	}
}

// sector is the unit in which runs of images begin and end.
const sector = 512

// WriteAllocated writes the runs of img to w and nothing else: what lies
// between them stays as it is. It does not sync.
func WriteAllocated(ctx context.Context, w io.WriterAt, img image.Image, opt Options) (Stats, error) {
	s := &sink{w: w, size: img.Size(), progress: opt.Progress}
	if err := s.plan(ctx, img, sector); err != nil {
		return Stats{}, err
	}
	err := ordered.Run(ctx, img, ordered.Options{Granule: sector, Threads: opt.Threads},
		func() ordered.Worker { return &denseWorker{sink: s} })
	return s.stats(), err
}

// A sink is the state of one image being written at offsets.
type sink struct {
	w        io.WriterAt
	size     int64
	progress func(done, total int64)

	// What follows changes in one goroutine at a time.
	done, total int64
	data        int64
}

// plan finds out how much there is to do, if anyone wants to know.
func (s *sink) plan(ctx context.Context, img image.Image, granule int) error {
	if s.progress == nil {
		return nil
	}
	for runs := ordered.NewRuns(img, granule); ; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			s.advance(0)
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.total += min(end, s.size) - start
	}
}

// zeroGaps zeroes what lies between the runs of img, and behind the last.
func (s *sink) zeroGaps(ctx context.Context, d Device, img image.Image) error {
	off := int64(0)
	for runs := ordered.NewRuns(img, bridge); off < s.size; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			start, end = s.size, s.size
		} else if err != nil {
			return err
		}
		if start > off {
			if err := d.ZeroOut(ctx, off, start-off, s.advance); err != nil {
				return err
			}
		}
		off = end
	}
	return nil
}

// advance reports n bytes more as done.
func (s *sink) advance(n int64) {
	s.done += n
	if s.progress != nil {
		s.progress(s.done, s.total)
	}
}

// within returns the part of b, which is at off, that belongs to the image.
func (s *sink) within(b []byte, off int64) []byte { return b[:min(int64(len(b)), s.size-off)] }

func (s *sink) writeAt(b []byte, off int64) error {
	_, err := s.w.WriteAt(b, off)
	return err
}

func (s *sink) stats() Stats { return Stats{Size: s.size, Data: s.data} }

// A denseWorker writes all bytes of a chunk.
type denseWorker struct{ *sink }

// Prepare does nothing: there is nothing to find out.
func (w *denseWorker) Prepare(*ordered.Chunk) error { return nil }

// Commit counts the chunk.
func (w *denseWorker) Commit(c *ordered.Chunk) error {
	n := int64(0)
	for _, s := range c.Spans {
		n += int64(len(w.within(s.Data, s.Off)))
	}
	w.data += n
	w.advance(n)
	return nil
}

// Finish writes the chunk.
func (w *denseWorker) Finish(c *ordered.Chunk) error {
	for _, s := range c.Spans {
		if err := w.writeAt(w.within(s.Data, s.Off), s.Off); err != nil {
			return err
		}
	}
	return nil
}

// A partWorker writes what Prepare of another worker chose of a chunk.
type partWorker struct {
	*sink
	sharer *share.Sharer  // nil where nothing is shared
	spans  []ordered.Span // what is to be written
}

// Commit counts the chunk.
func (w *partWorker) Commit(c *ordered.Chunk) error {
	for _, s := range w.spans {
		w.data += int64(len(s.Data))
	}
	n := int64(0)
	for _, s := range c.Spans {
		n += int64(len(w.within(s.Data, s.Off)))
	}
	w.advance(n)
	return nil
}

// Finish writes what was chosen.
func (w *partWorker) Finish(*ordered.Chunk) error {
	for _, s := range w.spans {
		err := w.sharer.Share(s.Off, s.Off+int64(len(s.Data)), s.Off, func(start, end int64) error {
			return w.writeAt(s.Data[start-s.Off:end-s.Off], start)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A sparseWorker writes the pages of a chunk that are not zero.
type sparseWorker struct{ partWorker }

// Prepare finds what is not zero.
func (w *sparseWorker) Prepare(c *ordered.Chunk) error {
	w.spans = w.spans[:0]
	for _, s := range c.Spans {
		b := w.within(s.Data, s.Off)
		for off := 0; off < len(b); {
			start, end := zero.NextData(b, off, Page)
			if start < end {
				w.spans = append(w.spans, ordered.Span{Off: s.Off + int64(start), Data: b[start:end]})
			}
			off = end
		}
	}
	return nil
}
