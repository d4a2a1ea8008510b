package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// IsStream reports whether the mode of a file is that of a FIFO or a character
// device, which are read or written in order.
func IsStream(mode fs.FileMode) bool { return mode&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 }

// pollInterval is how long OpenStream waits before it looks again whether the
// other end of a FIFO is open and whether the context has ended.
const pollInterval = 20 * time.Millisecond

// OpenStream opens a FIFO or a character device with os.O_RDONLY or
// os.O_WRONLY. It waits for the other end of a FIFO, a reader for the first
// byte or the end, but no longer than ctx lasts. When it fails, no descriptor
// of the FIFO stays open, so the next open meets the other end.
func OpenStream(ctx context.Context, name string, flag int) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeNamedPipe == 0 {
		return os.OpenFile(name, flag|unix.O_NOCTTY, 0)
	}
	open, wait := openWriter, func(context.Context, int) error { return nil }
	if flag&unix.O_ACCMODE == unix.O_RDONLY {
		open, wait = openNow, waitWriter
	}
	fd, err := open(ctx, name, flag|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err == nil {
		if err = wait(ctx, fd); err != nil {
			_ = unix.Close(fd)
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("wait for the other end of %s: %w", name, context.Cause(ctx))
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openNow(_ context.Context, name string, flag int) (int, error) {
	for {
		fd, err := unix.Open(name, flag, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openWriter opens a FIFO when it has a reader: before, the kernel says ENXIO.
func openWriter(ctx context.Context, name string, flag int) (int, error) {
	for {
		fd, err := openNow(ctx, name, flag)
		if !errors.Is(err, unix.ENXIO) {
			return fd, err
		}
		select {
		case <-ctx.Done():
			return -1, context.Cause(ctx)
		case <-time.After(pollInterval):
		}
	}
}

// waitWriter waits until a FIFO that is open for reading has bytes, or had a
// writer that is gone.
func waitWriter(ctx context.Context, fd int) error {
	for {
		list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(list, int(pollInterval/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case err == nil && n > 0:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}
