package raw

import (
	"context"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/zero"
)

// A Stream is what WriteStream writes to.
type Stream interface {
	io.Writer
	// Skip puts n zero bytes without writing them. It returns false where it
	// cannot, which never changes; then they have to be written.
	Skip(n int64) (bool, error)
}

// WriteStream writes img to w from its first byte to its last.
func WriteStream(ctx context.Context, w Stream, img image.Image, opt Options) (Stats, error) {
	s := &stream{ctx: ctx, w: w, size: img.Size(), progress: opt.Progress}
	var err error
	if s.skips, err = w.Skip(0); err != nil {
		return Stats{}, err
	}
	if err := s.advance(0); err != nil {
		return Stats{}, err
	}
	err = ordered.Run(ctx, img, ordered.Options{Granule: Page, Threads: opt.Threads},
		func() ordered.Worker { return streamWorker{s} })
	if err == nil {
		err = s.zeros(s.size - s.off)
	}
	return Stats{Size: s.size, Data: s.bytes}, err
}

// A stream is the state of one image being written in order.
type stream struct {
	ctx      context.Context
	w        Stream
	size     int64
	skips    bool // whether zeros need not be written
	progress func(done, total int64)

	// What follows changes in the ordered stage only.
	off   int64 // of the next byte
	bytes int64 // written that are in runs
}

// noData is where all zeros that are written come from.
var noData [1 << 20]byte

// advance moves on by n bytes and reports it.
func (s *stream) advance(n int64) error {
	s.off += n
	if s.progress != nil {
		s.progress(s.off, s.size)
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// zeros writes n zero bytes.
func (s *stream) zeros(n int64) error {
	if n == 0 {
		return nil
	}
	if s.skips {
		if _, err := s.w.Skip(n); err != nil {
			return err
		}
		return s.advance(n)
	}
	for n > 0 {
		piece := min(n, int64(len(noData)))
		if err := s.write(noData[:piece]); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// data writes bytes of a run.
func (s *stream) data(b []byte) error {
	s.bytes += int64(len(b))
	return s.write(b)
}

func (s *stream) write(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.advance(int64(len(b)))
}

// A streamWorker writes chunks when it is their turn.
type streamWorker struct{ *stream }

// Prepare does nothing: reading the chunk was the work.
func (w streamWorker) Prepare(*ordered.Chunk) error { return nil }

// Commit writes the zeros up to the chunk, and the chunk.
func (w streamWorker) Commit(c *ordered.Chunk) error {
	for _, s := range c.Spans {
		if err := w.zeros(s.Off - w.off); err != nil {
			return err
		}
		b := s.Data[:min(int64(len(s.Data)), w.size-s.Off)]
		if !w.skips {
			if err := w.data(b); err != nil {
				return err
			}
			continue
		}
		for off := 0; off < len(b); {
			start, end := zero.NextData(b, off, Page)
			if err := w.zeros(int64(start - off)); err != nil {
				return err
			}
			if start < end {
				if err := w.data(b[start:end]); err != nil {
					return err
				}
			}
			off = end
		}
	}
	return nil
}

// Finish does nothing: the chunk is written.
func (w streamWorker) Finish(*ordered.Chunk) error { return nil }
