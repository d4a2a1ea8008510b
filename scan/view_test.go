package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/testfs"
)

var _ image.Image = (*View)(nil)

// viewOf returns the view of some blocks of a source.
func viewOf(r io.ReaderAt, size int64, blockSize uint32, runs [][2]uint64) *View {
	res := &Result{Map: new(Map), dev: &device{r: r, size: size}}
	for _, run := range runs {
		res.Map.add(InodeTable, run[0], run[1]-run[0])
	}
	res.freeze(blockSize)
	return res.view
}

// naive is the view of runs as the obvious loop makes it.
func naive(data []byte, blockSize int, runs [][2]uint64) []byte {
	want := make([]byte, len(data)&^(sector-1))
	for _, r := range runs {
		if from, to := int(r[0])*blockSize, min(int(r[1])*blockSize, len(want)); from < to {
			copy(want[from:to], data[from:])
		}
	}
	return want
}

func TestViewReadAt(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	dirt := noise(1<<20, 99)
	for _, bs := range []int{1024, 4096, 65536} {
		for n := range 30 {
			blocks := 1 + r.IntN(4+150<<10/bs)
			size := blocks*bs - r.IntN(bs)
			data := noise(size, uint64(n))
			var runs [][2]uint64
			for at := uint64(r.IntN(3)); at < uint64(blocks); {
				end := at + 1 + r.Uint64N(4)
				runs = append(runs, [2]uint64{at, end})
				at = end + 1 + r.Uint64N(1+r.Uint64N(40))
			}
			v := viewOf(bytes.NewReader(data), int64(size), uint32(bs), runs)
			want := naive(data, bs, runs)
			if v.Size() != int64(len(want)) {
				t.Fatalf("the view of %d bytes has %d, want %d", size, v.Size(), len(want))
			}
			for range 60 {
				off := r.IntN(len(want) + 1)
				p := slices.Clone(dirt[:r.IntN(1+len(want))])
				switch r.IntN(3) {
				case 0:
					off &^= bs - 1
				case 1:
					off &^= sector - 1
					p = p[:len(p)&^(sector-1)]
				}
				checkReadAt(t, v, want, p, int64(off))
			}
			checkNextRun(t, v, bs, runs)
		}
	}
}

// checkReadAt compares one read with a model of all bytes.
func checkReadAt(t *testing.T, v *View, want, p []byte, off int64) {
	t.Helper()
	n, err := v.ReadAt(p, off)
	wantN := min(len(p), max(len(want)-int(off), 0))
	if n != wantN || (n < len(p)) != errors.Is(err, io.EOF) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt of %d bytes at %d of %d = %d, %v", len(p), off, len(want), n, err)
	}
	if !bytes.Equal(p[:n], want[off:off+int64(n)]) {
		t.Fatalf("ReadAt of %d bytes at %d of %d: wrong bytes", len(p), off, len(want))
	}
}

// checkNextRun walks the runs, and asks for them from within and between.
func checkNextRun(t *testing.T, v *View, bs int, runs [][2]uint64) {
	t.Helper()
	at := int64(0)
	for _, r := range runs {
		start, end := int64(r[0])*int64(bs), min(int64(r[1])*int64(bs), v.Size())
		if start >= v.Size() {
			break
		}
		for _, off := range []int64{at, start, (start + end) / 2, end - 1} {
			gotStart, gotEnd, err := v.NextRun(off)
			if err != nil || gotStart != max(off, start) || gotEnd != end {
				t.Fatalf("NextRun(%d) = %d, %d, %v, want %d, %d", off, gotStart, gotEnd, err, max(off, start), end)
			}
		}
		at = end
	}
	for _, off := range []int64{at, v.Size(), v.Size() + 1, 1<<63 - 1} {
		if _, _, err := v.NextRun(off); !errors.Is(err, io.EOF) {
			t.Fatalf("NextRun(%d), behind all runs: %v", off, err)
		}
	}
}

