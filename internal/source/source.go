// Package source opens sources for reading only: a file, a block device, or a
// pipe (standard input, a FIFO or a character device).
//
//	file, device    ReadAt
//	pipe            Read, once ── Spool ──► ReadAt
package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"e2qcow/image"
	"e2qcow/internal/spool"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// What cannot be a source, for errors.Is.
var (
	ErrDirectory = errors.New("is a directory")
	ErrKind      = errors.New("is neither a file nor a block device")
	ErrEmpty     = errors.New("is empty")
	ErrTerminal  = errors.New("is a terminal")
)

// A Source is an open file, block device or pipe. Its methods are safe for
// concurrent use, except those that read a pipe.
type Source struct {
	f      *os.File
	name   string
	size   int64
	device bool // a block device
	region storage.Region
	sparse bool          // a file with holes
	advice image.Advice  // of a device, but for the bridge
	meter  *meter        // of a device
	direct *direct       // nil where all reads go through the page cache
	pipe   *bufio.Reader // nil where bytes can be read at offsets
	spool  *spool.Spool  // what came through a pipe, once that is read

	endsAtDamage bool  // of compressed data, that before the first damage is read
	damage       error // the first damage in compressed data; nil for none yet
}

// Stdin is the name of standard input.
const Stdin = "-"

// IsStdin reports whether name stands for standard input.
func IsStdin(name string) bool {
	if name == Stdin {
		return true
	}
	switch filepath.Clean(name) {
	case "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0":
		return true
	}
	return false
}

// IsPipe reports whether the source of that name may be a pipe. It looks at the
// name only: standard input may also be a file.
func IsPipe(name string) bool {
	if IsStdin(name) {
		return true
	}
	info, err := os.Stat(name)
	return err == nil && storage.IsStream(info.Mode())
}

// Open opens the file, block device or pipe of that name, or standard input. It
// waits for the writer of a FIFO until ctx ends. Its errors name the source.
func Open(ctx context.Context, name string) (*Source, error) {
	switch {
	case IsStdin(name):
		return openStdin()
	case IsPipe(name):
		f, err := storage.OpenStream(ctx, name, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		return open(f, (*Source).takePipe)
	}
	// O_NONBLOCK: a file that has become a FIFO is refused, without waiting.
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	return open(f, (*Source).examine)
}

const flags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// OpenIn opens the file of that name below a folder. A name or a symlink that
// leads out of it is an error.
func OpenIn(folder *os.Root, name string) (*Source, error) {
	f, err := folder.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	return open(f, (*Source).examine)
}

// open returns the source that f is as take finds, and closes f if it cannot be
// one.
func open(f *os.File, take func(*Source) error) (*Source, error) {
	s := &Source{f: f, name: f.Name()}
	if err := take(s); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// openStdin opens standard input. A file at an offset is read on from that
// offset, as a pipe.
func openStdin() (*Source, error) {
	s := &Source{f: os.Stdin, name: "standard input"}
	info, err := s.f.Stat()
	if err != nil {
		return nil, err
	}
	pos, err := s.f.Seek(0, io.SeekCurrent)
	if mode := info.Mode(); mode.IsDir() || err == nil && pos == 0 && (mode.IsRegular() || isBlockDevice(mode)) {
		return s, s.examine()
	}
	return s, s.takePipe()
}

// pipeBuffer is how much of a pipe can be looked at before it is read.
const pipeBuffer = 64 << 10

// takePipe opens a source that is read in order.
func (s *Source) takePipe() error {
	if term.IsTerminal(int(s.f.Fd())) {
		return s.refuse(ErrTerminal)
	}
	s.pipe = bufio.NewReaderSize(s.f, pipeBuffer)
	if _, err := s.pipe.Peek(1); errors.Is(err, io.EOF) {
		return s.refuse(ErrEmpty)
	} else if err != nil {
		return err
	}
	var err error
	s.region, err = storage.Of(s.f)
	return err
}

// IsDevice reports whether the source is a block device.
func (s *Source) IsDevice() bool { return s.device }

func isBlockDevice(mode fs.FileMode) bool {
	return mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
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
		s.size, s.sparse = info.Size(), isSparse(info)
	case isBlockDevice(mode):
		s.device = true
		if s.size, err = storage.DeviceSize(s.f); err != nil {
			return err
		}
		s.adviseBy(storage.QueueOf(s.f))
	default:
		return s.refuse(ErrKind)
	}
	if s.size == 0 {
		return s.refuse(ErrEmpty)
	}
	// No read-ahead: requests are large, and the bytes beside them are not
	// needed.
	s.advise(0, 0, unix.FADV_RANDOM)
	s.region, err = storage.Of(s.f)
	return err
}

func (s *Source) refuse(err error) error { return fmt.Errorf("%s %w", s.name, err) }

// Name returns the name that the source was opened by.
func (s *Source) Name() string { return s.name }

// Size returns the length in bytes; 0 of a pipe.
func (s *Source) Size() int64 { return s.size }

// SectorSize returns the size in bytes of the logical sectors of a block
// device, 0 of anything else.
func (s *Source) SectorSize() int64 {
	if !s.device {
		return 0
	}
	size, err := storage.SectorSize(s.f)
	if err != nil {
		return 0
	}
	return size
}

// Region returns the region of storage of the source.
func (s *Source) Region() storage.Region { return s.region }

// ReadAt reads as io.ReaderAt does. A pipe has to be spooled before.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if s.pipe != nil {
		return 0, &fs.PathError{Op: "read", Path: s.name, Err: unix.ESPIPE}
	}
	if s.spool != nil {
		return s.spool.ReadAt(p, off)
	}
	if s.isHole(off, len(p)) {
		clear(p)
		return len(p), nil
	}
	return s.f.ReadAt(p, off)
}

// Locate locates the bytes of a regular file, as image.Locator says.
func (s *Source) Locate(off, limit int64, _ bool) (f image.File, at, n int64) {
	if s.device || s.pipe != nil || s.spool != nil || off < 0 || off >= s.size {
		return nil, 0, limit
	}
	return s.f, off, min(limit, s.size-off)
}

// DropCache makes the next reads return the current contents of a device, as
// storage.DropCache does. Reads of a file always do.
func (s *Source) DropCache() error {
	if !s.device {
		return nil
	}
	return storage.DropCache(s.f)
}

// Head returns the first bytes, up to n of them, of which there are at most
// 64 KiB. They can still be read afterwards.
func (s *Source) Head(n int) ([]byte, error) {
	if s.pipe != nil {
		b, err := s.pipe.Peek(n)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return b, err
	}
	b := make([]byte, min(int64(n), s.size))
	k, err := s.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:k], err
}

// Close closes the source. Nothing was written, so nothing can fail.
func (s *Source) Close() {
	if s.direct != nil {
		s.direct.f.Close()
		if s.direct.around.Load() {
			s.advise(0, 0, unix.FADV_DONTNEED) // nobody else uses it
		}
	}
	if s.spool != nil {
		s.spool.Close()
	}
	s.f.Close()
}
