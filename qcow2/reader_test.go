package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"e2qcow/image"
)

// rawDisk is a file as an image that is known throughout.
type rawDisk struct {
	io.ReaderAt
	size int64
}

func (r rawDisk) Size() int64 { return r.size }

func (r rawDisk) NextRun(off int64) (int64, int64, error) {
	if off >= r.size {
		return 0, 0, io.EOF
	}
	return off, r.size, nil
}

// openRaw opens a file as a rawDisk.
func openRaw(t testing.TB, file string) rawDisk {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return rawDisk{f, fileSize(t, f)}
}

// writeRaw writes a disk to a new raw file.
func writeRaw(t testing.TB, d *disk) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, r := range d.runs {
		if _, err := f.WriteAt(r.data, r.off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(d.size); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// qemuOptions are the options that qemu-img knows, in the combinations that it
// takes.
func qemuOptions() []string {
	var list []string
	for _, o := range []string{
		"compat=0.10", "compat=1.1", "compat=1.1,lazy_refcounts=on",
		"compat=1.1,compression_type=zstd",
	} {
		for _, size := range []int{512, 4096, 65536, 2 << 20} {
			list = append(list, fmt.Sprintf("%s,cluster_size=%d", o, size))
		}
	}
	for _, bits := range []int{1, 2, 4, 8, 32, 64} {
		list = append(list, fmt.Sprintf("compat=1.1,refcount_bits=%d", bits))
	}
	for _, p := range []string{"metadata", "falloc", "full"} {
		list = append(list, "preallocation="+p, "cluster_size=4096,preallocation="+p)
	}
	for _, size := range []int{16 << 10, 64 << 10, 2 << 20} {
		list = append(list,
			fmt.Sprintf("extended_l2=on,cluster_size=%d", size),
			fmt.Sprintf("extended_l2=on,compression_type=zstd,cluster_size=%d", size))
	}
	return append(list, "extended_l2=on,preallocation=metadata,cluster_size=65536")
}

// TestReadQemu reads what qemu-img writes with each of its options.
func TestReadQemu(t *testing.T) {
	d := randomDisk(3, 7<<20+512*3, 512, 40)
	raw := writeRaw(t, d)
	for _, options := range thinned(qemuOptions(), 5) {
		for _, compressed := range []bool{false, true} {
			if compressed && strings.Contains(options, "preallocation") {
				continue
			}
			t.Run(name(options, compressed), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "qemu.qcow2")
				args := []string{"convert", "-f", "raw", "-O", "qcow2", "-o", options}
				if compressed {
					args = append(args, "-c")
				}
				tool(t, 0, "qemu-img", append(args, raw, file)...)
				if !compressed {
					// Parts of clusters, zeros and holes among the data.
					tool(t, 0, "qemu-io", "-f", "qcow2",
						"-c", "write -P 7 1536 512", "-c", "write -z 4m 96k", "-c", "discard 5m 1m",
						"-c", "write -P 9 6000k 3k", file)
				}
				readLikeQemu(t, file)
			})
		}
	}
}

// readLikeQemu compares what the reader and qemu-img read.
func readLikeQemu(t *testing.T, file string) {
	t.Helper()
	want := convert(t, file)
	m := openTemp(t, file, OpenOptions{Unverified: true})
	if m.Size() != fileSize(t, want) {
		t.Errorf("size is %d, want %d", m.Size(), fileSize(t, want))
	}
	sameBytes(t, m, want, m.Size())
	// In odd pieces, and at the end.
	for off, n := int64(1), int64(1); off < m.Size(); off, n = off+n*3, n*3 {
		got, b := make([]byte, n), make([]byte, n)
		k1, err1 := m.ReadAt(got, off)
		k2, err2 := want.ReadAt(b, off)
		if k1 != k2 || err1 != err2 || !bytes.Equal(got, b) {
			t.Fatalf("read of %d bytes at %d: %d, %v, want %d, %v", n, off, k1, err1, k2, err2)
		}
	}
	// What lies outside the runs is zero.
	off := int64(0)
	for off < m.Size() {
		start, end, err := m.NextRun(off)
		if err == io.EOF {
			start, end = m.Size(), m.Size()
		} else if err != nil {
			t.Fatal(err)
		}
		if start < off || end < start {
			t.Fatalf("run [%d, %d) after %d", start, end, off)
		}
		sameBytes(t, io.NewSectionReader(want, off, start-off), zeros{}, start-off)
		off = end
	}
}

