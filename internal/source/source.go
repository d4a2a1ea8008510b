// Package source opens what is read: a file or a block device, never for
// writing.
package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"e2qcow/internal/signature"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// What cannot be a source, for errors.Is.
var (
	ErrDirectory = errors.New("is a directory")
	ErrKind      = errors.New("is neither a file nor a block device")
	ErrEmpty     = errors.New("is empty")
)

// A Source is an open file or block device. Its methods are safe for
// concurrent use.
type Source struct {
	f      *os.File
	size   int64
	device bool
	region storage.Region
}

// Open opens the file or block device of that name. Its errors name it.
func Open(name string) (*Source, error) {
	// O_NONBLOCK: a FIFO without a writer is to be refused, not waited for.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s := &Source{f: f}
	if err := s.examine(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *Source) examine() error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return s.refuse(ErrDirectory)
	case mode.IsRegular():
		s.size = info.Size()
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		s.device = true
		if s.size, err = storage.DeviceSize(s.f); err != nil {
			return err
		}
	default:
		return s.refuse(ErrKind)
	}
	if s.size == 0 {
		return s.refuse(ErrEmpty)
	}
	s.adviseRandom()
	s.region, err = storage.Of(s.f)
	return err
}

// adviseRandom turns off the kernel's read-ahead: what is read here is asked
// for in large pieces, and beside them lies what nobody wants.
func (s *Source) adviseRandom() {
	conn, err := s.f.SyscallConn()
	if err != nil {
		return
	}
	// Advice: that it was not taken changes nothing.
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_RANDOM) })
}

func (s *Source) refuse(err error) error { return fmt.Errorf("%s %w", s.f.Name(), err) }

// Name returns the name that the source was opened by.
func (s *Source) Name() string { return s.f.Name() }

// Size returns the length in bytes.
func (s *Source) Size() int64 { return s.size }

// IsDevice reports whether the source is a block device.
func (s *Source) IsDevice() bool { return s.device }

// Region returns what the source stands for on storage.
func (s *Source) Region() storage.Region { return s.region }

// ReadAt reads as io.ReaderAt does.
func (s *Source) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

var _ io.ReaderAt = (*Source)(nil)

// WritableMount returns where the source is mounted read-write, by whatever
// device, or a part of it is; "" where it is not.
func (s *Source) WritableMount() (point string, err error) {
	mounts, err := s.region.Mounts()
	if err != nil || len(mounts) == 0 || !mounts[0].Writable {
		return "", err
	}
	return mounts[0].Point, nil
}

// Signature returns what the source holds as far as well-known bytes tell.
func (s *Source) Signature() (signature.Signature, bool, error) { return signature.Find(s, s.size) }

// Close closes the source. Nothing was written, so nothing can fail.
func (s *Source) Close() { s.f.Close() }
