package overlay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"e2qcow/image"
	"e2qcow/internal/spool"
	"e2qcow/internal/zero"
)

// A sparse is a base of runs of bytes.
type sparse struct {
	data []byte
	runs [][2]int64
}

func (s *sparse) Size() int64 { return int64(len(s.data)) }

func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(b, off)
}

func (s *sparse) NextRun(off int64) (start, end int64, err error) {
	for _, r := range s.runs {
		if r[1] > off {
			return max(r[0], off), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

// newSparse returns a base of size bytes, about half of it holes.
func newSparse(r *rand.Rand, size int) *sparse {
	s := &sparse{data: make([]byte, size)}
	for off := 0; off < size; {
		off += r.IntN(3 * chunkSize / 2)
		end := min(off+1+r.IntN(3*chunkSize/2), size)
		if off >= end {
			break
		}
		fill(s.data[off:end], r)
		s.runs = append(s.runs, [2]int64{int64(off), int64(end)})
		off = end + 1
	}
	return s
}

// fill makes b something that is not zero, and seldom the same.
func fill(b []byte, r *rand.Rand) {
	const unit = 64
	for off := 0; off < len(b); off += unit {
		copy(b[off:], bytes.Repeat([]byte{byte(r.Uint32()) | 1}, unit))
	}
}

// TestConcurrent has 8 goroutines write, clear and read, each in bytes of its own
// that share blocks with those of others, and compares with a model.
func TestConcurrent(t *testing.T) {
	const (
		size  = 9*chunkSize + 5*BlockSize + 777
		piece = 1000 // no multiple of a block: owners share blocks
		users = 8
		ops   = 300
	)
	for _, memory := range []int64{-1, 4 << 20} {
		base := newSparse(rand.New(rand.NewPCG(1, 2)), size)
		model := bytes.Clone(base.data)
		o := New(base, Options{Spool: spool.Options{Memory: memory, Dir: t.TempDir()}})
		defer o.Close()
		var wait sync.WaitGroup
		for user := range users {
			wait.Go(func() {
				r := rand.New(rand.NewPCG(3, uint64(user)))
				for range ops {
					i := r.IntN(size / piece / users)
					off := (i*users + user) * piece
					from := off + r.IntN(piece)
					to := min(from+1+r.IntN(off+piece-from), off+piece)
					switch b := model[from:to]; r.IntN(4) {
					case 0:
						clear(b)
						if err := o.Clear(int64(from), int64(len(b))); err != nil {
							t.Error(err)
						}
					case 1:
						got := make([]byte, len(b))
						if _, err := o.ReadAt(got, int64(from)); err != nil || !bytes.Equal(got, b) {
							t.Errorf("user %d reads %d to %d wrongly, %v", user, from, to, err)
						}
					default:
						fill(b, r)
						if n, err := o.WriteAt(b, int64(from)); n != len(b) || err != nil {
							t.Errorf("wrote %d of %d: %v", n, len(b), err)
						}
					}
				}
			})
		}
		wait.Wait()
		compare(t, o, base, model)
	}
}

// TestLarge writes and clears whole runs of blocks and chunks.
func TestLarge(t *testing.T) {
	const size = 9*chunkSize + 3*BlockSize + 100
	r := rand.New(rand.NewPCG(5, 6))
	base := newSparse(r, size)
	model := bytes.Clone(base.data)
	o := New(base, Options{Spool: spool.Options{Memory: 4 << 20, Dir: t.TempDir()}})
	defer o.Close()
	for i := range 60 {
		from := r.IntN(size)
		if r.IntN(2) == 0 {
			from -= from % BlockSize
		}
		to := min(from+1+r.IntN(3*chunkSize), size)
		if r.IntN(2) == 0 {
			to = min((to+BlockSize-1)/BlockSize*BlockSize, size)
		}
		b := model[from:to]
		switch r.IntN(3) {
		case 0:
			clear(b)
			if err := o.Clear(int64(from), int64(len(b))); err != nil {
				t.Fatal(err)
			}
		default:
			fill(b, r)
			for range r.IntN(4) { // runs of zeros within what is written
				k := r.IntN(len(b))
				clear(b[k:min(len(b), k+r.IntN(8*BlockSize))])
			}
			if n, err := o.WriteAt(b, int64(from)); n != len(b) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(b), err)
			}
		}
		if i%20 == 0 {
			compare(t, o, base, model)
		}
	}
	compare(t, o, base, model)
	if err := o.Clear(0, size); err != nil {
		t.Fatal(err)
	}
	clear(model)
	compare(t, o, base, model)
	if o.Used() != 0 {
		t.Errorf("%d bytes are in use when all is cleared", o.Used())
	}
}

// compare checks what the overlay holds, and what it says of changes and data,
// against a model.
func compare(t *testing.T, o *Overlay, base *sparse, model []byte) {
	t.Helper()
	got := make([]byte, len(model))
	if n, err := o.ReadAt(got, 0); n != len(got) || err != nil {
		t.Fatalf("read %d of %d bytes: %v", n, len(got), err)
	}
	if !bytes.Equal(got, model) {
		t.Fatal("the overlay differs from the model")
	}
	if n, err := o.ReadAt(got[:10], o.Size()-4); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("across the end: %d bytes, %v", n, err)
	}
	copy(got, base.data)
	for start, end := range runs(t, o.NextChange) {
		if end-start <= 0 || start%BlockSize != 0 || end%BlockSize != 0 && end != o.Size() {
			t.Fatalf("a change from %d to %d", start, end)
		}
		copy(got[start:end], model[start:end])
	}
	if !bytes.Equal(got, model) {
		t.Error("the changes are not all that changed")
	}
	clear(got)
	for start, end := range runs(t, o.NextData) {
		copy(got[start:end], model[start:end])
	}
	if !bytes.Equal(got, model) {
		t.Error("there is data where there should be none")
	}
	known := 0
	for start, end := range runs(t, o.NextRun) {
		known += int(end - start)
		clear(got[start:end])
	}
	if !zero.IsZero(got) {
		t.Error("data is not known")
	}
	const cluster = 64 << 10
	copy(got, base.data)
	changes := o.Changes(cluster)
	for start, end := range runs(t, changes.NextRun) {
		if start%cluster != 0 || end%cluster != 0 && end != o.Size() {
			t.Fatalf("clusters from %d to %d", start, end)
		}
		if s, e, err := changes.NextRun(start + 100); s != start+100 || e != end || err != nil {
			t.Fatalf("from %d: %d to %d, %v", start+100, s, e, err)
		}
		copy(got[start:end], model[start:end])
	}
	if !bytes.Equal(got, model) {
		t.Error("the clusters of changes are not all that changed")
	}
}

