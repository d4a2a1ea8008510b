// Package target opens the targets of commands: a file, a block device, or a
// stream.
//
//	file     no name ──write──► sync ──link, rename──► name   or nothing is left
//	device   opened for one user only, written in place
//	in place a file that is changed where it is, for those who ask for that
//	stream   FIFO, character device, stdout: written once, in order
//
// A file appears under its name when it is complete and on the disk, or not at
// all. A target is refused if it is the source, is mounted, or contains data
// that the options do not allow to overwrite.
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
	InPlace // a file that keeps all bytes that are not overwritten
)

// A Format is the format of the image to write. It decides which files may be
// replaced.
type Format uint8

// The formats.
const (
	QCOW2  Format = iota // does not replace a file of another format
	Raw                  // does not replace a qcow2 image: the arguments may be swapped
	JSON                 // replaces neither a file of another format nor a device
	Normal               // of e2image; does not replace a file of another format
	Undo                 // a file; does not replace any file: it may be the only copy
	Names                // text that nothing else has, as old and new names; like Undo, but also to a stream
)

// Options say what may be opened.
type Options struct {
	Source    storage.Region // is not written to, by any name
	Format    Format
	Overwrite bool // lifts ErrHoldsFilesystem, ErrExists and ErrOnlyCopy
	DryRun    bool // no file is created, and nothing will be written
}

// flag returns the flag to open an existing file or device.
func (o Options) flag() int {
	if o.DryRun {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

// OpenInPlace checks and opens an existing file or block device to change its
// contents. It changes nothing yet. Close must be called, and keeps the bytes
// that were written. The caller decides whether the contents may be
// overwritten.
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

// openInPlace becomes the owner of e unless it returns an error.
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

// lock locks a target that is changed in place, so that the second of two runs
// ends.
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

// checkInPlace refuses a file that must not be changed in place.
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

// openEntry becomes the owner of e unless it returns an error.
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
// to standard output is written in the same way: the program that opened it may
// have written a part of it already.
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
