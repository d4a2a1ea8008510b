package raw

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"
)

// A block device in memory that counts what is written.
type ram struct {
	b       []byte
	written int64
	zeroed  int64
}

func (m *ram) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *ram) WriteAt(p []byte, off int64) (int, error) {
	m.written += int64(len(p))
	return copy(m.b[off:], p), nil
}

func (m *ram) ZeroOut(_ context.Context, off, n int64, _ func(int64)) error {
	m.zeroed += n
	clear(m.b[off:][:n])
	return nil
}

func (m *ram) NextData(off int64) (int64, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	return off, nil
}

// thirds is an image of which every third block of 4096 bytes is known.
type thirds struct{ *bytes.Reader }

func (p thirds) NextRun(off int64) (start, end int64, err error) {
	const run, period = 4096, 3 * 4096
	if start = off - off%period; off >= start+run {
		start += period
	}
	if start = max(start, off); start >= p.Size() {
		return 0, 0, io.EOF
	}
	return start, min(start-start%period+run, p.Size()), nil
}

func TestUpdate(t *testing.T) {
	const block = 1024
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int64{100 * 4096, 100*4096 + 512, 512} {
		want := make([]byte, size)
		for off := int64(0); off < size; off += 3 * 4096 {
			random.Read(want[off:min(off+4096, size)])
		}
		img := thirds{bytes.NewReader(want)}
		m := &ram{b: make([]byte, size)}
		random.Read(m.b)
		runs, gaps := int64(0), int64(0) // blocks that are not zero
		for off := int64(0); off < size; off += block {
			if off%(3*4096) < 4096 {
				runs++
			} else {
				gaps++
			}
		}
		blocks := int64(0)
		for range 2 {
			m.written, m.zeroed = 0, 0
			told := int64(0)
			stats, err := Update(context.Background(), m, img, UpdateOptions{Block: block, Wrote: func(_, n int64) error {
				told += (n + block - 1) / block
				return nil
			}})
			if told != stats.Written {
				t.Errorf("%d bytes: told of %d blocks of %d that were written", size, told, stats.Written)
			}
			if err != nil || !bytes.Equal(m.b, want) {
				t.Fatalf("%d bytes: equal %v, %v", size, bytes.Equal(m.b, want), err)
			}
			if blocks == 0 {
				blocks = runs
				if stats.Written != runs+gaps || stats.Same != 0 || m.written == 0 {
					t.Errorf("%d bytes: of a target that is all different, %+v", size, stats)
				}
			} else if stats.Same != blocks || stats.Written != 0 || m.written+m.zeroed != 0 {
				t.Errorf("%d bytes: of an equal target, %+v of %d blocks, %d bytes written, %d zeroed", size, stats, blocks, m.written, m.zeroed)
			}
		}
		m.b[0]++
		gap := min(int64(5000), size-1)
		m.b[gap]++
		m.written = 0
		stats, err := Update(context.Background(), m, img, UpdateOptions{Block: block, RunsOnly: true})
		if err != nil || stats.Written != 1 || stats.Same != blocks-1 || m.written != min(block, size) {
			t.Errorf("%d bytes: one block differs, %+v, %d bytes written, %v", size, stats, m.written, err)
		}
		if size > 5000 && m.b[gap] != want[gap]+1 {
			t.Error("what lies between the runs was written")
		}
	}
}
