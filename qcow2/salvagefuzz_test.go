package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"e2qcow/image"
)

// naive reads one cluster of a disk as qemu does: by the two entries that lead to
// it, and nothing else.
func naive(b []byte, h *Header, guest int64) ([]byte, error) {
	be := binary.BigEndian
	number := func(off uint64) uint64 {
		if off+8 > uint64(len(b)) {
			return 0
		}
		return be.Uint64(b[off:])
	}
	size := h.ClusterSize()
	data := make([]byte, size)
	table := number(h.L1Offset+uint64(guest>>h.l2CoverBits())*8) & entryOffset
	if table == 0 {
		return data, nil
	}
	at := table + uint64(guest&(1<<h.l2CoverBits()-1))>>h.ClusterBits<<h.l2EntryBits()
	entry := number(at)
	alloc := ^uint32(0)
	switch {
	case entry&entryCompressed != 0:
		return data, unpack(data, bytes.NewReader(b), int64(len(b)), entry, h, guest)
	case h.ExtendedL2():
		alloc = uint32(number(at + 8))
	case entry&entryZero != 0 || entry&entryOffset == 0:
		return data, nil
	}
	for i := range int64(32) {
		if alloc>>i&1 != 0 {
			if start := int64(entry&entryOffset) + i*size/32; start < int64(len(b)) {
				copy(data[i*size/32:(i+1)*size/32], b[start:])
			}
		}
	}
	return data, nil
}

// FuzzSalvage salvages any file. What is read without an error is what its entry
// leads to, what counts as lost is not read, and the ranges are in order.
func FuzzSalvage(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b)
		f.Add(b[:len(b)*3/4])
		for _, at := range []int{8, 20, 40, 47, 54, 103, 512, 520, 1024, 2048, 2560} {
			flipped := bytes.Clone(b)
			flipped[at%len(b)] ^= 0x14
			f.Add(flipped)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := OpenSalvage(t.Context(), bytes.NewReader(b), int64(len(b)), SalvageOptions{})
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		checkRanges(t, v)
		h := v.Header()
		size := h.ClusterSize()
		step := max(size, (h.Size/64)&^(size-1))
		for off := int64(0); off < h.Size; off += step {
			got := make([]byte, min(size, h.Size-off))
			n, err := v.ReadAt(got, off)
			var lost *image.LostError
			switch {
			case err == nil && isLost(v, off):
				t.Fatalf("guest offset %#x is lost, and read", off)
			case err == nil:
				want, err := naive(b, h, off)
				if err != nil || !bytes.Equal(got, want[:len(got)]) {
					t.Fatalf("guest offset %#x is read, but not what its entry leads to: %v", off, err)
				}
			case !errors.As(err, &lost) || lost.Start > off+int64(n) || lost.End <= off+int64(n):
				t.Fatalf("guest offset %#x: %v", off, err)
			}
		}
	})
}

// checkRanges checks that the runs and the lost ranges are ascending, disjoint and
// within the disk, and that what is lost is in a run.
func checkRanges(t *testing.T, v *Salvage) {
	t.Helper()
	for name, next := range map[string]func(int64) (int64, int64, error){"lost": v.NextLost, "run": v.NextRun, "data": v.NextData} {
		last := int64(-1)
		for off, n := int64(0), 0; off < v.Size() && n < 1000; n++ {
			start, end, err := next(off)
			if err == io.EOF {
				break
			}
			if err != nil || start < off || start <= last || end <= start || end > v.Size() {
				t.Fatalf("%s range [%d, %d) after %d of %d: %v", name, start, end, off, v.Size(), err)
			}
			off, last = end, end
		}
	}
	for i, r := range v.Loss().Ranges {
		if i == 1000 {
			break
		}
		if start, end, err := v.NextRun(r.Start); err != nil || start != r.Start || end < r.End {
			t.Fatalf("the lost range %v is not in the run [%d, %d): %v", r, start, end, err)
		}
	}
}

