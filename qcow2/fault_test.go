package qcow2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"e2qcow/image"
)

// A faulty file fails from one call on.
type faulty struct {
	mu    sync.Mutex
	left  int // calls that succeed
	err   error
	short bool // write half before failing
	first [4]byte
}

func (f *faulty) fails() bool {
	f.left--
	return f.left < 0
}

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails() {
		n := 0
		if f.short {
			n = len(b) / 2
		}
		return n, f.err
	}
	if off == 0 {
		copy(f.first[:], b)
	}
	return len(b), nil
}

func (f *faulty) Write(b []byte) (int, error) { return f.WriteAt(b, 1) }

func (f *faulty) Truncate(int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails() {
		return f.err
	}
	return nil
}

// sickDisk fails to be read from one call on.
type sickDisk struct {
	image.Image
	mu   sync.Mutex
	left int
	err  error
}

func (d *sickDisk) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left < 0 {
		return 0, d.err
	}
	return d.Image.ReadAt(b, off)
}

func (d *sickDisk) NextRun(off int64) (int64, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left < 0 {
		return 0, 0, d.err
	}
	return d.Image.NextRun(off)
}

// TestWriteFaults has every single write fail, and every read: the error comes
// back, and what was written by then is no image.
func TestWriteFaults(t *testing.T) {
	before := runtime.NumGoroutine()
	d := randomDisk(2, 6<<20, 4096, 12)
	for _, c := range []struct {
		fault error
		opt   WriteOptions
	}{
		{syscall.ENOSPC, WriteOptions{ClusterSize: 4096}},
		{syscall.EIO, WriteOptions{ClusterSize: 4096, Dense: true}},
		{syscall.EPIPE, WriteOptions{Compression: Zlib}},
		{syscall.ENOSPC, WriteOptions{Version: 3, Compression: Zstd}},
	} {
		fault, opt := c.fault, c.opt
		faults := 0
		for i := 0; ; i++ {
			f := &faulty{left: i, err: fault, short: i%2 == 0}
			_, err := WriteFile(context.Background(), f, d, opt)
			if err == nil {
				break
			}
			faults++
			if !errors.Is(err, fault) {
				t.Fatalf("write %d fails with %v: %v", i, fault, err)
			}
			if f.first == [4]byte{'Q', 'F', 'I', 0xfb} {
				t.Fatalf("write %d failed, and the header was there", i)
			}
		}
		for i := 0; ; i++ {
			_, err := WriteStream(context.Background(), &faulty{left: i, err: fault}, d, opt)
			if err == nil {
				break
			}
			faults++
			if !errors.Is(err, fault) {
				t.Fatalf("stream write %d fails with %v: %v", i, fault, err)
			}
		}
		for i := 0; ; i += 5 {
			_, err := WriteStream(context.Background(), io.Discard, &sickDisk{Image: d, left: i, err: fault}, opt)
			if err == nil {
				break
			}
			faults++
			if !errors.Is(err, fault) {
				t.Fatalf("read %d fails with %v: %v", i, fault, err)
			}
		}
		if faults < 10 {
			t.Errorf("only %d faults", faults)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestWritePipe closes the reading end of a real pipe.
func TestWritePipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go func() {
		io.CopyN(io.Discard, r, 100_000)
		r.Close()
	}()
	d := randomDisk(2, 6<<20, 4096, 12)
	if _, err := WriteStream(context.Background(), w, d, WriteOptions{}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("closed pipe: %v", err)
	}
}

// TestSpoolFaults spools where nothing can be.
func TestSpoolFaults(t *testing.T) {
	d := randomDisk(2, 6<<20, 4096, 12)
	opt := WriteOptions{Spool: SpoolOptions{Memory: -1, Dir: filepath.Join(t.TempDir(), "missing")}}
	if _, err := WriteStream(context.Background(), io.Discard, d, opt); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	opt.Spool.Memory = 0
	if _, err := WriteStream(context.Background(), io.Discard, d, opt); err != nil {
		t.Errorf("missing folder that is not needed: %v", err)
	}
}

// TestWriteCancel cancels at every progress.
func TestWriteCancel(t *testing.T) {
	d := randomDisk(2, 6<<20, 4096, 12)
	sick := errors.New("sick")
	for i := 0; ; i++ {
		ctx, cancel := context.WithCancelCause(context.Background())
		n := 0
		opt := WriteOptions{Compression: Zlib, Progress: func(done, total int64) {
			if n++; n > i {
				cancel(sick)
			}
		}}
		var b bytes.Buffer
		_, err := WriteStream(ctx, &b, d, opt)
		cancel(nil)
		if err == nil && n > i {
			t.Fatalf("cancelled after %d: no error", i)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, sick) {
			t.Fatalf("cancelled after %d: %v", i, err)
		}
	}
}

// TestWriteRefused has options that cannot be.
func TestWriteRefused(t *testing.T) {
	for _, c := range []struct {
		size int64
		opt  WriteOptions
	}{
		{1000, WriteOptions{}},
		{1024, WriteOptions{ClusterSize: 1000}},
		{1024, WriteOptions{ClusterSize: 256}},
		{1024, WriteOptions{ClusterSize: 4 << 20}},
		{1024, WriteOptions{Version: 1}},
		{1024, WriteOptions{Version: 4}},
		{1024, WriteOptions{Version: 2, Compression: Zstd}},
		{1024, WriteOptions{Compression: 7}},
		{1 << 40, WriteOptions{ClusterSize: 512}},
		{1024, WriteOptions{Info: func() Info { return Info{Tool: string(make([]byte, 1000))} }}},
	} {
		if _, err := WriteStream(context.Background(), io.Discard, &disk{size: c.size}, c.opt); err == nil {
			t.Errorf("%d bytes with %+v: no error", c.size, c.opt)
		}
	}
}