// zeros reads as zeros for ever.
type zeros struct{}

func (zeros) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	return len(b), nil
}

// TestReadBacking reads overlays, and refuses to without being told how.
func TestReadBacking(t *testing.T) {
	base := randomDisk(5, 3<<20, 4096, 20)
	raw := writeRaw(t, base)
	for _, options := range []string{"compat=0.10", "extended_l2=on"} {
		file := filepath.Join(t.TempDir(), "overlay.qcow2")
		tool(t, 0, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", raw, "-F", "raw", file, "5M")
		tool(t, 0, "qemu-io", "-f", "qcow2", "-c", "write -P 1 100k 10k", "-c", "write -P 2 4M 1k", file)

		f := openRaw(t, file)
		_, err := Open(context.Background(), f, f.size, OpenOptions{Unverified: true})
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), raw) {
			t.Errorf("open with a backing file: %v", err)
		}
		opened := ""
		m := openTemp(t, file, OpenOptions{Unverified: true, Backing: func(name, format string) (image.Image, error) {
			opened = name + " " + format
			return base, nil
		}})
		if opened != raw+" raw" {
			t.Errorf("backing file opened is %q", opened)
		}
		want := convert(t, file)
		sameBytes(t, m, want, m.Size())
		// Each byte of the base and of the overlay is in a run.
		covered := make([]bool, m.Size())
		for off := int64(0); ; {
			start, end, err := m.NextRun(off)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if start < off || start == off && off > 0 {
				t.Fatalf("run at %d touches the one before", start)
			}
			for i := start; i < end; i++ {
				covered[i] = true
			}
			off = end
		}
		b := make([]byte, m.Size())
		if _, err := want.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for i, v := range b {
			if v != 0 && !covered[i] {
				t.Fatalf("byte %d is not zero and not in a run", i)
			}
		}
	}
}

// TestReadRefused opens what must not be read, or cannot.
func TestReadRefused(t *testing.T) {
	good, _ := writeTemp(t, randomDisk(1, 1<<20, 4096, 3), WriteOptions{Version: 3, ClusterSize: 4096})
	for _, c := range []struct {
		off  int
		b    string
		want string
	}{
		{0, "QFI\xfa", ErrNotQcow2.Error()},
		{4, "\x00\x00\x00\x04", "unsupported qcow2 image: version 4"},
		{4, "\x00\x00\x00\x01", "unsupported qcow2 image: version 1"},
		{8, "\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x03", `unsupported qcow2 image: backing file "\x00\x00\x00"`},
		{20, "\x00\x00\x00\x08", "cluster bits 8"},
		{20, "\x00\x00\x00\x16", "cluster bits 22"},
		{24, "\x80", "virtual size"},
		{32, "\x00\x00\x00\x01", "unsupported qcow2 image: encrypted (AES)"},
		{32, "\x00\x00\x00\x02", "unsupported qcow2 image: encrypted (LUKS)"},
		{36, "\xff", "L1 table of 4278190081 entries is too large"},
		{36, "\x00\x00\x00\x00", "too small"},
		{40, "\x00\x01", "beyond the end of the file"},
		{47, "\x01", "not aligned"},
		{79, "\x04", "unsupported qcow2 image: external data file"},
		{79, "\x20", "unsupported qcow2 image: incompatible feature 5"},
		{79, "\x08", "contradicts"},
		{104, "\x01", "contradicts"},
		{96, "\x00\x00\x00\x07", "refcount order 7"},
		{100, "\x00\x00\x00\x60", "header length 96"},
	} {
		b, err := os.ReadFile(good)
		if err != nil {
			t.Fatal(err)
		}
		copy(b[c.off:], c.b)
		_, err = Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q at %d: error %v, want %q", c.b, c.off, err, c.want)
		}
	}
}

