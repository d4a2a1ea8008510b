package raw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A memory is an image in memory: what lies outside its runs is zero.
type memory struct {
	data []byte
	runs [][2]int64
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) NextRun(off int64) (start, end int64, err error) {
	for _, r := range m.runs {
		if r[1] > off {
			return max(off, r[0]), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

// randomImage returns an image with runs of sectors, some of them zero.
func randomImage(seed uint64, size int64) *memory {
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := &memory{data: make([]byte, size)}
	for off := rnd.Int64N(1 << 18); off < size; {
		off -= off % sector
		end := min(off+sector+rnd.Int64N(1<<(6+rnd.IntN(15)))/sector*sector, size)
		m.runs = append(m.runs, [2]int64{off, end})
		if rnd.IntN(4) > 0 {
			// No byte is zero, and no two runs are alike.
			copy(m.data[off:end], bytes.Repeat(fmt.Appendf(nil, "%016x ", off), int(end-off)/17+1))
		}
		off = end + sector + rnd.Int64N(1<<(9+rnd.IntN(12)))
	}
	return m
}

// images are shapes that a sink may come across.
func images() map[string]*memory {
	list := map[string]*memory{
		"empty":      {},
		"no runs":    {data: make([]byte, 3*sector)},
		"one sector": {data: bytes.Repeat([]byte{7}, sector), runs: [][2]int64{{0, sector}}},
		"odd size":   {data: bytes.Repeat([]byte{7}, 5000), runs: [][2]int64{{0, 5000}}},
		"last byte":  {data: append(make([]byte, 1<<20), 1), runs: [][2]int64{{1 << 20, 1<<20 + 1}}},
	}
	for seed := range uint64(8) {
		list[fmt.Sprintf("random %d", seed)] = randomImage(seed, 6<<20+int64(seed)*sector)
	}
	return list
}

// A disk is a File and a Device in memory. Its first writes succeed.
type disk struct {
	mu   sync.Mutex
	data []byte
	left int // writes till they fail; negative: never
}

var errDisk = errors.New("disk is broken")

func (d *disk) count() error {
	if d.left == 0 {
		return errDisk
	}
	d.left--
	return nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.count(); err != nil {
		return 0, err
	}
	return copy(d.data[off:], p), nil
}

func (d *disk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = make([]byte, size)
	return d.count()
}

func (d *disk) ZeroOut(_ context.Context, off, n int64, progress func(n int64)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.data[off : off+n])
	progress(n)
	return d.count()
}

// counter checks that progress only grows, to the total.
func counter(t *testing.T) (count func(done, total int64), check func()) {
	var last, of int64
	return func(done, total int64) {
			if done < last || done > total {
				t.Errorf("progress of %d after %d of %d", done, last, total)
			}
			last, of = done, total
		}, func() {
			t.Helper()
			if last != of {
				t.Errorf("progress ended at %d of %d", last, of)
			}
		}
}

// A writeCounter counts the bytes that are written to a file. How many blocks
// the file then takes is the filesystem's affair.
type writeCounter struct {
	*os.File
	bytes atomic.Int64
}

func (w *writeCounter) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(p, off)
	w.bytes.Add(int64(n))
	return n, err
}

func TestWriteFile(t *testing.T) {
	for name, img := range images() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "raw")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			count, check := counter(t)
			written := &writeCounter{File: f}
			stats, err := WriteFile(t.Context(), written, img, Options{Threads: 3, Progress: count})
			if err != nil {
				t.Fatal(err)
			}
			check()
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, img.data) {
				t.Error("the file is not the image")
			}
			var pages int64
			for p := range slices.Chunk(img.data, Page) {
				if !bytes.Equal(p, make([]byte, len(p))) {
					pages += int64(len(p))
				}
			}
			if stats.Size != img.Size() || stats.Data != pages {
				t.Errorf("stats %+v, want %d bytes of which %d data", stats, img.Size(), pages)
			}
			if n := written.bytes.Load(); n != pages {
				t.Errorf("%d bytes were written for %d of data", n, pages)
			}
		})
	}
}

