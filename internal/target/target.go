// Package target opens what is written: a file, a block device, or a stream.
//
//	file     no name ──write──► sync ──link, rename──► name   or nothing is left
//	device   opened for one user only, written in place
//	in place a file that is changed where it is, for those who ask for that
//	stream   FIFO, character device, stdout: written once, in order
//
// A file appears under its name when it is whole and on the disk, or not at
// all. Nothing is opened that is the source, is mounted, or holds what nobody
// said may go.
package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"e2qcow/internal/folder"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// Why a target is refused, for errors.Is.
var (
	ErrSame            = errors.New("is the source, or shares storage with it")
	ErrMounted         = errors.New("is mounted or in use")
	ErrHoldsFilesystem = errors.New("holds data")
	ErrExists          = errors.New("exists")
	ErrOnlyCopy        = errors.New("exists, and may be the only copy")
	ErrTooSmall        = errors.New("is too small")
	ErrDirectory       = errors.New("is a directory")
	ErrTerminal        = errors.New("is a terminal")
	ErrNotJSON         = errors.New("exists and is not JSON")
	ErrDevice          = errors.New("is a block device")
	ErrStream          = errors.New("is neither a file nor a block device")
	ErrUnknown         = errors.New("may be mounted or in use")
)

// A Kind is how a target is written.
type Kind uint8

// The kinds of targets.
const (
	File Kind = iota
	Device
	Stream
	InPlace // a file that keeps what is not written over
)

// A Format is what will be written, which says what may be written over.
type Format uint8

// The formats.
const (
	QCOW2  Format = iota // not over a file that is something else
	Raw                  // not over a qcow2 image: the arguments may be swapped
	JSON                 // not over a file that is something else, nor to a device
	Normal               // of e2image; not over a file that is something else
	Undo                 // a file, not over any other: it may be the only copy
	Names                // that were replaced; as Undo, but to a stream too
)

// Options say what may be opened.
type Options struct {
	Source    storage.Region // is not written to, by any name
	Format    Format
	Overwrite bool // lifts ErrHoldsFilesystem, ErrExists and ErrOnlyCopy
	DryRun    bool // nothing is made, and nothing will be written
}

// flag returns how a file or device is opened that there is.
func (o Options) flag() int {
	if o.DryRun {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

// OpenInPlace checks and opens a file or block device that there is, to change
// what is in it. Nothing is changed yet. Close must be called, and leaves what
// was written. What the target holds is the caller's to judge.
func OpenInPlace(name string, opt Options) (*Target, error) {
	e, err := find(name)
	if err != nil {
		return nil, err
	}
	opt.Overwrite = true
	t, err := openInPlace(e, name, opt)
	if err != nil {
		e.Close()
	}
	return t, err
}

// openInPlace takes e, if it returns no error.
func openInPlace(e *folder.Entry, name string, opt Options) (*Target, error) {
	kind, err := e.Kind()
	switch {
	case err != nil:
		return nil, refuse(name, err)
	case kind == unix.S_IFDIR:
		return nil, refuse(name, ErrDirectory)
	case kind == unix.S_IFBLK:
		t, err := openDevice(e, name, opt)
		if err == nil {
			e.Close()
		}
		return t, err
	case kind == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOENT}
	case kind != unix.S_IFREG:
		return nil, refuse(name, ErrStream)
	}
	f, err := e.Open(opt.flag())
	if errors.Is(err, unix.ETXTBSY) {
		return nil, refuse(name, ErrMounted)
	}
	if err != nil {
		return nil, err
	}
	if err = lock(f, name, opt); err == nil {
		err = checkInPlace(e, f, name, opt)
	}
	info := fs.FileInfo(nil)
	if err == nil {
		info, err = f.Stat()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Target{kind: InPlace, name: name, f: f, entry: e, size: info.Size()}, nil
}

// lock locks what is to be changed where it is, so that of two runs on it the
// second one ends.
func lock(f *os.File, name string, opt Options) error {
	if opt.DryRun {
		return nil
	}
	err := storage.Lock(f)
	if locked := (*storage.LockedError)(nil); errors.As(err, &locked) {
		locked.Name = name
	}
	return err
}

// checkInPlace refuses a file that is not to be changed where it is.
func checkInPlace(e *folder.Entry, f *os.File, name string, opt Options) error {
	if err := e.CheckDevices(); err != nil {
		return refuse(name, err)
	}
	if err := e.Check(f); err != nil {
		return refuse(name, err)
	}
	return checkRegion(f, name, opt)
}

// Stdout is the name that stands for standard output.
const Stdout = "-"

// Open checks and opens the target of that name; for a FIFO it waits for a
// reader. Nothing is changed yet. Close must be called.
func Open(ctx context.Context, name string, opt Options) (*Target, error) {
	if IsStdout(name) && opt.Format == Undo {
		return nil, refuse(name, ErrStream)
	}
	if IsStdout(name) {
		return openStdout(opt)
	}
	e, err := find(name)
	if err != nil {
		return nil, err
	}
	t, err := openEntry(ctx, e, name, opt)
	if err != nil {
		e.Close()
	}
	return t, err
}

// openEntry takes e, if it returns no error.
func openEntry(ctx context.Context, e *folder.Entry, name string, opt Options) (*Target, error) {
	kind, err := e.Kind()
	switch {
	case err != nil:
		return nil, refuse(name, err)
	case kind == 0 || kind == unix.S_IFREG:
		return openFile(e, name, opt)
	case kind == unix.S_IFDIR:
		return nil, refuse(name, ErrDirectory)
	case kind == unix.S_IFBLK:
		t, err := openDevice(e, name, opt)
		if err == nil {
			e.Close()
		}
		return t, err
	case opt.Format == Undo:
		return nil, refuse(name, ErrStream)
	}
	return openStream(ctx, e, name, opt)
}

// IsStdout reports whether name stands for standard output. A name that leads
// to it is written as it is: whoever opened it may be in the middle of it.
func IsStdout(name string) bool {
	if name == Stdout {
		return true
	}
	switch filepath.Clean(name) {
	case "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
		return true
	}
	return false
}

func refuse(name string, why error) error { return fmt.Errorf("%s %w", name, why) }