// TestReadTruncated cuts an image anywhere: what is gone is an error, never zeros.
func TestReadTruncated(t *testing.T) {
	for _, opt := range []WriteOptions{{ClusterSize: 4096}, {ClusterSize: 4096, Compression: Zlib}} {
		d := randomDisk(9, 2<<20, 4096, 9)
		file, _ := writeTemp(t, d, opt)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, d.size)
		want := make([]byte, d.size)
		if _, err := d.ReadAt(want, 0); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(whole); n += 1000 {
			m, err := Open(context.Background(), bytes.NewReader(whole[:n]), int64(n), OpenOptions{Unverified: true})
			if err != nil {
				continue
			}
			if _, err := m.ReadAt(buf, 0); err == nil && !bytes.Equal(buf, want) {
				t.Fatalf("cut after %d of %d bytes: read other bytes without an error", n, len(whole))
			}
		}
	}
}

// An L1 table that leads twice to one L2 table, or into itself, is refused
// with the place.
func TestReadSharedTable(t *testing.T) {
	file, _ := writeTemp(t, randomDisk(11, 8<<20, 4096, 40), WriteOptions{ClusterSize: 4096})
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l1 := binary.BigEndian.Uint64(data[40:])
	if binary.BigEndian.Uint64(data[l1:]) == 0 || binary.BigEndian.Uint64(data[l1+8:]) == 0 {
		t.Fatal("the image has not two L2 tables")
	}
	for what, entry := range map[string]uint64{"shared": binary.BigEndian.Uint64(data[l1:]), "itself": l1 | 1<<63} {
		bad := bytes.Clone(data)
		binary.BigEndian.PutUint64(bad[l1+8:], entry)
		_, err := Open(context.Background(), bytes.NewReader(bad), int64(len(bad)), OpenOptions{Unverified: true})
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Offset < int64(l1) {
			t.Errorf("%s: %v, want a *CorruptError with the place", what, err)
		}
	}
}

// TestReadAcross reads from a good L2 table into a damaged one: what comes
// before the damage is read, and known.
func TestReadAcross(t *testing.T) {
	d := &disk{size: 8 << 20, runs: []diskRun{{1 << 20, bytes.Repeat([]byte{7}, 2<<20)}}}
	file, _ := writeTemp(t, d, WriteOptions{ClusterSize: 4096})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h := openTemp(t, file, OpenOptions{Unverified: true}).Header()
	b[h.L1Offset+8+6] ^= 2 // no longer aligned
	m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
	if err != nil {
		t.Fatal(err)
	}
	const bad = 2 << 20
	got := make([]byte, 1<<20)
	n, err := m.ReadAt(got, bad-4096-100)
	var damage *CorruptError
	if !errors.As(err, &damage) || damage.Guest != bad || n != 4196 || !bytes.Equal(got[:n], d.runs[0].data[:n]) {
		t.Errorf("read %d bytes before the damage: %v", n, err)
	}
}

// A countedDisk counts how often it is asked for its runs.
type countedDisk struct {
	*disk
	asked int
}

func (d *countedDisk) NextRun(off int64) (int64, int64, error) {
	d.asked++
	return d.disk.NextRun(off)
}

// countRuns walks the runs of an image.
func countRuns(t *testing.T, m *Image) int {
	t.Helper()
	n := 0
	for off := int64(0); ; n++ {
		_, end, err := m.NextRun(off)
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		off = end
	}
}