func TestWriteDevice(t *testing.T) {
	for name, img := range images() {
		t.Run(name, func(t *testing.T) {
			d := &disk{data: bytes.Repeat([]byte{0xff}, len(img.data)+sector), left: -1}
			count, check := counter(t)
			if _, err := WriteDevice(t.Context(), d, img, Options{Threads: 3, Progress: count}); err != nil {
				t.Fatal(err)
			}
			check()
			if !bytes.Equal(d.data[:len(img.data)], img.data) {
				t.Error("the device does not read as the image")
			}
			if !bytes.Equal(d.data[len(img.data):], bytes.Repeat([]byte{0xff}, sector)) {
				t.Error("written beyond the end of the image")
			}
		})
	}
}

func TestWriteAllocated(t *testing.T) {
	for name, img := range images() {
		t.Run(name, func(t *testing.T) {
			d := &disk{data: bytes.Repeat([]byte{0xff}, len(img.data)), left: -1}
			want := bytes.Clone(d.data)
			for _, r := range img.runs {
				copy(want[r[0]:r[1]], img.data[r[0]:r[1]])
			}
			count, check := counter(t)
			if _, err := WriteAllocated(t.Context(), d, img, Options{Threads: 3, Progress: count}); err != nil {
				t.Fatal(err)
			}
			check()
			if !bytes.Equal(d.data, want) {
				t.Error("not the runs, or more than the runs, were written")
			}
		})
	}
}

// A pipe is a Stream in memory that may be able to skip, and breaks.
type pipe struct {
	bytes.Buffer
	skips bool
	left  int // writes till it breaks; negative: never
	wrote int
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.left == 0 {
		return 0, unix.EPIPE
	}
	p.left--
	p.wrote += len(b)
	return p.Buffer.Write(b)
}

func (p *pipe) Skip(n int64) (bool, error) {
	if p.skips {
		p.Buffer.Write(make([]byte, n))
	}
	return p.skips, nil
}

func TestWriteStream(t *testing.T) {
	for name, img := range images() {
		for _, skips := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/skips %v", name, skips), func(t *testing.T) {
				p := &pipe{skips: skips, left: -1}
				count, check := counter(t)
				stats, err := WriteStream(t.Context(), p, img, Options{Threads: 3, Progress: count})
				if err != nil {
					t.Fatal(err)
				}
				check()
				if !bytes.Equal(p.Bytes(), img.data) {
					t.Error("the stream is not the image")
				}
				if skips && int64(p.wrote) != stats.Data {
					t.Errorf("wrote %d bytes where %d are data", p.wrote, stats.Data)
				}
			})
		}
	}
}

// TestFaults has each write fail in turn.
func TestFaults(t *testing.T) {
	img := randomImage(1, 2<<20)
	sinks := map[string]func(left int) error{
		"file": func(left int) error {
			_, err := WriteFile(t.Context(), &disk{left: left}, img, Options{Threads: 2})
			return err
		},
		"device": func(left int) error {
			_, err := WriteDevice(t.Context(), &disk{data: make([]byte, img.Size()), left: left}, img, Options{Threads: 2})
			return err
		},
		"allocated": func(left int) error {
			_, err := WriteAllocated(t.Context(), &disk{data: make([]byte, img.Size()), left: left}, img, Options{Threads: 2})
			return err
		},
		"stream": func(left int) error {
			_, err := WriteStream(t.Context(), &pipe{left: left}, img, Options{Threads: 2})
			return err
		},
	}
	for name, write := range sinks {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for left := 0; ; left++ {
				err := write(left)
				if err == nil {
					break
				}
				failed++
				if !errors.Is(err, errDisk) && !errors.Is(err, unix.EPIPE) {
					t.Fatalf("after %d writes: %v", left, err)
				}
			}
			if failed < 3 {
				t.Errorf("only %d writes to fail", failed)
			}
		})
	}
}

