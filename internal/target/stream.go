package target

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openStdout takes standard output, whatever it leads to.
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
		return openDevice("/proc/self/fd/1", name, opt)
	}
	if err := checkRegion(f, name, opt); err != nil {
		return nil, err
	}
	t := &Target{kind: Stream, name: name, f: f}
	if mode.IsRegular() {
		if t.skip, err = skipper(f, info.Size()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// openStream opens a FIFO or a character device. It waits for the reader of a
// FIFO, but no longer than ctx lasts.
func openStream(ctx context.Context, name string) (*Target, error) {
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOCTTY, 0)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, r.err
		}
		if term.IsTerminal(int(r.f.Fd())) {
			r.f.Close()
			return nil, refuse(name, ErrTerminal)
		}
		return &Target{kind: Stream, name: name, f: r.f}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a reader of %s: %w", name, context.Cause(ctx))
	}
}

// A skip writes zeros into the file that is standard output by leaving a hole.
type skip struct {
	f     *os.File
	start int64 // its length when it was handed over
	end   int64 // its length after the holes at its end
}

// skipper returns a skip for f, or nil where there may be bytes in the way or
// every write goes to the end.
func skipper(f *os.File, size int64) (*skip, error) {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	pos, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_APPEND != 0 || pos < size {
		return nil, nil
	}
	return &skip{f: f, start: size}, nil
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
