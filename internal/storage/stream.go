package storage

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// IsStream tells what is read or written from its first byte to its last, a
// FIFO or a character device, by the mode of a file.
func IsStream(mode fs.FileMode) bool { return mode&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 }

// OpenStream opens a FIFO or a character device with os.O_RDONLY or
// os.O_WRONLY. It waits for the other end of a FIFO, but no longer than ctx
// lasts.
func OpenStream(ctx context.Context, name string, flag int) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.OpenFile(name, flag|unix.O_NOCTTY, 0)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.f, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the other end of %s: %w", name, context.Cause(ctx))
	}
}
