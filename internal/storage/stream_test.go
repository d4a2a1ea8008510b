package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOpenStreamCancelled cancels opens of a FIFO, before they begin and while
// they wait. The next open of the same FIFO must meet its other end: a
// cancelled one that still waits in the kernel would take that away.
func TestOpenStreamCancelled(t *testing.T) {
	for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
		name := fifo(t)
		for _, wait := range []time.Duration{0, time.Millisecond, 2 * pollInterval} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			_, err := OpenStream(ctx, name, flag)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("flag %d: got %v, want %v", flag, err, context.DeadlineExceeded)
			}
		}
		opposite := os.O_RDONLY + os.O_WRONLY - flag
		other := make(chan *os.File, 1)
		go func() {
			f, err := OpenStream(t.Context(), name, opposite)
			if err != nil {
				t.Error(err)
			}
			if opposite == os.O_WRONLY {
				_, _ = f.WriteString("text")
			}
			other <- f
		}()
		f, err := OpenStream(t.Context(), name, flag)
		if err != nil {
			t.Fatal(err)
		}
		if flag == os.O_WRONLY {
			_, _ = f.WriteString("text")
		}
		reader, writer := f, <-other
		if flag == os.O_WRONLY {
			reader, writer = writer, reader
		}
		writer.Close()
		b, err := io.ReadAll(reader)
		reader.Close()
		if err != nil || string(b) != "text" {
			t.Errorf("flag %d: read %q, %v", flag, b, err)
		}
	}
}

// TestOpenStreamBlocking has a program open the other end as any program does,
// before and after OpenStream.
func TestOpenStreamBlocking(t *testing.T) {
	for _, delay := range []time.Duration{0, 3 * pollInterval} {
		name := fifo(t)
		go func() {
			time.Sleep(delay)
			_ = os.WriteFile(name, []byte("written"), 0)
		}()
		f, err := OpenStream(t.Context(), name, os.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != "written" {
			t.Errorf("read %q, %v", b, err)
		}
		f.Close()
	}
	if f, err := OpenStream(t.Context(), "/dev/zero", os.O_RDONLY); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

// TestOpenStreamEmpty meets a writer that writes nothing.
func TestOpenStreamEmpty(t *testing.T) {
	name := fifo(t)
	go func() { _ = os.WriteFile(name, nil, 0) }()
	f, err := OpenStream(t.Context(), name, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || len(b) > 0 {
		t.Errorf("read %q, %v", b, err)
	}
}
