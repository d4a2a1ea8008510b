package source

import (
	"context"
	"errors"
	"io"
	"os"

	"e2qcow/internal/spool"
	"e2qcow/internal/zero"

	"golang.org/x/sys/unix"
)

// IsPipe reports whether the source can only be read from its first byte to
// its last, once.
func (s *Source) IsPipe() bool { return s.pipe != nil }

// IsSpooled reports whether the source was a pipe, or compressed, and is kept in
// memory and a temporary file now: its name does not lead to what is read.
func (s *Source) IsSpooled() bool { return s.spool != nil }

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

// Spool reads a pipe to its end and keeps it as opt says. From then on the
// source can be read at offsets. progress, which may be nil, is told how many
// bytes have come; there is no saying how many will. An error of the temporary
// file is a *spool.Error.
func (s *Source) Spool(ctx context.Context, opt spool.Options, progress func(done, total int64)) error {
	kept := spool.New(opt)
	if err := s.copyTo(ctx, kept, progress); err != nil {
		kept.Close()
		return err
	}
	s.f.Close()
	s.spool, s.size, s.pipe = kept, kept.Size(), nil
	return nil
}

// copyTo copies the pages of a pipe that are not zero.
func (s *Source) copyTo(ctx context.Context, to *spool.Spool, progress func(done, total int64)) error {
	buf := make([]byte, spoolSize)
	for off := int64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(s.pipe, buf)
		for i := 0; i < n; {
			start, end := zero.NextData(buf[:n], i, page)
			if _, err := to.WriteAt(buf[start:end], off+int64(start)); err != nil {
				return err
			}
			i = end
		}
		off += int64(n)
		to.Grow(off)
		if progress != nil {
			progress(off, 0)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
