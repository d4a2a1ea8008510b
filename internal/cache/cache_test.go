package cache

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// A counted image counts how often it is read, and fails once where it is told to.
type counted struct {
	b     []byte
	reads atomic.Int64
	fail  atomic.Int64 // an offset that a read from fails; -1 for none
}

var errRead = errors.New("cannot be read")

func (c *counted) Size() int64 { return int64(len(c.b)) }

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads.Add(1)
	if c.fail.CompareAndSwap(off, -1) {
		return 0, errRead
	}
	return bytes.NewReader(c.b).ReadAt(p, off)
}

func (c *counted) NextRun(off int64) (start, end int64, err error) {
	if off >= c.Size() {
		return 0, 0, io.EOF
	}
	return off, c.Size(), nil
}

func newCounted(n int) *counted {
	c := &counted{b: make([]byte, n)}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(c.b)
	c.fail.Store(-1)
	return c
}

// TestRead reads any ranges from many goroutines.
func TestRead(t *testing.T) {
	base := newCounted(10_123)
	c := New(base, 512, 2048)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 2000 {
				off, n := r.Int64N(11_000), r.IntN(3000)
				got := make([]byte, n)
				k, err := c.ReadAt(got, off)
				want := make([]byte, n)
				wantK, wantErr := bytes.NewReader(base.b).ReadAt(want, off)
				if n == 0 {
					wantErr = nil
				}
				if k != wantK || !errors.Is(err, wantErr) || !bytes.Equal(got[:k], want[:wantK]) {
					t.Errorf("%d bytes at %d: %d, %v; want %d, %v", n, off, k, err, wantK, wantErr)
					return
				}
			}
		})
	}
	all.Wait()
	if n := c.used.Len(); n > 4 || n != len(c.pages) {
		t.Errorf("%d pages are kept, %d are known", n, len(c.pages))
	}
}

// TestOnce has a page read once while it is kept.
func TestOnce(t *testing.T) {
	base := newCounted(4096)
	c := New(base, 1024, 4096)
	b := make([]byte, 64)
	for off := int64(0); off < 4096; off += 64 {
		if _, err := c.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	if n := base.reads.Load(); n != 4 {
		t.Errorf("read %d times, want 4", n)
	}
}

// TestFailed has a page that could not be read tried again.
func TestFailed(t *testing.T) {
	base := newCounted(4096)
	base.fail.Store(1024)
	c := New(base, 1024, 4096)
	b := make([]byte, 10)
	if _, err := c.ReadAt(b, 1030); !errors.Is(err, errRead) {
		t.Errorf("got %v", err)
	}
	if _, err := c.ReadAt(b, 1030); err != nil || !bytes.Equal(b, base.b[1030:1040]) {
		t.Errorf("got %v", err)
	}
}
