package target

import (
	"context"
	"io"
	"io/fs"
	"os"

	"e2qcow/internal/folder"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openStdout opens standard output, whatever its kind.
func openStdout(opt Options) (*Target, error) {
	const name = "standard output"
	f := os.Stdout
	if term.IsTerminal(int(f.Fd())) {
		return nil, refuse(name, ErrTerminal)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	mode := info.Mode()
	if mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0 {
		return openDevice(stdoutDevice{}, name, opt)
	}
	if err := checkRegion(f, name, opt); err != nil {
		return nil, err
	}
	t := &Target{kind: Stream, name: name, f: f}
	if mode.IsRegular() {
		t.start = info.Size()
		t.skip, t.appends, err = atEnd(f, info.Size())
	}
	return t, err
}

// stdoutDevice opens the block device to which standard output leads.
type stdoutDevice struct{}

// Open opens the device once more, exclusively.
func (stdoutDevice) Open(flag int) (*os.File, error) { return os.OpenFile("/proc/self/fd/1", flag, 0) }

// Check does nothing: the caller of the program opened the device.
func (stdoutDevice) Check(*os.File) error { return nil }

// openStream opens a FIFO or a character device, as storage.OpenStream does.
func openStream(ctx context.Context, e *folder.Entry, name string, opt Options) (*Target, error) {
	t := &Target{kind: Stream, name: name, entry: e}
	if opt.DryRun {
		return t, nil
	}
	f, err := storage.OpenStream(ctx, name, os.O_WRONLY)
	if err != nil {
		return nil, err
	}
	t.f = f
	info, err := f.Stat()
	switch {
	case err != nil:
	case !storage.IsStream(info.Mode()):
		err = refuse(name, ErrStream) // by now
	case term.IsTerminal(int(f.Fd())):
		err = refuse(name, ErrTerminal)
	case !e.OfProcess():
		if err = e.Check(f); err != nil {
			err = refuse(name, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// A skip writes zeros to a file that is standard output: it leaves holes.
type skip struct {
	f     *os.File
	start int64 // its length when the program started
	end   int64 // its length after the holes at its end
}

// atEnd returns a skip for f, of the given size, if writes begin at the end of
// f. It returns nil if f may have bytes behind the offset, or if every write
// appends; appends is true then.
func atEnd(f *os.File, size int64) (s *skip, appends bool, err error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, false, &fs.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	pos, err := f.Seek(0, io.SeekCurrent)
	switch {
	case err != nil:
		return nil, false, err
	case flags&unix.O_APPEND != 0:
		return nil, true, nil
	case pos < size:
		return nil, false, nil
	}
	return &skip{f: f, start: size}, false, nil
}

func (s *skip) zeros(n int64) error {
	pos, err := s.f.Seek(n, io.SeekCurrent)
	s.end = pos
	return err
}

// finish gives the file the holes at its end.
func (s *skip) finish() error {
	info, err := s.f.Stat()
	if err == nil && info.Size() < s.end {
		err = s.f.Truncate(s.end)
	}
	return err
}
