package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An entryPlaces says where the entries of an image are that describe the first
// cluster of the disk.
type entryPlaces struct {
	header         *Header
	l1, l2, refs   int64 // the first entry of each table, the refcount table's too
	table, cluster int64 // what the first L1 and L2 entries refer to
}

func placesOf(t *testing.T, b []byte) entryPlaces {
	t.Helper()
	h, err := readHeader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := entryPlaces{header: h, l1: int64(h.L1Offset), refs: int64(h.RefcountTableOffset)}
	p.table = int64(binary.BigEndian.Uint64(b[p.l1:]) & entryOffset)
	p.l2 = p.table
	p.cluster = int64(binary.BigEndian.Uint64(b[p.l2:]) & entryOffset)
	if p.table == 0 || p.cluster == 0 {
		t.Fatal("the first cluster of the disk is not in the image")
	}
	return p
}

// TestFindings damages an entry of each table in each way that the format knows.
// Check finds that, and says which entry of the file and which byte of the disk
// it concerns; Open refuses the image, or reading the disk fails.
func TestFindings(t *testing.T) {
	const cs = 4096
	d := &disk{size: 4 << 20, runs: []diskRun{{0, bytes.Repeat([]byte("text "), 100<<10)}}}
	plain := map[int][]byte{}
	for _, version := range []int{2, 3} {
		file, _ := writeTemp(t, d, WriteOptions{Version: version, ClusterSize: cs})
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		plain[version] = b
	}
	const none = -1
	for _, c := range []struct {
		version int
		place   func(p entryPlaces) int64
		change  func(entry uint64, p entryPlaces) uint64
		guest   int64
		says    string
	}{
		{2, l1Place, set(entryCopied), 0, "has flags and no table"},
		{2, l1Place, or(1 << 56), 0, "has reserved bits set"},
		{2, l1Place, or(1 << 0), 0, "has reserved bits set"},
		{2, l1Place, or(1 << 9), 0, "is not aligned"},
		{2, l1Place, or(1 << 50), 0, "lies beyond the end of the file"},
		{2, l1Place, without(entryCopied), 0, "the copied flag of the L2 table"},
		{2, l1Place, func(_ uint64, p entryPlaces) uint64 { return uint64(p.l1) | entryCopied }, 0, "overlaps other structures"},
		{2, l2Place, or(1 << 56), 0, "has reserved bits set"},
		{3, l2Place, or(1 << 1), 0, "has reserved bits set"},
		{2, l2Place, or(entryZero), 0, "has the zero flag in version 2"},
		{2, l2Place, or(1 << 9), 0, "is not aligned"},
		{2, l2Place, or(1 << 50), 0, "data cluster at"},
		{2, l2Place, without(entryCopied), 0, "the copied flag of the data cluster"},
		{2, l2Place, func(uint64, entryPlaces) uint64 { return entryCopied }, none, "has refcount 1, references: 0"},
		{2, nextL2Place, func(_ uint64, p entryPlaces) uint64 { return uint64(p.cluster) | entryCopied }, none, "has refcount 1, references: 2"},
		{2, refPlace, or(1 << 8), none, "has reserved bits set"},
		{2, refPlace, or(1 << 9), none, "is not aligned"},
		{2, refPlace, or(1 << 50), none, "lies beyond the end of the file"},
		{2, refPlace, set(0), none, "has refcount 0, references: 1"},
	} {
		b := slices.Clone(plain[c.version])
		p := placesOf(t, b)
		at := c.place(p)
		was := binary.BigEndian.Uint64(b[at:])
		binary.BigEndian.PutUint64(b[at:], c.change(was, p))
		what := fmt.Sprintf("version %d, entry at %#x from %#x to %#x", c.version, at, was, c.change(was, p))
		r, err := checkBytes(b)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		wrong := strings.HasPrefix(c.says, "has refcount") // the cluster is the place, not the entry
		found := slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return strings.Contains(f.What, c.says) && (wrong || f.Offset == at && f.Guest == c.guest)
		})
		if !found || r.Status() == 0 {
			t.Errorf("%s: nothing says %q of byte %d of the disk: status %d, %+v", what, c.says, c.guest, r.Status(), r.Findings)
		}
		m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{})
		if err == nil {
			_, err = m.ReadAt(make([]byte, m.Size()), 0)
		}
		if r.Corruptions > 0 && err == nil {
			t.Errorf("%s: the image is read as if it was sound", what)
		}
	}
}

func l1Place(p entryPlaces) int64     { return p.l1 }
func l2Place(p entryPlaces) int64     { return p.l2 }
func nextL2Place(p entryPlaces) int64 { return p.l2 + 8 }
func refPlace(p entryPlaces) int64    { return p.refs }

func set(v uint64) func(uint64, entryPlaces) uint64 {
	return func(uint64, entryPlaces) uint64 { return v }
}

func or(bits uint64) func(uint64, entryPlaces) uint64 {
	return func(v uint64, _ entryPlaces) uint64 { return v | bits }
}

func without(bits uint64) func(uint64, entryPlaces) uint64 {
	return func(v uint64, _ entryPlaces) uint64 { return v &^ bits }
}