// TestRunsOfOverlay has an image and its backing file cut the runs of each
// other in pieces: the time is that of walking both once.
func TestRunsOfOverlay(t *testing.T) {
	const clusters, size = 2000, 2000 * 512
	noise := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	comb := &disk{size: size}
	for i := range int64(clusters / 2) {
		comb.runs = append(comb.runs, diskRun{i * 1024, noise(512)})
	}
	file, _ := writeTemp(t, comb, WriteOptions{ClusterSize: 512})
	for _, c := range []struct {
		backing diskRun
		runs    int
	}{
		{diskRun{0, noise(size)}, 1},
		{diskRun{size - 512, noise(512)}, clusters / 2},
		{diskRun{size, nil}, clusters / 2},
	} {
		m := openTemp(t, file, OpenOptions{Unverified: true})
		backing := &countedDisk{disk: &disk{size: size, runs: []diskRun{c.backing}}}
		m.backing = backing
		if n := countRuns(t, m); n != c.runs || backing.asked > 3 {
			t.Errorf("a run of the backing file at %d: %d runs, want %d; it was asked %d times", c.backing.off, n, c.runs, backing.asked)
		}
	}

	const gap = 1 << 20
	empty := &disk{size: 20_000 * gap}
	sparse, _ := writeTemp(t, empty, WriteOptions{ClusterSize: 512})
	m := openTemp(t, sparse, OpenOptions{Unverified: true})
	backing := &disk{size: empty.size}
	for off := int64(0); off < empty.size; off += gap {
		backing.runs = append(backing.runs, diskRun{off, noise(512)})
	}
	m.backing = backing
	start := time.Now()
	if n := countRuns(t, m); n != len(backing.runs) {
		t.Errorf("%d runs, want %d", n, len(backing.runs))
	}
	// In the time of both images that is milliseconds, else minutes.
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("walking an empty image took %v", took)
	}
}

// TestReadOverlap points data at the header and at each kind of table.
func TestReadOverlap(t *testing.T) {
	for _, opt := range []WriteOptions{{ClusterSize: 4096}, {ClusterSize: 4096, Compression: Zlib}} {
		d := &disk{size: 8 << 20, runs: []diskRun{{0, bytes.Repeat([]byte{7}, 4096)}, {4 << 20, bytes.Repeat([]byte{9}, 4096)}}}
		file, _ := writeTemp(t, d, opt)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := openTemp(t, file, OpenOptions{Unverified: true})
		sameBytes(t, m, d, d.size)
		h := m.Header()
		l2 := m.l1[0] & entryOffset
		block := binary.BigEndian.Uint64(good[h.RefcountTableOffset:])
		for what, off := range map[string]uint64{
			"header": 512, "L1 table": h.L1Offset, "refcount table": h.RefcountTableOffset, "refcount block": block,
			"L2 table": l2, "last L2 table": m.l1[2] & entryOffset,
		} {
			b := bytes.Clone(good)
			entry := off | entryCopied
			if opt.Compression != Uncompressed {
				entry = off | entryCompressed
			} else if what == "header" {
				continue // 0 is nowhere
			}
			binary.BigEndian.PutUint64(b[l2:], entry)
			m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
			if err != nil {
				t.Fatal(err)
			}
			var damage *CorruptError
			for _, n := range []int{4096, 100} {
				_, err = m.ReadAt(make([]byte, n), 0)
				var overlap *overlapError
				if !errors.As(err, &overlap) || !errors.As(err, &damage) || damage.Offset != int64(off) || damage.Guest != 0 {
					t.Errorf("%v, data in the %s: %v", opt.Compression, what, err)
				}
			}
			if _, err := m.ReadAt(make([]byte, 4096), 4<<20); err != nil {
				t.Errorf("%v, beside data in the %s: %v", opt.Compression, what, err)
			}
		}
	}
}
