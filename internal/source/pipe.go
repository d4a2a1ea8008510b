package source

import (
	"context"
	"errors"
	"io"
	"os"

	"e2qcow/internal/zero"

	"golang.org/x/sys/unix"
)

// IsPipe reports whether the source can only be read from its first byte to
// its last, once.
func (s *Source) IsPipe() bool { return s.pipe != nil }

// Read reads a pipe as io.Reader does.
func (s *Source) Read(p []byte) (int, error) {
	if s.pipe == nil {
		return 0, &os.PathError{Op: "read", Path: s.name, Err: unix.EINVAL}
	}
	return s.pipe.Read(p)
}

// What a pipe is spooled in: pieces of spoolSize are read, pages that are zero
// are holes.
const (
	spoolSize = 1 << 20
	page      = 4096
)

// Spool reads a pipe to its end into a temporary file in dir, which has no name
// and is gone with the process; "" is os.TempDir. From then on the source is
// that file. progress, which may be nil, is told how many bytes have come; there
// is no saying how many will.
func (s *Source) Spool(ctx context.Context, dir string, progress func(done, total int64)) error {
	f, err := os.CreateTemp(dir, "e2qcow-spool-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return err
	}
	size, err := s.copyTo(ctx, f, progress)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f.Close()
	s.f, s.size, s.pipe = f, size, nil
	return nil
}

// copyTo copies a pipe to the pages of f that are not zero, and returns its
// length.
func (s *Source) copyTo(ctx context.Context, f *os.File, progress func(done, total int64)) (int64, error) {
	buf := make([]byte, spoolSize)
	for off := int64(0); ; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := io.ReadFull(s.pipe, buf)
		for i := 0; i < n; {
			start, end := zero.NextData(buf[:n], i, page)
			if _, err := f.WriteAt(buf[start:end], off+int64(start)); err != nil {
				return 0, err
			}
			i = end
		}
		off += int64(n)
		if progress != nil {
			progress(off, 0)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return off, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
