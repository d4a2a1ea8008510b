package target

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"e2qcow/internal/folder"
	"e2qcow/internal/partition"
	"e2qcow/internal/signature"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// ErrOffset says that a target has no offsets to write at.
var ErrOffset = errors.New("is written from its first byte to its last")

// OpenPart checks and opens a file or device to be written from the byte off
// on, in place; a missing file is created. Offsets of the target are counted
// from off. known reports whether the data of the target may be overwritten
// there; nil means that it may not.
func OpenPart(name string, off int64, opt Options, known func(r io.ReaderAt) bool) (*Target, error) {
	if IsStdout(name) {
		return nil, refuse("standard output", ErrOffset)
	}
	e, err := find(name)
	if err != nil {
		return nil, err
	}
	t, err := openPart(e, name, off, opt, known)
	if err != nil {
		e.Close()
	}
	return t, err
}

// openPart becomes the owner of e unless it returns an error.
func openPart(e *folder.Entry, name string, off int64, opt Options, known func(r io.ReaderAt) bool) (*Target, error) {
	if kind, err := e.Kind(); err == nil && kind == 0 {
		return createPart(e, name, off, opt)
	}
	anything := opt
	anything.Overwrite = true
	t, err := openInPlace(e, name, anything)
	switch {
	case errors.Is(err, ErrStream):
		return nil, refuse(name, ErrOffset)
	case err != nil:
		return nil, err
	}
	t.base = off
	if !opt.Overwrite {
		err = t.checkPart(known)
	}
	if t.kind == Device && off > t.size {
		err = fmt.Errorf("%s %w: it has %d bytes", name, ErrTooSmall, t.size)
	}
	if err != nil {
		t.f.Close()
		return nil, err
	}
	t.size = max(t.size-off, 0)
	return t, nil
}

// createPart makes the file. It appears when it is complete.
func createPart(e *folder.Entry, name string, off int64, opt Options) (*Target, error) {
	t := &Target{kind: InPlace, name: name, entry: e, base: off, made: true, options: opt}
	if err := e.CheckDevices(); err != nil {
		return nil, refuse(name, err)
	}
	var err error
	if opt.DryRun {
		t.f, err = os.Open(os.DevNull) // which reads as the file would
		return t, err
	}
	if t.draft, err = e.Draft(); err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unwrapPath(err)}
	}
	t.f = t.draft.File
	return t, nil
}

// checkPart refuses what a raw image is not to be written over: a qcow2 or
// normal image anywhere; on a device, and within a file, also what begins where
// the part does; a file as a whole as checkRaw has it.
func (t *Target) checkPart(known func(r io.ReaderAt) bool) error {
	s, ok, err := signature.Find(t.f, t.size)
	if err != nil {
		return err
	}
	if ok && (s.Name == signature.QCOW2 || s.Name == signature.Normal) {
		return fmt.Errorf("%s %w and is %s", t.name, ErrExists, s.Name)
	}
	part := io.NewSectionReader(t.f, t.base, max(t.size-t.base, 0))
	if part.Size() == 0 || known != nil && known(part) {
		return nil
	}
	if t.kind == InPlace && t.base == 0 {
		return checkRaw(t.f, t.name, s)
	}
	s, ok, err = signature.Find(part, part.Size())
	if err == nil && ok {
		err = fmt.Errorf("%s %w: %s", t.name, ErrHoldsFilesystem, s.Name)
		if t.base > 0 {
			err = fmt.Errorf("%s at byte %d %w: %s", t.name, t.base, ErrHoldsFilesystem, s.Name)
		}
	}
	return err
}

// Table returns the valid part of the partition table of the target's disk.
// Offsets are those of the target, and negative before the target.
func (t *Target) Table() (partition.Table, error) {
	size, sector := t.base+t.size, int64(0)
	switch t.kind {
	case Device:
		var err error
		if sector, err = storage.SectorSize(t.f); err != nil {
			return partition.Table{}, err
		}
	case InPlace: // which may end before base
		info, err := t.f.Stat()
		if err != nil {
			return partition.Table{}, err
		}
		size = info.Size()
	}
	table, err := partition.Read(t.f, size, sector)
	if errors.Is(err, partition.ErrNone) || errors.Is(err, partition.ErrDamaged) {
		err = nil
	}
	for i := range table.Partitions {
		table.Partitions[i].Start -= t.base
	}
	for i := range table.Areas {
		table.Areas[i].Start -= t.base
	}
	return table, err
}

// Extend makes room for size bytes: a file in place grows if necessary. The new
// bytes are zero.
func (t *Target) Extend(size int64) error {
	if size <= t.size {
		return nil
	}
	if t.kind != InPlace {
		return fmt.Errorf("%s %w: it has %d bytes where %d are to be written", t.name, ErrTooSmall, t.size, size)
	}
	t.touched.Store(true)
	if err := t.f.Truncate(t.base + size); err != nil {
		return t.named("truncate", err)
	}
	t.size = size
	return nil
}

// Cut shortens a file in place to size bytes, if it is longer.
func (t *Target) Cut(size int64) error {
	if t.kind != InPlace || size >= t.size {
		return nil
	}
	t.touched.Store(true)
	t.size = size
	return t.named("truncate", t.f.Truncate(t.base+size))
}

// NextData returns the first offset, at or after off, whose byte may not be
// zero; io.EOF if there is none.
func (t *Target) NextData(off int64) (int64, error) {
	if off >= t.size {
		return 0, io.EOF
	}
	if t.kind != InPlace {
		return off, nil
	}
	at, err := t.f.Seek(t.base+off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, io.EOF
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP):
		return off, nil
	case err != nil:
		return 0, t.named("seek", err)
	}
	return at - t.base, nil
}

// zeroOut asks the device or the filesystem of the file to make n bytes zero.
func (t *Target) zeroOut(off, n int64) error {
	t.touched.Store(true)
	if t.kind != InPlace {
		return storage.ZeroOut(t.f, off, n)
	}
	return unix.Fallocate(int(t.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Sync writes everything written so far to the disk.
func (t *Target) Sync() error { return t.named("sync", t.f.Sync()) }