// runs returns the runs of a list, which must ascend with gaps between them.
func runs(t *testing.T, next func(int64) (int64, int64, error)) func(func(int64, int64) bool) {
	return func(yield func(int64, int64) bool) {
		t.Helper()
		for off, first := int64(0), true; ; first = false {
			start, end, err := next(off)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil || start >= end || start < off || !first && start == off {
				t.Fatalf("the run at or after %d is %d to %d, %v", off, start, end, err)
			}
			if !yield(start, end) {
				return
			}
			off = end
		}
	}
}

// TestLimit writes till the overlay is full, and makes room.
func TestLimit(t *testing.T) {
	base := &sparse{data: make([]byte, 4*chunkSize)}
	o := New(base, Options{Limit: 2*tableCost + 10*BlockSize, Spool: spool.Options{Dir: t.TempDir()}})
	defer o.Close()
	b := bytes.Repeat([]byte{1}, 20*BlockSize)
	if n, err := o.WriteAt(b, 0); n != 10*BlockSize+tableCost || !errors.Is(err, ErrFull) {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	if _, err := o.WriteAt(b[:1], chunkSize); !errors.Is(err, ErrFull) {
		t.Errorf("in another chunk: %v", err)
	}
	if n, err := o.WriteAt(b[:BlockSize], 0); n != BlockSize || err != nil {
		t.Errorf("over what is there: %d, %v", n, err)
	}
	if err := o.Clear(BlockSize, 30*BlockSize); err != nil {
		t.Errorf("clearing: %v", err)
	}
	if n, err := o.WriteAt(b[:BlockSize], 3*chunkSize); n != BlockSize || err != nil {
		t.Errorf("after clearing: %d, %v", n, err)
	}
	if o.Used() > o.Limit() {
		t.Errorf("%d of %d bytes used", o.Used(), o.Limit())
	}
	got := make([]byte, 20*BlockSize)
	if _, err := o.ReadAt(got, 0); err != nil || !zero.IsZero(got[BlockSize:]) || got[0] != 1 {
		t.Error("the bytes are wrong")
	}
}

// A full is a base of any size that is known as a whole.
type full int64

func (f full) Size() int64 { return int64(f) }

func (f full) ReadAt(b []byte, _ int64) (int, error) {
	for i := range b {
		b[i] = 7
	}
	return len(b), nil
}

func (f full) NextRun(off int64) (start, end int64, err error) {
	if off >= int64(f) {
		return 0, 0, io.EOF
	}
	return off, int64(f), nil
}

// TestDiscardAll discards a disk of 60 TiB, twice, and writes to it again: that
// costs neither time nor room.
func TestDiscardAll(t *testing.T) {
	const size = 60<<40 + 512
	for _, base := range []image.Image{full(size), hole(size)} {
		o := New(base, Options{Limit: 1 << 20, Spool: spool.Options{Dir: t.TempDir()}})
		defer o.Close()
		for range 2 {
			if err := o.Clear(1, size-1); err != nil || o.Used() > tableCost+BlockSize {
				t.Fatalf("%v, %d bytes used", err, o.Used())
			}
			if _, err := o.WriteAt([]byte{1, 2, 3}, 40<<40); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, 5)
		if _, err := o.ReadAt(got, 40<<40-1); err != nil || !bytes.Equal(got, []byte{0, 1, 2, 3, 0}) {
			t.Errorf("%v, %v", got, err)
		}
		n := 0
		for range runs(t, o.NextChange) {
			n++
		}
		if n != 1 {
			t.Errorf("%d runs of changes", n)
		}
	}
}

// A hole is a base of any size that is zero.
type hole int64

func (h hole) Size() int64 { return int64(h) }

func (h hole) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

func (h hole) NextRun(int64) (start, end int64, err error) { return 0, 0, io.EOF }
