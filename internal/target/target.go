// Package target opens what is written: a file, a block device, or a stream.
//
//	file     .name.x ──write──► sync ──rename──► name      or it is removed
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

	"e2qcow/internal/signature"
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
}

// OpenInPlace checks and opens a file or block device that there is, to change
// what is in it. Nothing is changed yet. Close must be called, and leaves what
// was written. What the target holds is the caller's to judge.
func OpenInPlace(name string, opt Options) (*Target, error) {
	opt.Overwrite = true
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, refuse(name, ErrDirectory)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return openDevice(name, name, opt)
	case !mode.IsRegular():
		return nil, refuse(name, ErrStream)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, unix.ETXTBSY) {
		return nil, refuse(name, ErrMounted)
	}
	if err != nil {
		return nil, err
	}
	if err := checkRegion(f, name, opt); err != nil {
		f.Close()
		return nil, err
	}
	return &Target{kind: InPlace, name: name, f: f, size: info.Size()}, nil
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
	if name == "" || os.IsPathSeparator(name[len(name)-1]) {
		return nil, refuse(name, ErrDirectory)
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return openFile(name, opt)
	}
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return openFile(name, opt)
	case mode.IsDir():
		return nil, refuse(name, ErrDirectory)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return openDevice(name, name, opt)
	}
	if opt.Format == Undo {
		return nil, refuse(name, ErrStream)
	}
	return openStream(ctx, name)
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

// checkRegion refuses what is the source or is mounted.
func checkRegion(f *os.File, name string, opt Options) error {
	region, err := storage.Of(f)
	if err != nil {
		return err
	}
	if region.Overlaps(opt.Source) {
		return refuse(name, ErrSame)
	}
	uses, err := region.Uses()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without /proc, the kernel still refuses devices
		return err
	}
	if len(uses) > 0 {
		return fmt.Errorf("%s %w (%v)", name, ErrMounted, uses[0])
	}
	return nil
}

// checkContent refuses what opt.Format should not be written over.
func checkContent(f *os.File, name string, size int64, opt Options) error {
	if opt.Overwrite || size == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s, known, err := signature.Find(f, size)
	if err != nil {
		return err
	}
	switch opt.Format {
	case JSON:
		return checkJSON(f, name)
	case Undo, Names:
		return refuse(name, ErrOnlyCopy)
	}
	image := known && (s.Name == signature.QCOW2 || s.Name == signature.Normal)
	own, isImage := map[Format]string{QCOW2: signature.QCOW2, Normal: signature.Normal}[opt.Format]
	switch {
	case known && s.Name == own:
		return nil
	case image:
		return fmt.Errorf("%s %w and is %s", name, ErrExists, s.Name)
	case !info.Mode().IsRegular() && known:
		return fmt.Errorf("%s %w: %s", name, ErrHoldsFilesystem, s.Name)
	case info.Mode().IsRegular() && isImage && known:
		return fmt.Errorf("%s %w and is %s, not %s", name, ErrExists, s.Name, own)
	case info.Mode().IsRegular() && isImage:
		return fmt.Errorf("%s %w and is not %s", name, ErrExists, own)
	}
	return nil
}

// checkJSON refuses what does not begin as a JSON object does.
func checkJSON(f *os.File, name string) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return err
	}
	if b[0] != '{' {
		return refuse(name, ErrNotJSON)
	}
	return nil
}

// openDevice opens a block device under path, for this process alone: the
// kernel refuses what is mounted or held in any way, wherever that is seen.
func openDevice(path, name string, opt Options) (*Target, error) {
	if opt.Format == JSON || opt.Format == Undo || opt.Format == Names {
		return nil, refuse(name, ErrDevice)
	}
	probe, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = checkRegion(probe, name, opt)
	probe.Close()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, refuse(name, ErrMounted)
	}
	if err != nil {
		return nil, err
	}
	t := &Target{kind: Device, name: name, f: f}
	if t.size, err = storage.DeviceSize(f); err == nil {
		err = checkContent(f, name, t.size, opt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}
