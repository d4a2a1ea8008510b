package buffer

import (
	"sync"
	"testing"
)

func TestNew(t *testing.T) {
	for _, size := range []int{1, 4096, 1 << 20, 1280 << 10, 3 << 20} {
		b := New(size)
		if len(b.Bytes) != size || cap(b.Bytes) != size || !Aligned(b.Bytes, 4096) {
			t.Errorf("a buffer of %d bytes has %d of %d at %#x", size, len(b.Bytes), cap(b.Bytes), address(b.Bytes))
		}
		b.Bytes[0], b.Bytes[size-1] = 1, 1
		b.Free()
	}
}

// Buffers in use do not overlap, and what is idle is bounded.
func TestPool(t *testing.T) {
	var workers sync.WaitGroup
	for w := range byte(8) {
		workers.Go(func() {
			for range 50 {
				a, b := New(1<<20), New(8<<20)
				for _, x := range []*Buffer{a, b} {
					x.Bytes[0], x.Bytes[len(x.Bytes)-1] = w, w
				}
				for _, x := range []*Buffer{a, b} {
					if x.Bytes[0] != w || x.Bytes[len(x.Bytes)-1] != w {
						t.Error("two have one buffer")
					}
					x.Free()
				}
			}
		})
	}
	workers.Wait()
	if pool.bytes > maxIdle {
		t.Errorf("%d bytes are idle", pool.bytes)
	}
}

func TestAligned(t *testing.T) {
	b := New(1 << 20)
	defer b.Free()
	for off, want := range map[int]bool{0: true, 512: true, 1: false, 256: false} {
		if got := Aligned(b.Bytes[off:], 512); got != want {
			t.Errorf("%d bytes from a page: aligned to 512 %v", off, got)
		}
	}
	if !Aligned(nil, 512) {
		t.Error("no bytes are not aligned")
	}
}