// TestCancel ends each sink when a good part is done.
func TestCancel(t *testing.T) {
	img := randomImage(2, 8<<20)
	why := errors.New("enough")
	for name, write := range map[string]func(context.Context, Options) error{
		"file": func(ctx context.Context, o Options) error {
			_, err := WriteFile(ctx, &disk{left: -1}, img, o)
			return err
		},
		"device": func(ctx context.Context, o Options) error {
			_, err := WriteDevice(ctx, &disk{data: make([]byte, img.Size()), left: -1}, img, o)
			return err
		},
		"stream": func(ctx context.Context, o Options) error {
			_, err := WriteStream(ctx, &pipe{left: -1}, img, o)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			err := write(ctx, Options{Threads: 1, Progress: func(done, total int64) {
				if done > total/3 {
					cancel(why)
				}
			}})
			if !errors.Is(err, why) {
				t.Errorf("got %v, want %v", err, why)
			}
		})
	}
}

func BenchmarkWriteFile(b *testing.B) {
	img := randomImage(3, 64<<20)
	f, err := os.CreateTemp("/dev/shm", "raw-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	b.SetBytes(img.Size())
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		if _, err := WriteFile(b.Context(), f, img, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteStream(b *testing.B) {
	img := randomImage(3, 64<<20)
	b.SetBytes(img.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WriteStream(b.Context(), discard{}, img, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Skip(int64) (bool, error)    { return false, nil }

// TestWriteInPlace writes the runs and nothing else, to the byte, and says how
// far it came when a write fails.
func TestWriteInPlace(t *testing.T) {
	for name, img := range images() {
		t.Run(name, func(t *testing.T) {
			odd := &memory{data: img.data} // runs that end within a sector
			total := int64(0)
			for _, r := range img.runs {
				if r[1]-r[0] > 20 {
					r = [2]int64{r[0] + 3, r[1] - 7}
				}
				odd.runs = append(odd.runs, r)
				total += r[1] - r[0]
			}
			old := bytes.Repeat([]byte("old"), len(img.data)/3+1)[:len(img.data)]
			want := func(off int64) []byte {
				b := bytes.Clone(old)
				for _, r := range odd.runs {
					if end := min(r[1], off); end > r[0] {
						copy(b[r[0]:end], img.data[r[0]:end])
					}
				}
				return b
			}
			d := &disk{data: bytes.Clone(old), left: -1}
			stats, err := WriteInPlace(context.Background(), d, odd, total, Options{})
			if err != nil || stats.Data != total || !bytes.Equal(d.data, want(odd.Size())) {
				t.Fatalf("wrote %d of %d bytes: %v", stats.Data, total, err)
			}
			for left := range min(len(odd.runs), 4) {
				d := &disk{data: bytes.Clone(old), left: left}
				_, err := WriteInPlace(context.Background(), d, odd, total, Options{})
				var part *PartialError
				if !errors.As(err, &part) || !errors.Is(err, errDisk) {
					t.Fatalf("%d writes: %v", left, err)
				}
				if !bytes.Equal(d.data, want(part.Off)) || part.Total != total {
					t.Fatalf("%d writes: not written up to %d as %v says", left, part.Off, err)
				}
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			d = &disk{data: bytes.Clone(old), left: -1}
			_, err = WriteInPlace(ctx, d, odd, total, Options{Progress: func(done, total int64) {
				if done > total/2 {
					cancel(errDisk)
				}
			}})
			var part *PartialError
			if err != nil && (!errors.As(err, &part) || !errors.Is(err, errDisk) || !bytes.Equal(d.data, want(part.Off))) {
				t.Errorf("cancelled in the middle: %v", err)
			}
			cancel(errDisk)
			d = &disk{data: bytes.Clone(old), left: -1}
			if _, err := WriteInPlace(ctx, d, odd, total, Options{}); err == nil || errors.As(err, new(*PartialError)) || !bytes.Equal(d.data, old) {
				t.Errorf("cancelled before the first write: %v", err)
			}
		})
	}
}
