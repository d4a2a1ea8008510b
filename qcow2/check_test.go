package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// class is the exit status of qemu-img check: 0 clean, 1 cannot be checked,
// 2 corruptions, 3 leaks.
func class(r *Report, err error) int {
	if err != nil {
		return 1
	}
	return r.Status()
}

func checkBytes(b []byte) (*Report, error) {
	return Check(context.Background(), bytes.NewReader(b), int64(len(b)), nil)
}

func checkFile(t testing.TB, file string) *Report {
	t.Helper()
	f := openRaw(t, file)
	r, err := Check(context.Background(), f, f.size, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// qemuCheck returns the status of qemu-img check and what it says.
func qemuCheck(t testing.TB, file string) (int, string) {
	t.Helper()
	cmd := exec.Command("qemu-img", "check", "-f", "qcow2", file)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestCheckClean checks images that qemu-img calls clean, of all kinds.
func TestCheckClean(t *testing.T) {
	for i, opt := range thinned(writeCases(), 7) {
		d := randomDisk(uint64(i), 3<<20, 512, 20)
		file, stats := writeTemp(t, d, opt)
		r := checkFile(t, file)
		if class(r, nil) != 0 {
			t.Errorf("%+v: %v", opt, r.Findings)
		}
		if r.FileClusters*stats.ClusterSize != stats.FileSize || r.CompressedClusters*stats.ClusterSize != stats.PackedBytes {
			t.Errorf("%+v: report %+v, stats %+v", opt, r, stats)
		}
	}
	raw := writeRaw(t, randomDisk(3, 3<<20, 512, 20))
	for _, options := range thinned(qemuOptions(), 5) {
		file := filepath.Join(t.TempDir(), "qemu.qcow2")
		tool(t, 0, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, file)
		if !strings.Contains(options, "refcount_bits=1") {
			tool(t, 0, "qemu-img", "snapshot", "-c", "one", file)
			tool(t, 0, "qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 100k", file)
			tool(t, 0, "qemu-img", "snapshot", "-c", "two", file)
		}
		if !strings.Contains(options, "compat=0.10") {
			tool(t, 0, "qemu-img", "bitmap", "--add", file, "dirty")
			tool(t, 0, "qemu-io", "-f", "qcow2", "-c", "write -P 4 2M 100k", file)
		}
		if status, out := qemuCheck(t, file); status != 0 {
			t.Fatalf("%s: %s", options, out)
		}
		if r := checkFile(t, file); class(r, nil) != 0 {
			t.Errorf("%s: %v", options, r.Findings)
		}
	}
}

// mutate changes a few bytes of the tables in ways that matter.
func mutate(rnd *rand.Rand, b []byte, places []int) {
	for range 1 + rnd.IntN(3) {
		at := places[rnd.IntN(len(places))]
		be := binary.BigEndian
		v := be.Uint64(b[at:])
		switch rnd.IntN(7) {
		case 0:
			v = 0
		case 1:
			v ^= entryCopied
		case 2:
			v ^= 1 << rnd.IntN(64)
		case 3:
			v += 1 << (9 + rnd.IntN(10))
		case 4:
			v = be.Uint64(b[places[rnd.IntN(len(places))]:])
		case 5:
			v = rnd.Uint64()
		case 6:
			v ^= 1 << (8 * rnd.IntN(8))
		}
		be.PutUint64(b[at:], v)
	}
}

// tablePlaces returns the offsets of 8 bytes of tables: of all that are not
// zero, and some that are.
func tablePlaces(t *testing.T, b []byte) []int {
	t.Helper()
	h, err := readHeader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	var places []int
	table := func(off, n uint64) {
		for i := off; i+8 <= off+n && i+8 <= uint64(len(b)); i += 8 {
			if be.Uint64(b[i:]) != 0 || i%512 == 0 {
				places = append(places, int(i))
			}
		}
	}
	size := uint64(h.ClusterSize())
	table(h.L1Offset, uint64(h.L1Entries)*8)
	table(h.RefcountTableOffset, size)
	for i := range uint64(h.L1Entries) {
		if off := be.Uint64(b[h.L1Offset+i*8:]) & entryOffset; off != 0 {
			table(off, size)
		}
	}
	for i := range size / 8 {
		if off := be.Uint64(b[h.RefcountTableOffset+i*8:]) & entryOffset; off != 0 {
			table(off, size)
		}
	}
	return places
}

// TestCheckLikeQemu has qemu-img check the same damaged images: the verdicts
// are the same, but for what only Check sees.
func TestCheckLikeQemu(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	raw := writeRaw(t, randomDisk(3, 2<<20, 512, 20))
	var images [][]byte
	for _, args := range [][]string{
		{"-o", "cluster_size=512,compat=0.10"}, {"-o", "cluster_size=4096"}, {"-c", "-o", "cluster_size=4096"},
		{"-o", "extended_l2=on,cluster_size=16384"}, {"-o", "refcount_bits=1,cluster_size=1024"},
		{"-c", "-o", "compression_type=zstd"}, {"-o", "refcount_bits=64,cluster_size=2048"},
	} {
		file := filepath.Join(t.TempDir(), "qemu.qcow2")
		tool(t, 0, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), raw, file)...)
		if !strings.Contains(args[len(args)-1], "refcount_bits=1,") {
			tool(t, 0, "qemu-img", "snapshot", "-c", "one", file)
			tool(t, 0, "qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 50k", "-c", "write -z 200k 64k", file)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	for _, opt := range []WriteOptions{{ClusterSize: 512}, {ClusterSize: 4096, Compression: Zlib}, {Version: 3}} {
		file, _ := writeTemp(t, randomDisk(4, 2<<20, 512, 20), opt)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, b)
	}
	count := map[int]int{}
	file := filepath.Join(t.TempDir(), "mutant.qcow2")
	mutants := 300
	if testing.Short() {
		mutants = 60
	}
	for i := range mutants {
		b := bytes.Clone(images[i%len(images)])
		mutate(rnd, b, tablePlaces(t, b))
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := checkBytes(b)
		got := class(r, err)
		want, out := qemuCheck(t, file)
		count[want]++
		if got == want {
			continue
		}
		if got == 2 && onlyOurs(r) {
			continue
		}
		var findings []Finding
		if r != nil {
			findings = r.Findings
		}
		t.Errorf("mutant %d: %d (%v %.300v), qemu-img says %d\n%.300s", i, got, err, findings, want, out)
	}
	if count[0] == 0 || count[2] == 0 || count[3] == 0 {
		t.Errorf("the mutants have no spread: %v", count)
	}
}

// onlyOurs reports whether all corruptions are of kinds that qemu-img does not
// look for: clusters that do not decompress, or that the file does not hold
// whole, zero flags in version 2, and structures on top of each other whose
// refcounts agree.
func onlyOurs(r *Report) bool {
	for _, f := range r.Findings {
		if f.Severity == Corruption && !strings.HasPrefix(f.What, "compressed cluster: ") &&
			!strings.HasSuffix(f.What, "is cut short by the end of the file") &&
			!strings.Contains(f.What, "zero flag in version 2") && !strings.Contains(f.What, "overlaps") {
			return false
		}
	}
	return true
}

// TestCheckUndecodable breaks the data of a compressed cluster: qemu-img
// convert confirms what only Check sees.
func TestCheckUndecodable(t *testing.T) {
	d := &disk{size: 1 << 20, runs: []diskRun{{0, bytes.Repeat([]byte("text "), 40000)}}}
	for _, c := range []Compression{Zlib, Zstd} {
		file, stats := writeTemp(t, d, WriteOptions{Compression: c})
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		copy(b[stats.FileSize-stats.ClusterSize:], bytes.Repeat([]byte{0xff}, 100))
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := checkBytes(b)
		if class(r, err) != 2 || !strings.Contains(r.Findings[0].What, "compressed cluster") {
			t.Errorf("%v: %+v, %v", c, r, err)
		}
		tool(t, 1, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, file+".raw")
	}
}

// TestCheckCutShort cuts the last byte, and more, off images of all kinds: what
// Image refuses to read, Check finds, and where it reads all, Check finds nothing.
func TestCheckCutShort(t *testing.T) {
	var files []string
	d := randomDisk(5, 3<<20, 512, 20)
	d.runs = append(d.runs, diskRun{3<<20 - 512, bytes.Repeat([]byte("end "), 128)})
	for _, opt := range []WriteOptions{{}, {ClusterSize: 512}, {Version: 3}, {Compression: Zlib}, {Compression: Zstd}} {
		file, _ := writeTemp(t, d, opt)
		files = append(files, file)
	}
	d.size += 512 // the last cluster reaches beyond the disk
	raw := writeRaw(t, d)
	for _, options := range []string{"cluster_size=65536", "compat=0.10", "extended_l2=on", "preallocation=metadata"} {
		file := filepath.Join(t.TempDir(), "qemu.qcow2")
		tool(t, 0, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, file)
		files = append(files, file)
	}
	refused := 0
	for _, file := range files {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, less := range []int{0, 1, 511, 512, 4095, 4096, 40000, 65535, 65537} {
			b := whole[:len(whole)-less]
			m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
			if err == nil {
				_, err = m.ReadAt(make([]byte, m.Size()), 0)
			}
			r, checkErr := checkBytes(b)
			if (err != nil) != (class(r, checkErr) == 2) {
				t.Errorf("%s without %d bytes: read: %v, check: %+v %v", file, less, err, r, checkErr)
			}
			if err != nil && r != nil && len(r.Findings) > 0 && r.BeyondEnd == 0 && !strings.HasPrefix(r.Findings[0].What, "compressed cluster") {
				t.Errorf("%s without %d bytes: nothing is said to lie beyond the end: %+v", file, less, r.Findings)
			}
			if err != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("nothing is refused")
	}
}

// TestCheckCut cuts an image of compressed clusters short: each that is gone is
// found once.
func TestCheckCut(t *testing.T) {
	d := &disk{size: 16 << 20, runs: []diskRun{{0, make([]byte, 16<<20)}}}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range d.runs[0].data {
		d.runs[0].data[i] = "0123"[rnd.IntN(4)]
	}
	file, stats := writeTemp(t, d, WriteOptions{ClusterSize: 65536, Compression: Zlib})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := checkBytes(b[:stats.FileSize*2/3])
	if err != nil {
		t.Fatal(err)
	}
	found := map[int64]int{}
	for _, f := range r.Findings {
		if strings.Contains(f.What, "beyond the end of the file") {
			found[f.Guest]++
		}
	}
	for guest, n := range found {
		if n != 1 {
			t.Errorf("the cluster of guest offset %#x is found %d times", guest, n)
		}
	}
	if int64(len(found)) < r.BeyondEnd || r.BeyondEnd < 50 {
		t.Errorf("%d clusters are beyond the end, %d are found", r.BeyondEnd, len(found))
	}
}

// TestCheckSnapshotOfActive has a snapshot claim the active L1 table: that is
// damage, and each cluster of the disk is one.
func TestCheckSnapshotOfActive(t *testing.T) {
	file, stats := writeTemp(t, randomDisk(3, 3<<20, 4096, 20), WriteOptions{ClusterSize: 4096, Compression: Zlib})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	be.PutUint32(b[60:], 1)
	be.PutUint64(b[64:], uint64(len(b)))
	snapshot := make([]byte, 4096)
	copy(snapshot, b[40:48])
	copy(snapshot[8:], b[36:40])
	r, err := checkBytes(append(b, snapshot...))
	if class(r, err) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.AllocatedClusters*4096 != stats.DataBytes || r.CompressedClusters*4096 != stats.PackedBytes {
		t.Errorf("%d clusters are allocated, %d compressed, of %d bytes in all", r.AllocatedClusters, r.CompressedClusters, stats.DataBytes)
	}
}

// A longFile is zero behind its first bytes, and tells of each read.
type longFile struct {
	head []byte
	read func(off int64, n int)
}

func (f *longFile) ReadAt(b []byte, off int64) (int, error) {
	f.read(off, len(b))
	n := copy(b, f.head[min(off, int64(len(f.head))):])
	clear(b[n:])
	return len(b), nil
}

// TestCheckCancel cancels a check at the first of many L1 tables that are long
// and empty.
func TestCheckCancel(t *testing.T) {
	file, _ := writeTemp(t, &disk{size: 1 << 20}, WriteOptions{})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const snapshots, n, l1 = 1 << 20, 10_000, 2 << 20
	be := binary.BigEndian
	head := make([]byte, l1)
	copy(head, b)
	be.PutUint32(head[60:], n)
	be.PutUint64(head[64:], snapshots)
	for i := range n {
		be.PutUint64(head[snapshots+40*i:], l1)
		be.PutUint32(head[snapshots+40*i+8:], maxL1Size/8)
	}
	ctx, cancel := context.WithCancel(t.Context())
	after := 0
	f := &longFile{head, func(off int64, n int) {
		if off >= l1 {
			cancel()
			after += n
		}
	}}
	if _, err := Check(ctx, f, 1<<36, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after > maxL1Size {
		t.Errorf("%d bytes were read after that", after)
	}
}

// TestCheckErrors checks what cannot be checked.
func TestCheckErrors(t *testing.T) {
	if _, err := checkBytes([]byte("no image")); !errors.Is(err, ErrNotQcow2) {
		t.Errorf("no image: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	file, _ := writeTemp(t, randomDisk(1, 1<<20, 512, 20), WriteOptions{})
	f := openRaw(t, file)
	if _, err := Check(ctx, f, f.size, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
