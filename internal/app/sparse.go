package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/simg"
	"e2qcow/internal/source"
)

// A Sparse is the disk in an Android sparse image. Its errors name the source.
type Sparse struct {
	*simg.Image
	name string // of the source
}

// OpenSparse opens a source as an Android sparse image.
func OpenSparse(ctx context.Context, src *source.Source) (*Sparse, error) {
	img, err := simg.Open(ctx, src, src.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Name(), err)
	}
	return &Sparse{img, src.Name()}, nil
}

// ReadAt reads as io.ReaderAt does.
func (s *Sparse) ReadAt(p []byte, off int64) (int, error) { return s.ReadFor(p, off, image.Again) }

// ReadFor reads as image.UseReader says.
func (s *Sparse) ReadFor(p []byte, off int64, use image.Use) (int, error) {
	n, err := s.Image.ReadFor(p, off, use)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return n, err
}

// errFills says that a sparse image may be made to fill a disk.
var errFills = advise.New("the image fills its disk with far more than it holds", "-f reads it all the same, where a command has that option")

// Verify is that of simg.Image.
func (s *Sparse) Verify(ctx context.Context) error {
	err := s.Image.Verify(ctx)
	if errors.Is(err, simg.ErrFills) {
		err = fmt.Errorf("%w: %w", errFills, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// openSparse opens the source as an Android sparse image.
func (in *Input) openSparse(ctx context.Context) (err error) {
	if in.Sparse, err = OpenSparse(ctx, in.Src); err != nil {
		return err
	}
	if n := in.Sparse.Behind(); n > 0 {
		in.notes = append(in.notes, fmt.Sprintf("what follows the last chunk is ignored: %s", advise.ExactBytes(n)))
	}
	return nil
}