func TestViewEnds(t *testing.T) {
	data := noise(8192, 1)
	v := viewOf(bytes.NewReader(data), 8192, 4096, [][2]uint64{{0, 2}})
	for _, off := range []int64{-1, -1 << 62, 8192, 8193, 1<<63 - 1} {
		if n, err := v.ReadAt(make([]byte, 10), off); n != 0 || err == nil {
			t.Errorf("ReadAt(%d) = %d, %v", off, n, err)
		}
	}
	if n, err := v.ReadAt(nil, 5); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing = %d, %v", n, err)
	}
	if v := viewOf(bytes.NewReader(data[:511]), 511, 1024, [][2]uint64{{0, 1}}); v.Size() != 0 {
		t.Errorf("the view of 511 bytes has %d", v.Size())
	} else if _, _, err := v.NextRun(0); !errors.Is(err, io.EOF) {
		t.Errorf("NextRun of nothing: %v", err)
	}
}

// A bad sector costs a view that sector where a run holds it, and nothing
// where it lies in a gap that is read through.
func TestViewBadSectors(t *testing.T) {
	const bs, blocks = 1024, 64
	data := noise(blocks*bs, 1)
	runs := [][2]uint64{{1, 3}, {5, 6}, {8, 9}, {10, 20}, {60, 64}}
	want := naive(data, bs, runs)
	for s := int64(0); s < blocks*bs; s += sector {
		d := &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{s}}
		v := viewOf(d, blocks*bs, bs, runs)
		got := make([]byte, blocks*bs)
		if _, err := v.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, without(want, 0, d.bad)) {
			t.Fatalf("bad sector at %d: wrong bytes", s)
		}
		inside := slices.ContainsFunc(runs, func(r [2]uint64) bool { return uint64(s/bs) >= r[0] && uint64(s/bs) < r[1] })
		lost := v.dev.unreadable()
		if inside && !slices.Equal(lost, []Range{{s, s + sector}}) || !inside && len(lost) != 0 {
			t.Fatalf("bad sector at %d, in a run: %v; listed %v", s, inside, lost)
		}
	}
}

// Runs that short gaps keep apart are one read; long gaps are not read.
func TestViewBridgesGaps(t *testing.T) {
	const bs = 4096
	var runs [][2]uint64
	for i := range uint64(32) {
		runs = append(runs, [2]uint64{i * 4, i*4 + 1})
	}
	runs = append(runs, [2]uint64{10000, 10001})
	d := &countingDisk{ReaderAt: newDisk(10001 * bs)}
	v := viewOf(d, 10001*bs, bs, runs)
	if _, err := v.ReadAt(make([]byte, 10001*bs), 0); err != nil {
		t.Fatal(err)
	}
	if n := d.reads.Load(); n != 2 {
		t.Errorf("%d reads, want 2", n)
	}
	if n := d.bytes.Load(); n != (31*4+1)*bs+bs {
		t.Errorf("%d bytes read, want %d", n, (31*4+2)*bs)
	}
}

func TestViewConcurrent(t *testing.T) {
	const bs, blocks = 1024, 2000
	data := noise(blocks*bs, 1)
	var runs [][2]uint64
	for at := uint64(0); at < blocks; at += 7 {
		runs = append(runs, [2]uint64{at, min(at+2, blocks)})
	}
	bad := []int64{7 * bs, 700 * bs, 703 * bs, 1400*bs + sector}
	v := viewOf(&badDisk{ReaderAt: bytes.NewReader(data), bad: bad}, blocks*bs, bs, runs)
	want := without(naive(data, bs, runs), 0, bad)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for w := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, w))
			for range 200 {
				off := r.Int64N(int64(len(want)))
				p := make([]byte, r.Int64N(int64(len(want))-off)%(64<<10))
				if _, err := v.ReadAt(p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
					errs <- fmt.Errorf("%d bytes at %d: %w", len(p), off, err)
					return
				}
				if start, _, err := v.NextRun(off); err == nil && start < off {
					errs <- fmt.Errorf("NextRun(%d) = %d", off, start)
					return
				}
				v.dev.unreadable()
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if want := []Range{{7 * bs, 7*bs + sector}, {700 * bs, 700*bs + sector}, {1400*bs + sector, 1400*bs + 2*sector}}; !slices.Equal(v.dev.unreadable(), want) {
		t.Errorf("%v listed, want %v", v.dev.unreadable(), want)
	}
}

