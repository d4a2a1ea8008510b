package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"e2qcow/image"

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

// leastHole is how many bytes a read has to ask for that is worth to look for
// a hole first.
const leastHole = 64 << 10

// isHole reports whether n bytes at off are known to be a hole. It asks the
// kernel only for a file with holes.
func (s *Source) isHole(off int64, n int) bool {
	if !s.sparse || n < leastHole || off < 0 || off > s.size-int64(n) {
		return false
	}
	start, err := s.f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // no data behind off, or no file
		info, err := s.f.Stat()
		return err == nil && info.Size() >= s.size
	}
	return err == nil && start >= off+int64(n)
}

// isSparse reports whether a regular file takes less room than its length.
func isSparse(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Blocks*512 < info.Size()
}
