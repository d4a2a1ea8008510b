//go:build unix

package spool

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pattern is what the temporary file is called while it has a name.
const pattern = "e2qcow-spool-*"

// createRemoved creates a temporary file in dir and removes its name.
func createRemoved(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// closeUnnamed closes a file of createUnnamed, which is gone then.
func closeUnnamed(f *os.File) { f.Close() }

// nextData returns the bounds of the first data of f at or after off, below
// size; io.EOF where there is none. Where the filesystem does not tell holes
// from data, all is data.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	start, err = f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP):
		return off, size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	return start, end, err
}