// TestSalvageBombs salvages images of a megabyte and less that ask for much. Each
// is refused or opened soon, and the list of what is lost is bounded.
func TestSalvageBombs(t *testing.T) {
	const bits = 21
	zeros := deflated(t, 1<<bits)
	shared := bomb{clusterBits: bits, tables: 1, data: zeros}
	shared.entry = func(int) uint64 { return bombEntry(shared.dataOffset(), len(zeros), bits) }
	one := bomb{clusterBits: bits, tables: 1, data: make([]byte, 1<<bits)}
	one.entry = func(int) uint64 { return uint64(one.dataOffset()) | entryCopied }
	pieces := bomb{clusterBits: bits, tables: 1, data: make([]byte, 1<<20)}
	pieces.entry = func(i int) uint64 { return bombEntry(pieces.dataOffset()+int64(i)%1000000, 16, bits) }
	wild := bomb{clusterBits: 9, tables: 2000, entry: func(i int) uint64 { return uint64(i%2) << 60 }}
	loop := bomb{clusterBits: 9, tables: 2000, entry: func(i int) uint64 { return uint64(512 * (i % 2000)) }}
	for name, b := range map[string]bomb{"shared": shared, "one": one, "pieces": pieces, "wild": wild, "loop": loop} {
		img := b.image()
		if name == "loop" {
			for i := range 2000 { // all L1 entries lead to one table
				binary.BigEndian.PutUint64(img[512+8*i:], entryCopied|uint64(b.dataOffset()-512))
			}
		}
		started := time.Now()
		v, err := OpenSalvage(t.Context(), bytes.NewReader(img), int64(len(img)), SalvageOptions{})
		if err != nil {
			if !known(err) {
				t.Errorf("%s: %v", name, err)
			}
		} else {
			checkRanges(t, v)
			if n := len(v.Loss().Ranges); n > maxLostRanges {
				t.Errorf("%s: %d ranges", name, n)
			}
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// A sparseFile is bytes and a hole behind them.
type sparseFile struct {
	*bytes.Reader
	size int64
}

func (f sparseFile) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if off < f.Reader.Size() {
		n, _ = f.Reader.ReadAt(b, off)
	}
	clear(b[n:])
	return len(b), nil
}

func (f sparseFile) NextRun(off int64) (start, end int64, err error) {
	if off >= f.Reader.Size() {
		return 0, 0, io.EOF
	}
	return off, f.Reader.Size(), nil
}

// TestSalvageTablesInHoles salvages an image with 131,072 tables of 2 MiB, all of
// them in a hole of the file.
func TestSalvageTablesInHoles(t *testing.T) {
	const bits, n = 21, 1 << 17
	b := bomb{clusterBits: bits, tables: 1, entry: func(int) uint64 { return 0 }}.image()
	binary.BigEndian.PutUint64(b[24:], n<<(2*bits-3))
	binary.BigEndian.PutUint32(b[36:], n)
	for i := range n {
		binary.BigEndian.PutUint64(b[1<<bits+i*8:], entryCopied|uint64(i+3)<<(bits+1))
	}
	started := time.Now()
	f := sparseFile{bytes.NewReader(b), (n + 4) << (bits + 1)}
	v, err := OpenSalvage(t.Context(), f, f.size, SalvageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if start, end, err := v.NextData(0); err != io.EOF {
		t.Errorf("data from %d to %d, %v", start, end, err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestLossIsBounded loses more ranges than a list has.
func TestLossIsBounded(t *testing.T) {
	l := lossList{size: 1 << 40}
	for i := range int64(5 * maxLostRanges) {
		l.add(LostCluster, i*8192, i*8192+512, 0, "gone")
	}
	l.add(LostTable, 1<<39, 1<<39+1, 0, "gone")
	l.join()
	n := len(l.Ranges)
	if n > maxLostRanges || n < 2 || l.Ranges[0].Start != 0 || l.Ranges[n-1] != (Range{1 << 39, 1<<39 + 1}) {
		t.Errorf("%d ranges, from %v to %v", n, l.Ranges[0], l.Ranges[n-1])
	}
	for _, at := range []int64{8192 * 77, 8192*int64(5*maxLostRanges-1) + 511} {
		if r, ok := l.next(at); !ok || r.Start > at {
			t.Errorf("%d is not lost", at)
		}
	}
	if got := l.Kinds[LostCluster]; got.Count != 5*maxLostRanges || got.Bytes != 512*5*maxLostRanges {
		t.Errorf("counted %+v", got)
	}
}

// TestSalvageLikeQemu has qemu-img salvage damaged images: what both read is the
// same.
func TestSalvageLikeQemu(t *testing.T) {
	images := flipImages(t)
	compared := 0
	for _, name := range thinned([]string{"v3,4k,zlib", "v2", "v2,512", "v3,extended", "v3,zstd", "ours"}, 3) {
		good := images[name]
		places := flipPlaces(t, good)
		for seed := range 6 {
			bad := bytes.Clone(good)
			for i := range 5 {
				bad[places[(len(places)*(i*7+seed)/41+seed*13)%len(places)]] ^= byte(1 << (seed + i) % 8)
			}
			if seed%2 == 1 {
				bad = bad[:len(bad)*(seed+3)/9]
			}
			v, err := OpenSalvage(t.Context(), bytes.NewReader(bad), int64(len(bad)), SalvageOptions{})
			if err != nil || v.Size() != 704<<10 {
				continue
			}
			dir := t.TempDir()
			file, raw := filepath.Join(dir, "image"), filepath.Join(dir, "raw")
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if exec.Command("qemu-img", "convert", "--salvage", "-q", "-f", "qcow2", "-O", "raw", file, raw).Run() != nil {
				continue // qemu does not open it
			}
			want, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			piece := int(v.Header().ClusterSize())
			got, read := readPieces(t, v, piece)
			for i, ok := range read {
				part := got[i*piece : min((i+1)*piece, len(got))]
				// qemu writes zeros for what it cannot read.
				if ok && !bytes.Equal(part, want[i*piece:][:len(part)]) && !bytes.Equal(want[i*piece:][:len(part)], make([]byte, len(part))) {
					t.Errorf("%s, seed %d: guest offset %#x differs from what qemu-img reads", name, seed, i*piece)
				}
				if ok {
					compared++
				}
			}
		}
	}
	if compared < 100 {
		t.Error(fmt.Sprint("only ", compared, " clusters were compared"))
	}
}
