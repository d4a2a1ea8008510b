package raw

import (
	"context"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ordered"
)

// A PartialError says that an image was written in part: all of its runs before
// Off are written, what is behind it is as it was.
type PartialError struct {
	Off         int64 // in the image
	Done, Total int64 // bytes
	Err         error // why it ended
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d bytes are written, up to offset %d: %v", e.Done, e.Total, e.Off, e.Err)
}

func (e *PartialError) Unwrap() error { return e.Err }

// WriteInPlace writes the runs of img to w, of which total bytes are known, to
// the byte and in ascending order: what lies between them stays as it is. Once
// something may have been written, an error is a *PartialError. It does not
// sync.
func WriteInPlace(ctx context.Context, w io.WriterAt, img image.Image, total int64, opt Options) (Stats, error) {
	s := &sink{w: w, size: img.Size(), progress: opt.Progress, total: total}
	in := &inPlace{sink: s}
	err := ordered.Run(ctx, img, ordered.Options{Granule: 1, Threads: opt.Threads},
		func() ordered.Worker { return in })
	if err != nil && in.begun {
		err = &PartialError{Off: in.off, Done: s.data, Total: total, Err: err}
	}
	return s.stats(), err
}

// An inPlace writes chunks when it is their turn, so that what is written is
// all that comes before some place.
type inPlace struct {
	*sink
	begun bool
	off   int64 // where the last span begins
}

// Prepare does nothing: reading the chunk was the work.
func (*inPlace) Prepare(*ordered.Chunk) error { return nil }

// Commit writes the chunk.
func (w *inPlace) Commit(c *ordered.Chunk) error {
	for _, s := range c.Spans {
		w.begun, w.off = true, s.Off
		if err := w.writeAt(s.Data, s.Off); err != nil {
			return err
		}
		w.data += int64(len(s.Data))
		w.off += int64(len(s.Data))
		w.advance(int64(len(s.Data)))
	}
	return nil
}

// Finish does nothing: the chunk is written.
func (*inPlace) Finish(*ordered.Chunk) error { return nil }