func BenchmarkViewReadAt(b *testing.B) {
	const bs = 4096
	var runs [][2]uint64
	for i := range uint64(1 << 16) {
		runs = append(runs, [2]uint64{i * 4, i*4 + 1 + i%3})
	}
	size := int64(1<<18) * bs
	v := viewOf(newDisk(size), size, bs, runs)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for off := int64(0); b.Loop(); off = (off + int64(len(buf))) % size {
		if _, err := v.ReadAt(buf, off); err != nil {
			b.Fatal(err)
		}
	}
}

// A useRecorder is a reader that knows what each of its blocks was read for.
type useRecorder struct {
	io.ReaderAt
	blockSize int64

	mu   sync.Mutex
	read [3]map[int64]int // by use: how often a block was read
}

func newUseRecorder(r io.ReaderAt, blockSize int64) *useRecorder {
	u := &useRecorder{ReaderAt: r, blockSize: blockSize}
	for i := range u.read {
		u.read[i] = make(map[int64]int)
	}
	return u
}

func (u *useRecorder) ReadFor(p []byte, off int64, use image.Use) (int, error) {
	u.mu.Lock()
	for b := off / u.blockSize; b*u.blockSize < off+int64(len(p)); b++ {
		u.read[use][b]++
	}
	u.mu.Unlock()
	return u.ReadAt(p, off)
}

// What the scan has not read the view asks for once, past any cache; what it
// has read, but for short pieces beside that, it asks for as the last time.
func TestUses(t *testing.T) {
	data := makeImage(t, testfs.Spec{Size: 64 << 20, Mke2fs: "-b 4096 -t ext4 -O ^metadata_csum,^uninit_bg -J size=8 -N 16384"}, tree(t, []byte("file data ")))
	u := newUseRecorder(bytes.NewReader(data), 4096)
	res, err := Scan(t.Context(), u, int64(len(data)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(u.read[image.Once]) + len(u.read[image.Last]); n > 0 {
		t.Errorf("the scan reads %d blocks as if it were the view", n)
	}
	err = ordered.Run(t.Context(), res.View(), ordered.Options{Granule: 4096}, func() ordered.Worker { return new(idle) })
	if err != nil {
		t.Fatal(err)
	}
	again := 0
	for start, end := range res.Map.all().runs() {
		for b := int64(start); b < int64(end); b++ {
			once, last, scanned := u.read[image.Once][b], u.read[image.Last][b], u.read[image.Again][b]
			if once+last != 1 {
				t.Fatalf("block %d: %d reads for the view", b, once+last)
			}
			if last > 0 && scanned == 0 {
				t.Errorf("block %d is read for the last time, but was not before", b)
			}
			if once > 0 && scanned > 0 {
				again++
			}
		}
	}
	if most := len(u.read[image.Last]) / 4; len(u.read[image.Once]) == 0 || again > most {
		t.Errorf("%d blocks are read once, %d of them had been read; %d are read the last time", len(u.read[image.Once]), again, len(u.read[image.Last]))
	}
}

// idle is a worker that does nothing.
type idle struct{}

func (idle) Prepare(*ordered.Chunk) error { return nil }
func (idle) Commit(*ordered.Chunk) error  { return nil }
func (idle) Finish(*ordered.Chunk) error  { return nil }
