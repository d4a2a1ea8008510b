package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"e2qcow/image"
	"e2qcow/internal/buffer"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// A DirectMode says whether reads pass the page cache.
type DirectMode uint8

// The modes.
const (
	DirectAuto DirectMode = iota // from block devices that nobody uses
	DirectOn                     // wherever it can be done
	DirectOff
)

// A direct reader bypasses the page cache for bytes that are needed once.
//
// Bytes that are read again go through the page cache, and the last read drops
// them from it. They take at most half of the memory that was available at
// first. So each byte is requested from the device once. Bytes without room
// bypass the cache, so that they do not displace others, and are requested
// twice.
type direct struct {
	f       *os.File
	align   int64       // of offsets, lengths and memory
	refused atomic.Bool // by the device, whatever the kernel said
	room    atomic.Int64
	alone   bool        // it is a device that nobody else uses
	around  atomic.Bool // more is in the page cache than was asked for
	failed  atomic.Bool // a read has
}

// SetDirect sets whether reads pass the page cache; without it they do not.
// With DirectOn it fails where that cannot be, and the source can be read as
// before.
func (s *Source) SetDirect(mode DirectMode) error {
	if mode == DirectOff || s.pipe != nil || s.spool != nil {
		return nil
	}
	if mode == DirectAuto {
		if !s.device {
			return nil
		}
		// The cache of a mounted device belongs to the filesystem. An error
		// does not matter here: the check of uses will meet it again.
		uses, err := s.region.Uses()
		if alone := err == nil && len(uses) == 0; !alone {
			return nil
		}
	}
	switch err := s.openDirect(); {
	case err == nil:
		s.direct.alone = mode == DirectAuto
	case mode == DirectOn:
		return fmt.Errorf("%s: cannot be read past the page cache: %w", s.name, err)
	}
	return nil
}

func (s *Source) openDirect() error {
	const fileAlign = 4096 // no filesystem asks for more
	d := &direct{align: fileAlign}
	var err error
	if s.device {
		if d.align, err = storage.SectorSize(s.f); err != nil {
			return err
		}
	}
	// The file that is open, whatever its name leads to by now.
	d.f, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", s.f.Fd()), flags|unix.O_DIRECT, 0)
	if err != nil {
		return unwrapPath(err)
	}
	if d.align <= 0 || d.align > page || d.align&(d.align-1) != 0 {
		d.f.Close()
		return unix.EINVAL
	}
	b := buffer.New(page)
	defer b.Free()
	if _, err := d.f.ReadAt(b.Bytes, 0); errors.Is(err, unix.EINVAL) {
		d.f.Close()
		return unix.EINVAL
	}
	d.room.Store(availableMemory() / 2)
	s.direct = d
	return nil
}

// unwrapPath returns the error inside a PathError, without the name.
func unwrapPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// availableMemory returns how many bytes the kernel could give to a new use
// without swapping; 0 where it does not say.
func availableMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// smallRead is how many bytes are read through the page cache even where there
// is no room: many small reads are of pages that others are of too.
const smallRead = 64 << 10

// passes reports whether a read bypasses the page cache.
func (d *direct) passes(p []byte, off int64, use image.Use) bool {
	if d == nil || d.refused.Load() || (off|int64(len(p)))&(d.align-1) != 0 || !buffer.Aligned(p, d.align) {
		return false
	}
	switch use {
	case image.Once:
		return true
	case image.Again:
		return d.room.Add(-max(int64(len(p)), around)) < 0 && len(p) >= smallRead
	}
	return false
}

// around is the size of the piece of a device that is read for a few bytes in
// it. It costs not much more than these bytes, and blocks to which they lead
// are often near them.
const around = 128 << 10

// readAround lets the kernel read the piece around p, if there is room. After a
// failure of the device, only requested bytes are read.
func (s *Source) readAround(p []byte, off int64) {
	start := off &^ (around - 1)
	if !s.direct.alone || s.direct.failed.Load() || len(p) >= smallRead || off+int64(len(p)) > start+around || s.direct.room.Load() < around {
		return
	}
	s.direct.around.Store(true)
	s.advise(start, around, unix.FADV_WILLNEED)
}

// ReadFor reads as ReadAt does, through the page cache or past it.
func (s *Source) ReadFor(p []byte, off int64, use image.Use) (int, error) {
	if s.meter == nil {
		return s.readFor(p, off, use)
	}
	start := time.Now()
	n, err := s.readFor(p, off, use)
	if n == len(p) {
		s.meter.note(int64(n), start, time.Now())
	}
	return n, err
}

func (s *Source) readFor(p []byte, off int64, use image.Use) (int, error) {
	d := s.direct
	if d != nil && use == image.Again {
		s.readAround(p, off)
	}
	if d.passes(p, off, use) {
		n, err := d.f.ReadAt(p, off)
		if !errors.Is(err, unix.EINVAL) {
			d.note(err)
			return n, err
		}
		d.refused.Store(true)
	}
	n, err := s.ReadAt(p, off)
	if d != nil {
		d.note(err)
		if use != image.Again && n > 0 {
			s.advise(off, int64(n), unix.FADV_DONTNEED)
		}
	}
	return n, err
}

// note remembers that a read has failed.
func (d *direct) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) {
		d.failed.Store(true)
	}
}

var _ image.UseReader = (*Source)(nil)

// advise tells the kernel how the n bytes at off will be used; 0 means all
// bytes from off on. An error does not matter.
func (s *Source) advise(off, n int64, advice int) {
	conn, err := s.f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), off, n, advice) })
}
