package qcow2

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"e2qcow/image"
	"e2qcow/internal/zero"
)

var testInfo = Info{Tool: "test 1", Mode: "metadata", BlockSize: 4096, Unreadable: 3, Time: time.Unix(1e9, 0).UTC()}

// writeCases are the kinds of image that are written.
func writeCases() []WriteOptions {
	var cases []WriteOptions
	for bits := 9; bits <= 21; bits++ {
		cases = append(cases,
			WriteOptions{Version: 2, ClusterSize: 1 << bits},
			WriteOptions{Version: 3, ClusterSize: 1 << bits},
			WriteOptions{Version: 2, ClusterSize: 1 << bits, Compression: Zlib},
			WriteOptions{Version: 3, ClusterSize: 1 << bits, Compression: Zlib},
			WriteOptions{Version: 3, ClusterSize: 1 << bits, Compression: Zstd})
	}
	for _, level := range []int{1, 6, 19} {
		cases = append(cases, WriteOptions{Compression: Zstd, Level: level})
	}
	return append(cases, WriteOptions{}, WriteOptions{Compression: Zlib})
}

// TestWrite writes images of all kinds and has qemu-img, e2image and the
// reader say what is in them.
func TestWrite(t *testing.T) {
	for i, opt := range thinned(writeCases(), 4) {
		t.Run(name(opt.Version, opt.ClusterSize, opt.Compression, opt.Level), func(t *testing.T) {
			d := randomDisk(uint64(i), 4<<20+512*int64(2*i+1), 1024, 15)
			opt.Info = func() Info { return testInfo }
			file, stats := writeTemp(t, d, opt)
			tool(t, 0, "qemu-img", "check", "-f", "qcow2", file)
			raw := convert(t, file)
			if got := fileSize(t, raw); got != d.size {
				t.Errorf("qemu-img sees %d bytes, want %d", got, d.size)
			}
			sameBytes(t, raw, d, d.size)
			m := openTemp(t, file, OpenOptions{Unverified: true})
			sameBytes(t, m, d, d.size)
			if got, ok := m.Header().Info(); !ok || got != withFormat(testInfo) {
				t.Errorf("info is %+v, want %+v", got, testInfo)
			}
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(whole)) != stats.FileSize {
				t.Errorf("file has %d bytes, stats say %d", len(whole), stats.FileSize)
			}
			if packed := stats.PackedBytes > 0; packed != (opt.Compression != Uncompressed) {
				t.Errorf("%d bytes were compressed", stats.PackedBytes)
			}
			checkStreams(t, whole, d, opt)
			// It skips L2 tables that lie further back than the disk is long.
			tables := 4 * stats.ClusterSize
			if opt.Version == 2 && opt.Compression == Uncompressed && tables < d.size {
				e2imageReads(t, file, d)
			}
		})
	}
}

func withFormat(i Info) Info {
	i.Format = 1
	return i
}

// checkStreams has the image written again, by other numbers of threads and to
// streams, with the spool in memory, in a file and in both.
func checkStreams(t *testing.T, want []byte, src image.Image, opt WriteOptions) {
	t.Helper()
	for i, memory := range []int64{0, -1, 2 << 20} {
		opt.Threads = 1 + 2*i
		opt.Spool = SpoolOptions{Memory: memory, Dir: t.TempDir()}
		var b bytes.Buffer
		if _, err := WriteStream(context.Background(), &b, src, opt); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("stream with %d threads and %d bytes of spool memory differs from the file", opt.Threads, memory)
		}
		if left, err := os.ReadDir(opt.Spool.Dir); err != nil || len(left) > 0 {
			t.Errorf("the spool left %v behind (%v)", left, err)
		}
	}
}

// e2imageReads has e2image restore the image. It zeroes the last byte.
func e2imageReads(t *testing.T, file string, d *disk) {
	t.Helper()
	raw := file + ".e2image"
	tool(t, 0, "e2image", "-r", file, raw)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sameBytes(t, f, d, d.size-1)
}

// TestWriteDense writes over a target full of other bytes.
func TestWriteDense(t *testing.T) {
	for _, compression := range []Compression{Uncompressed, Zlib} {
		d := randomDisk(7, 30<<20, 4096, 20)
		opt := WriteOptions{ClusterSize: 4096, Compression: compression}
		file, stats := writeTemp(t, d, opt)
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(t.TempDir() + "/target")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(bytes.Repeat([]byte{0xee}, int(stats.FileSize)+12345)); err != nil {
			t.Fatal(err)
		}
		opt.Dense = true
		if _, err := WriteFile(context.Background(), f, d, opt); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: the image written over other bytes differs", compression)
		}
	}
}

