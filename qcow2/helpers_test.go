package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"testing"

	"e2qcow/image"
)

// A disk is an image in memory: a few known runs, the rest zero.
type disk struct {
	size int64
	runs []diskRun
}

type diskRun struct {
	off  int64
	data []byte
}

func (d *disk) Size() int64 { return d.size }

func (d *disk) NextRun(off int64) (start, end int64, err error) {
	i := sort.Search(len(d.runs), func(i int) bool { return d.runs[i].off+int64(len(d.runs[i].data)) > off })
	if i == len(d.runs) {
		return 0, 0, io.EOF
	}
	r := d.runs[i]
	return max(off, r.off), r.off + int64(len(r.data)), nil
}

func (d *disk) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), d.size-off)))
	clear(b[:n])
	i := sort.Search(len(d.runs), func(i int) bool { return d.runs[i].off+int64(len(d.runs[i].data)) > off })
	for ; i < len(d.runs) && d.runs[i].off < off+int64(n); i++ {
		r := d.runs[i]
		if r.off >= off {
			copy(b[r.off-off:n], r.data)
		} else {
			copy(b[:n], r.data[off-r.off:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// randomDisk returns a disk with runs of blocks: of noise, text, or zero.
func randomDisk(seed uint64, size int64, block, runs int) *disk {
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := &disk{size: size}
	blocks := size / int64(block)
	starts := make([]int64, runs)
	for i := range starts {
		starts[i] = rnd.Int64N(max(1, blocks))
	}
	sort.Slice(starts, func(i, j int) bool { return starts[i] < starts[j] })
	end := int64(0)
	for i, s := range starts {
		s = max(s, end)
		n := 1 + rnd.Int64N(40)
		if i%7 == 0 {
			n += 300
		}
		n = min(n, blocks-s)
		if n <= 0 {
			break
		}
		data := make([]byte, n*int64(block))
		for b := int64(0); b < n; b++ {
			fill(rnd, data[b*int64(block):][:block])
		}
		d.runs = append(d.runs, diskRun{s * int64(block), data})
		end = s + n + rnd.Int64N(3)
	}
	return d
}

// fill fills b with one of the kinds of contents that metadata has.
func fill(rnd *rand.Rand, b []byte) {
	switch rnd.IntN(5) {
	case 0, 1: // noise
		for i := 0; i+8 <= len(b); i += 8 {
			v := rnd.Uint64()
			for j := range 8 {
				b[i+j] = byte(v >> (8 * j))
			}
		}
	case 2: // compresses well
		for i := range b {
			b[i] = byte(i / 64)
		}
	case 3: // nearly empty
		b[rnd.IntN(len(b))] = 1
	case 4: // zero
	}
}

// thinned returns every nth of list with -short, else all: what judges with the
// tools is judged in full once.
func thinned[T any](list []T, n int) []T {
	if !testing.Short() {
		return list
	}
	var few []T
	for i := 0; i < len(list); i += n {
		few = append(few, list[i])
	}
	return few
}

// tool runs a program and returns what it says; the status must be want.
func tool(t testing.TB, want int, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%s %q: exit %d, want %d\n%s", name, args, got, want, out)
	}
	return string(out)
}

// writeTemp writes an image of src to a new file and returns its name.
func writeTemp(t testing.TB, src image.Image, opt WriteOptions) (string, Stats) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stats, err := WriteFile(context.Background(), f, src, opt)
	if err != nil {
		t.Fatal(err)
	}
	return f.Name(), stats
}

// openTemp opens the image in a file.
func openTemp(t testing.TB, name string, opt OpenOptions) *Image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(context.Background(), f, info.Size(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameBytes compares the first n bytes of two readers.
func sameBytes(t testing.TB, got, want io.ReaderAt, n int64) {
	t.Helper()
	const step = 1 << 20
	a, b := make([]byte, step), make([]byte, step)
	for off := int64(0); off < n; off += step {
		k := int(min(step, n-off))
		for _, r := range []struct {
			io.ReaderAt
			b []byte
		}{{got, a[:k]}, {want, b[:k]}} {
			if m, err := r.ReadAt(r.b, off); m < k {
				t.Fatalf("read %d bytes at %d: %d, %v", k, off, m, err)
			}
		}
		if !bytes.Equal(a[:k], b[:k]) {
			i := 0
			for a[i] == b[i] {
				i++
			}
			t.Fatalf("byte %d differs: got %#x, want %#x", off+int64(i), a[i], b[i])
		}
	}
}

// convert has qemu-img write the raw contents of an image; the caller compares.
func convert(t testing.TB, name string) *os.File {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	tool(t, 0, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", name, raw)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func fileSize(t testing.TB, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func name(parts ...any) string {
	var b bytes.Buffer
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('/')
		}
		fmt.Fprint(&b, p)
	}
	return b.String()
}

// noBacking opens every backing file as an empty disk.
func noBacking(name, format string) (image.Image, error) { return &disk{}, nil }
