package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// A bomb is an image of few bytes that asks for much: tables whose entries are
// made by a function, and data behind them. It has no refcounts.
type bomb struct {
	clusterBits uint
	tables      int // L2 tables
	compression Compression
	entry       func(i int) uint64 // of guest cluster i
	data        []byte
}

// dataOffset returns where the data of the bomb begins.
func (b bomb) dataOffset() int64 {
	cs := int64(1) << b.clusterBits
	return cs + (int64(b.tables)*8+cs-1)/cs*cs + int64(b.tables)*cs
}

func (b bomb) image() []byte {
	cs := 1 << b.clusterBits
	be := binary.BigEndian
	image := make([]byte, int(b.dataOffset())+len(b.data))
	be.PutUint32(image, magic)
	be.PutUint32(image[4:], 3)
	be.PutUint32(image[20:], uint32(b.clusterBits))
	be.PutUint64(image[24:], uint64(b.tables)*uint64(cs/8)*uint64(cs))
	be.PutUint32(image[36:], uint32(b.tables))
	be.PutUint64(image[40:], uint64(cs))
	if b.compression == Zstd {
		be.PutUint64(image[72:], incompatCompression)
		image[headerSizeV3] = Zstd.field()
	}
	be.PutUint32(image[96:], 4)
	be.PutUint32(image[100:], headerSizeFull)
	l2 := int(b.dataOffset()) - b.tables*cs
	for t := range b.tables {
		be.PutUint64(image[cs+t*8:], uint64(l2+t*cs)|entryCopied)
		for i := range cs / 8 {
			be.PutUint64(image[l2+t*cs+i*8:], b.entry(t*(cs/8)+i))
		}
	}
	copy(image[b.dataOffset():], b.data)
	return image
}