// TestWriteEdges writes disks that are empty, tiny or unknown throughout.
func TestWriteEdges(t *testing.T) {
	for _, d := range []*disk{
		{size: 0},
		{size: 512},
		{size: 512, runs: []diskRun{{0, bytes.Repeat([]byte{1}, 512)}}},
		{size: 1 << 20},
		{size: 1 << 20, runs: []diskRun{{0, make([]byte, 1<<20)}}},
		{size: 1<<20 + 512, runs: []diskRun{{1 << 20, bytes.Repeat([]byte{1}, 512)}}},
	} {
		for _, version := range []int{2, 3} {
			file, _ := writeTemp(t, d, WriteOptions{Version: version})
			tool(t, 0, "qemu-img", "check", "-f", "qcow2", file)
			sameBytes(t, convert(t, file), d, d.size)
			m := openTemp(t, file, OpenOptions{Unverified: true})
			sameBytes(t, m, d, d.size)
			if n, err := m.ReadAt(make([]byte, 1), d.size); n != 0 || err != io.EOF {
				t.Errorf("read at the end of %d bytes: %d, %v", d.size, n, err)
			}
		}
	}
}

// TestWriteHuge writes nearly empty disks of sizes that e2image cannot.
func TestWriteHuge(t *testing.T) {
	for _, c := range []struct {
		size  int64
		block int
	}{
		{8<<40 + 1<<30, 4096},
		{20 << 40, 4096},
		{60 << 40, 4096},
		{600 << 30, 1024},
	} {
		t.Run(name(c.size, c.block), func(t *testing.T) {
			d := &disk{size: c.size}
			for off := int64(0); off < c.size; off += c.size / 1000 / 65536 * 65536 {
				d.runs = append(d.runs, diskRun{off, bytes.Repeat([]byte{byte(off >> 16), 1}, c.block)})
			}
			file, stats := writeTemp(t, d, WriteOptions{BlockSize: c.block})
			tool(t, 0, "qemu-img", "check", "-f", "qcow2", file)
			m := openTemp(t, file, OpenOptions{Unverified: true})
			sameRuns(t, m, d, stats.ClusterSize)
		})
	}
}

// sameRuns compares the runs of an image, widened to clusters, and their bytes.
func sameRuns(t *testing.T, m, want image.Image, cluster int64) {
	t.Helper()
	off := int64(0)
	for {
		start, end, err := want.NextRun(off)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		gotStart, gotEnd, err := m.NextRun(off)
		if err != nil {
			t.Fatal(err)
		}
		start, end = start&^(cluster-1), min(want.Size(), (end+cluster-1)&^(cluster-1))
		if gotStart != start || gotEnd != end {
			t.Fatalf("run after %d is [%d, %d), want [%d, %d)", off, gotStart, gotEnd, start, end)
		}
		got, b := make([]byte, end-start), make([]byte, end-start)
		if _, err := m.ReadAt(got, start); err != nil {
			t.Fatal(err)
		}
		if _, err := want.ReadAt(b, start); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, b) {
			t.Fatalf("run at %d differs", start)
		}
		off = end
	}
	if start, end, err := m.NextRun(off); err != io.EOF {
		t.Errorf("run [%d, %d) (%v) behind the last", start, end, err)
	}
}

// A zeroFinder is a file that is told of pages of zeros written to it.
type zeroFinder struct {
	*os.File
	pages atomic.Int64 // of zeros
}

func (f *zeroFinder) WriteAt(b []byte, off int64) (int, error) {
	for at := int64(0); at+tablePage <= int64(len(b)); at += tablePage {
		if zero.IsZero(b[at : at+tablePage]) {
			f.pages.Add(1)
		}
	}
	return f.File.WriteAt(b, off)
}

// In a file that is empty at first, pages of zeros stay holes: in tables, and
// in clusters that hold something else too.
func TestWriteLeavesHoles(t *testing.T) {
	d := &disk{size: 1 << 40}
	for i := range int64(50) {
		d.runs = append(d.runs, diskRun{i*16<<30 + i%16*tablePage, []byte("something")})
	}
	for _, dense := range []bool{false, true} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		finder := &zeroFinder{File: f}
		if _, err := WriteFile(t.Context(), finder, d, WriteOptions{ClusterSize: 64 << 10, Dense: dense}); err != nil {
			t.Fatal(err)
		}
		if n := finder.pages.Load(); (n > 0) != dense {
			t.Errorf("dense %v: %d pages of zeros were written", dense, n)
		}
		m := openTemp(t, f.Name(), OpenOptions{Unverified: true})
		for _, r := range d.runs {
			start := r.off &^ (64<<10 - 1)
			sameBytes(t, io.NewSectionReader(m, start, 128<<10), io.NewSectionReader(d, start, 128<<10), 128<<10)
		}
		f.Close()
	}
}
