package source

import (
	"errors"
	"io"
	"io/fs"

	"e2qcow/internal/image"

	"golang.org/x/sys/unix"
)

var _ image.Image = (*Source)(nil)

// NextRun returns the next run that is no hole, as image.Image says. Where holes
// are not told from zeros, all is a run.
func (s *Source) NextRun(off int64) (start, end int64, err error) {
	if off >= s.size {
		return 0, 0, io.EOF
	}
	if s.spool != nil {
		return s.spool.NextRun(off)
	}
	start, err = s.f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP):
		return off, s.size, nil
	case err != nil:
		return 0, 0, err
	}
	if start >= s.size {
		return 0, 0, io.EOF
	}
	end, err = s.f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	if start < off || end <= start {
		return 0, 0, &fs.PathError{Op: "seek", Path: s.name, Err: unix.EAGAIN} // it changes meanwhile
	}
	return start, min(end, s.size), nil
}