// TestFindingsOfSubclusters damages entries of an image with subclusters.
func TestFindingsOfSubclusters(t *testing.T) {
	d := &disk{size: 4 << 20, runs: []diskRun{{0, bytes.Repeat([]byte("text "), 100<<10)}}}
	file := filepath.Join(t.TempDir(), "qemu.qcow2")
	tool(t, 0, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "extended_l2=on", writeRaw(t, d), file)
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := placesOf(t, sound)
	perTable := p.header.ClusterSize() / 16
	empty := p.l2 + 16*(perTable-1) // the last entry of the table, behind the disk
	for _, c := range []struct {
		at            int64
		entry, bitmap uint64
		says          string
	}{
		{empty, 0, 1, "are allocated nowhere"},
		{empty, 0, 0, ""},
		{empty, 0, 1 << 32, ""}, // reads as zeros
		{p.l2, uint64(p.cluster) | entryCopied, 1<<32 | 1, "are both allocated and zero"},
	} {
		b := slices.Clone(sound)
		binary.BigEndian.PutUint64(b[c.at:], c.entry)
		binary.BigEndian.PutUint64(b[c.at+8:], c.bitmap)
		r, err := checkBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		said := slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return f.Offset == c.at && c.says != "" && strings.Contains(f.What, c.says)
		})
		if said != (c.says != "") || c.says == "" && r.Status() != 0 {
			t.Errorf("entry %#x, bitmap %#x: want %q, found %+v", c.entry, c.bitmap, c.says, r.Findings)
		}
	}
}

// TestFindingsOfCutTables cuts a file within the table or the cluster that
// describes the first byte of the disk: what Image reads and the file lacks is
// found, for that byte of the disk too.
func TestFindingsOfCutTables(t *testing.T) {
	const cs = 4096
	last := make([]byte, 512)
	copy(last, "end")
	file, _ := writeTemp(t, &disk{size: 512, runs: []diskRun{{0, last}}}, WriteOptions{ClusterSize: cs})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := placesOf(t, b)
	if p.cluster < p.table {
		t.Fatal("data does not stand last")
	}
	// The disk has 512 bytes, so no more of the cluster is needed.
	for end, sound := range map[int64]bool{p.cluster + 511: false, p.cluster + 512: true, p.cluster + 513: true} {
		r, err := checkBytes(b[:end])
		if err != nil {
			t.Fatal(err)
		}
		if (r.Status() == 0) != sound {
			t.Errorf("%d bytes of the data cluster are there: status %d, %+v", end-p.cluster, r.Status(), r.Findings)
		}
		if !sound && (r.BeyondEnd == 0 || r.Findings[0].Guest != 0 || r.Findings[0].Offset != p.l2) {
			t.Errorf("%d bytes of the data cluster are there: %+v", end-p.cluster, r.Findings)
		}
	}
}

// TestHeaderExtensions reads names in the header: of features that are not
// known, and of a backing file that ends where the first cluster does.
func TestHeaderExtensions(t *testing.T) {
	const cs = 4096
	file, _ := writeTemp(t, randomDisk(1, 1<<20, 4096, 3), WriteOptions{Version: 3, ClusterSize: cs})
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	open := func(change func(b []byte)) string {
		b := slices.Clone(good)
		change(b)
		_, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
		return fmt.Sprint(err)
	}
	// Feature names: entries of 48 bytes, of which one says 6 and one 5.
	const ext = headerSizeFull
	for length, want := range map[uint32]string{
		48: `incompatible feature 5`, 96: `incompatible feature 5 ("future")`, 100: `incompatible feature 5 ("future")`, 95: `incompatible feature 5`,
	} {
		got := open(func(b []byte) {
			be.PutUint64(b[72:], 1<<5)
			be.PutUint32(b[ext:], extensionFeatureNames)
			be.PutUint32(b[ext+4:], length)
			copy(b[ext+8:], "\x00\x06other")
			if length > 48 {
				copy(b[ext+8+48:], "\x00\x05future")
			}
		})
		if !strings.HasSuffix(got, want) {
			t.Errorf("%d bytes of names: %s, want %s", length, got, want)
		}
	}
	for _, c := range []struct {
		offset uint64
		length uint32
		want   string
	}{
		{cs - 4, 4, `backing file "name"`},
		{cs - 4, 5, "backing file name of 5 bytes at 0xffc"},
		{cs, 0, `backing file`},
		{cs + 1, 0, "backing file name of 0 bytes"},
		{1<<64 - 1, 4, "backing file name of 4 bytes"},
		{200, maxBackingName + 1, "backing file name of 1024 bytes"},
	} {
		got := open(func(b []byte) {
			be.PutUint64(b[8:], c.offset)
			be.PutUint32(b[16:], c.length)
			copy(b[cs-4:cs], "name")
		})
		if c.offset == cs { // a name of no bytes is none
			if got != "<nil>" {
				t.Errorf("a name of no bytes: %s", got)
			}
			continue
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("a name of %d bytes at %#x: %s, want %s", c.length, c.offset, got, c.want)
		}
	}
	for method, want := range map[uint32]string{1: "encrypted (AES)", 2: "encrypted (LUKS)", 3: "encryption method 3", 77: "encryption method 77"} {
		if got := open(func(b []byte) { be.PutUint32(b[32:], method) }); !strings.HasSuffix(got, want) {
			t.Errorf("encryption method %d: %s", method, got)
		}
	}
}