// deflated returns n zeros as raw deflate.
func deflated(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err == nil {
		_, err = w.Write(make([]byte, n))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bombEntry returns the L2 entry of a compressed cluster, whatever its place.
func bombEntry(off int64, n int, clusterBits uint) uint64 {
	sectors := (off%512 + int64(n) - 1) / 512
	return entryCompressed | uint64(sectors)<<packedShift(clusterBits) | uint64(off)
}

// TestZeroBomb has a disk of 512 GiB that is marked zero: there is no data.
func TestZeroBomb(t *testing.T) {
	b := bomb{clusterBits: 21, tables: 1, entry: func(int) uint64 { return entryZero }}.image()
	m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
	if err != nil {
		t.Fatal(err)
	}
	if start, end, err := m.NextRun(0); err != nil || start != 0 || end != 512<<30 {
		t.Errorf("the run is %d to %d, %v", start, end, err)
	}
	if start, end, err := m.NextData(0); err != io.EOF {
		t.Errorf("data from %d to %d, %v", start, end, err)
	}
	stats, err := WriteStream(t.Context(), io.Discard, m, WriteOptions{})
	if err != nil || stats.DataBytes != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestCheckBombs checks images of which much can be decompressed: one cluster
// that all entries share, and as many overlapping ones as there are bytes.
func TestCheckBombs(t *testing.T) {
	const bits = 21
	zeros := deflated(t, 1<<bits)
	shared := bomb{clusterBits: bits, tables: 1, data: zeros}
	shared.entry = func(int) uint64 { return bombEntry(shared.dataOffset(), len(zeros), bits) }

	// An empty stored block may stand before a stream any number of times.
	const empties = 100_000
	many := bomb{clusterBits: bits, tables: 1, data: append(bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, empties), zeros...)}
	many.entry = func(i int) uint64 {
		at := empties - 1 - i%empties
		return bombEntry(many.dataOffset()+int64(at)*5, len(many.data)-at*5, bits)
	}
	for name, b := range map[string]bomb{"shared": shared, "overlapping": many} {
		if name == "overlapping" && testing.Short() {
			continue // 2 GiB are decompressed
		}
		image := b.image()
		r, err := Check(t.Context(), bytes.NewReader(image), int64(len(image)), nil)
		if err != nil {
			t.Fatal(err)
		}
		most := int64(leastOutput+outputRatio*len(image)) >> bits
		if tried := r.CompressedClusters - r.Untried; name == "overlapping" && (tried > most+1 || r.Untried == 0) {
			t.Errorf("%s: %d of %d clusters were tried, at most %d should be", name, tried, r.CompressedClusters, most)
		}
		if r.Status() == 0 {
			t.Errorf("%s: no word against it", name)
		}
	}
}

// TestCheckFarApart checks an image whose clusters lie so far apart that each
// has a page of counts of its own, in more than one pass.
func TestCheckFarApart(t *testing.T) {
	const bits, tables = 9, 200
	b := bomb{clusterBits: bits, tables: tables}
	b.entry = func(i int) uint64 { return uint64(i+1)*countPage<<bits | entryCopied }
	image := b.image()
	size := int64(tables*64+2) * countPage << bits
	r, err := Check(t.Context(), zeroBehind{bytes.NewReader(image), int64(len(image))}, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(tables * 64); tables*64 < maxCountPages || r.AllocatedClusters != want || r.Corruptions < want {
		t.Errorf("%d clusters, %d corruptions; each of %d clusters lacks its refcount", r.AllocatedClusters, r.Corruptions, want)
	}
}

// withRefcounts returns an image of a bomb with refcounts that are right: one
// block of them, of 64 bits, for each cluster.
func withRefcounts(t *testing.T, b bomb) []byte {
	t.Helper()
	image := b.image()
	cs := 1 << b.clusterBits
	be := binary.BigEndian
	image = append(image, make([]byte, (cs-len(image)%cs)%cs)...)
	table := len(image)
	image = append(image, make([]byte, 2*cs)...)
	be.PutUint64(image[48:], uint64(table))
	be.PutUint32(image[56:], 1)
	be.PutUint32(image[96:], maxRefcountBits)
	be.PutUint64(image[table:], uint64(table+cs))
	r, err := Check(t.Context(), bytes.NewReader(image), int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		var cluster, count, references uint64
		if _, err := fmt.Sscanf(f.What, "cluster %d has refcount %d, references: %d", &cluster, &count, &references); err == nil {
			be.PutUint64(image[table+cs+int(cluster)*8:], references)
		}
	}
	return image
}

// TestInflated verifies images whose entries share a cluster, with refcounts that
// are right: what to read takes without end is refused, a little more is not.
func TestInflated(t *testing.T) {
	const bits = 21
	zeros := deflated(t, 1<<bits)
	for _, test := range []struct {
		name   string
		packed bool
		shared int
		ok     bool
	}{
		{"plain", false, 1 << 15, false},
		{"plain, few", false, leastRepeated >> bits, true},
		{"compressed", true, 1 << 15, false},
		{"compressed, few", true, leastOutput >> bits, true},
	} {
		b := bomb{clusterBits: bits, tables: 1, data: zeros}
		b.entry = func(i int) uint64 {
			switch {
			case i >= test.shared:
				return 0
			case test.packed:
				return bombEntry(b.dataOffset(), len(zeros), bits)
			}
			return uint64(b.dataOffset())
		}
		image := withRefcounts(t, b)
		m, err := Open(context.Background(), bytes.NewReader(image), int64(len(image)), OpenOptions{Unverified: true})
		if err != nil {
			t.Fatal(err)
		}
		r, err := checkBytes(image)
		if err != nil || r.Status() != 0 {
			t.Fatalf("%s: the refcounts are not right: %v, %v", test.name, r.Findings, err)
		}
		var damage *CorruptError
		if err := m.Verify(t.Context()); (err == nil) != test.ok || err != nil && !errors.As(err, &damage) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A holed is a file with zeros in a hole.
type holed struct {
	zeroBehind
	hole, end int64
}

func (h holed) NextRun(off int64) (start, end int64, err error) {
	switch {
	case off < h.hole:
		return off, h.hole, nil
	case h.end < h.size:
		return max(off, h.end), h.size, nil
	}
	return 0, 0, io.EOF
}

// TestDataInHoles finds no data in clusters that are a hole of the file, all that
// is in others, and those that lie behind the end or on a table.
func TestDataInHoles(t *testing.T) {
	const bits, cs = 16, 1 << 16
	b := bomb{clusterBits: bits, tables: 1}
	data := b.dataOffset()
	b.entry = func(i int) uint64 {
		switch {
		case i == 100:
			return uint64(data - cs) // the L2 table
		case i < 200:
			return uint64(data) + uint64(i)*cs
		}
		return 0
	}
	image := b.image()
	size := data + 150*cs
	file := holed{zeroBehind{bytes.NewReader(image), int64(len(image))}, data + 512, size - 512}
	file.r, file.size = file.zeroBehind, size
	m, err := Open(context.Background(), file, size, OpenOptions{Unverified: true})
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]int64
	for off := int64(0); ; {
		start, end, err := m.NextData(off)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, [2]int64{start, end})
		off = end
	}
	want := [][2]int64{{0, 512}, {100 * cs, 200 * cs}} // of which 101 to 150 are found with those behind the end
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFrames reads a cluster with more empty zstd frames than are read, and
// one with few.
func TestFrames(t *testing.T) {
	const bits = 16
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	empty := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0, 0}
	full := e.EncodeAll(bytes.Repeat([]byte("z"), 1<<bits), nil)
	for n, ok := range map[int]bool{0: true, 1: true, maxFrames - 1: true, maxFrames: false} {
		b := bomb{clusterBits: bits, tables: 1, compression: Zstd, data: append(bytes.Repeat(empty, n), full...)}
		b.entry = func(i int) uint64 {
			if i > 0 {
				return 0
			}
			return bombEntry(b.dataOffset(), len(b.data), bits)
		}
		image := b.image()
		m, err := Open(context.Background(), bytes.NewReader(image), int64(len(image)), OpenOptions{Unverified: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.ReadAt(make([]byte, 1<<bits), 0); (err == nil) != ok {
			t.Errorf("%d empty frames: %v", n, err)
		}
	}
}

// TestStreamOfTables reads an image from a pipe whose tables are more than is
// held in memory: it is spooled.
func TestStreamOfTables(t *testing.T) {
	const bits, tables = 16, maxStreamKept>>16 + 64
	b := bomb{clusterBits: bits, tables: tables, entry: func(int) uint64 { return entryZero }}
	s, err := OpenStream(context.Background(), bytes.NewReader(b.image()), OpenOptions{Unverified: true, Spool: SpoolOptions{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.spool == nil {
		t.Error("the tables are held in memory")
	}
	if start, _, err := s.NextRun(0); err != nil || start != 0 {
		t.Errorf("the run begins at %d, %v", start, err)
	}
}

// TestL1Gaps asks for holes of an image whose L1 table is nearly empty, from many
// places and with many limits: they are as long as the table says, whatever is
// remembered of it.
func TestL1Gaps(t *testing.T) {
	const entries = 1 << 14
	m := newImage(&Header{Version: 3, ClusterBits: 16, RefcountBits: 16, Size: entries << 29, L1Entries: entries}, bytes.NewReader(nil), 0)
	m.l1 = make([]uint64, entries)
	used := []int64{0, 300, 301, 5000, 5001, entries - 1}
	for _, i := range used {
		m.l1[i] = 1 << 16
	}
	end := func(index int64) int64 {
		i, _ := slices.BinarySearch(used, index)
		return used[i]
	}
	var places []int64
	for i := range int64(entries) {
		if i%7 == 0 || i < 310 {
			places = append(places, i)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, order := range []string{"ascending", "descending", "random"} {
		switch order {
		case "descending":
			slices.Reverse(places)
		case "random":
			random.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		}
		for _, i := range places {
			if slices.Contains(used, i) {
				continue
			}
			off := i<<29 + random.Int64N(1<<29)
			for _, limit := range []int64{1, 1 << 29, 1 << 38, m.Size()} {
				p, err := m.step(off, min(limit, m.Size()-off))
				if want := min(limit, end(i)<<29-off); err != nil || p.kind != mapHole || p.n != want {
					t.Fatalf("%s: a hole of %d bytes at %d, %v, want %d", order, p.n, off, err, want)
				}
			}
		}
	}
	if l := m.gap.last.Load(); l == nil || l[1]-l[0] < leastGap {
		t.Errorf("no gap is remembered, but %v", l)
	}
}
