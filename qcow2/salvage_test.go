package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"e2qcow/image"
)

// openSalvage opens the image in memory.
func openSalvage(t testing.TB, b []byte) *Salvage {
	t.Helper()
	v, err := OpenSalvage(context.Background(), bytes.NewReader(b), int64(len(b)), SalvageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readPieces reads a disk in pieces, and returns which of them could be read. An
// error that does not say what is lost is a failure of the test.
func readPieces(t testing.TB, img image.Image, piece int) (b []byte, read []bool) {
	t.Helper()
	b = make([]byte, img.Size())
	for off := 0; off < len(b); off += piece {
		part := b[off:min(off+piece, len(b))]
		n, err := img.ReadAt(part, int64(off))
		var lost *image.LostError
		switch {
		case err == nil:
		case !errors.As(err, &lost):
			t.Fatalf("read at %d: %v", off, err)
		case lost.Start > int64(off+n) || lost.End <= int64(off+n):
			t.Fatalf("read at %d failed after %d bytes, but the error is of %d-%d", off, n, lost.Start, lost.End)
		}
		read = append(read, err == nil)
	}
	return b, read
}

// TestSalvageFlips flips bits of all that says where data is. All but what the
// flipped entry says is read as it was, and what the entry says is lost, or as it
// was, unless nothing in the file tells. FLIPS=1 takes each bit, else every 61st.
func TestSalvageFlips(t *testing.T) {
	step := 61
	if os.Getenv("FLIPS") != "" {
		step = 1
	}
	for name, good := range flipImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := readWhole(t, good)
			if err != nil {
				t.Fatal(err)
			}
			intact := openSalvage(t, good)
			if n := intact.Loss().Bytes(); n != 0 {
				t.Fatalf("%d bytes of a sound image are lost: %+v", n, intact.Loss())
			}
			b := bytes.Clone(good)
			flips, refused, lost, wrong := 0, 0, 0, 0
			for i, places := len(name)%step, flipPlaces(t, good); i < 8*len(places); i += step {
				at, bit := places[i/8], byte(1)<<(i%8)
				b[at] ^= bit
				flips++
				switch n, err := salvageFlip(t, intact.m, b, want, int64(at)); {
				case err == errOtherDisk:
					refused++
				case err != nil:
					if what := unclean(t, b); what != "" {
						t.Errorf("%s: byte %#x, bit %#x: %v, though %s", name, at, bit, err, what)
					}
					wrong++
				default:
					lost += n
				}
				b[at] ^= bit
			}
			t.Logf("%d flips: %d of the header make another disk, %d clusters lost, %d to another clean image", flips, refused, lost, wrong)
		})
	}
}

var errOtherDisk = errors.New("another disk")

// salvageFlip salvages an image of which the byte at was changed. m is the image
// before, and want its disk.
func salvageFlip(t *testing.T, m *Image, b, want []byte, at int64) (lost int, err error) {
	t.Helper()
	v, err := OpenSalvage(context.Background(), bytes.NewReader(b), int64(len(b)), SalvageOptions{})
	h := m.header
	if inHeader := at < h.ClusterSize(); inHeader && (err != nil || v.Size() != int64(len(want)) || v.Header().ClusterBits != h.ClusterBits) {
		return 0, errOtherDisk
	}
	if err != nil {
		return 0, err
	}
	size := int(h.ClusterSize())
	got, read := readPieces(t, v, size)
	for i, ok := range read {
		off := i * size
		end := min(off+size, len(want))
		switch {
		case !ok:
			if lost++; !mayLose(m, b, at, int64(off)) {
				return 0, fmt.Errorf("guest offset %#x cannot be read: %v", off, v.Loss())
			}
		case !bytes.Equal(got[off:end], want[off:end]):
			if v.Loss().Astray > 0 {
				return lost, nil // that is said, too
			}
			return 0, fmt.Errorf("guest offset %#x is read, but not as it was", off)
		}
	}
	return lost, nil
}

// mayLose reports whether a change of the byte at can make the cluster at a guest
// offset unreadable: its entry was changed, or one that leads to the same place
// since then.
func mayLose(m *Image, b []byte, at, guest int64) bool {
	h := m.header
	index := guest >> h.l2CoverBits()
	if at>>3 == (int64(h.L1Offset)+index*8)>>3 || at < h.ClusterSize() {
		return true
	}
	table := int64(m.l1[index] & entryOffset)
	if table == 0 {
		return false
	}
	entry := table + (guest&(1<<h.l2CoverBits()-1))>>h.ClusterBits<<h.l2EntryBits()
	if at >= entry && at < entry+1<<h.l2EntryBits() {
		return true
	}
	led := binary.BigEndian.Uint64(b[at&^7:])
	own := binary.BigEndian.Uint64(b[entry:])
	cluster := own & entryOffset >> h.ClusterBits
	if own&entryCompressed != 0 {
		off, _ := packedPlace(own, h.ClusterBits)
		cluster = uint64(off) >> h.ClusterBits
	}
	if led&entryCompressed != 0 {
		off, n := packedPlace(led, h.ClusterBits)
		return cluster >= uint64(off)>>h.ClusterBits && cluster <= uint64(off+n-1)>>h.ClusterBits
	}
	return cluster == led&entryOffset>>h.ClusterBits
}

// TestSalvageCut cuts images short at many places. What is in the file is read as
// it was, as far as the tables say where.
func TestSalvageCut(t *testing.T) {
	for name, good := range flipImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := readWhole(t, good)
			if err != nil {
				t.Fatal(err)
			}
			h := openSalvage(t, good).Header()
			for n := len(good) - 1; n > 0; n -= 1 + len(good)/97 {
				v, err := OpenSalvage(t.Context(), bytes.NewReader(good[:n]), int64(n), SalvageOptions{})
				if err != nil {
					if n > headerSizeFull {
						t.Errorf("%d bytes: %v", n, err)
					}
					continue
				}
				got, read := readPieces(t, v, 512)
				lost := int64(0)
				for i, ok := range read {
					off := i * 512
					if ok && !bytes.Equal(got[off:off+512], want[off:off+512]) {
						t.Fatalf("%d bytes: guest offset %#x is read, but not as it was", n, off)
					}
					if !ok {
						lost += 512
					} else if isLost(v, int64(off)) {
						t.Fatalf("%d bytes: guest offset %#x is read, but counts as lost", n, off)
					}
				}
				if most := mostLost(h, good, n); lost > most {
					t.Errorf("%d bytes: %d bytes of the disk are lost, at most %d were cut away: %+v", n, lost, most, v.Loss().Kinds)
				}
			}
		})
	}
}

func isLost(v *Salvage, off int64) bool {
	r, ok := v.Loss().next(off)
	return ok && r.Start <= off
}

// mostLost returns how much of the disk is lost at most if an image is cut after n
// bytes: all that has an entry, or bytes, behind that.
func mostLost(h *Header, good []byte, n int) (lost int64) {
	be := binary.BigEndian
	for index := range h.l1Needed() {
		at := h.L1Offset + index*8
		table := int64(be.Uint64(good[at:]) & entryOffset)
		if table == 0 {
			if int(at)+8 > n {
				lost += 1 << h.l2CoverBits()
			}
			continue
		}
		for i := range h.ClusterSize() >> h.l2EntryBits() {
			entryAt := table + i<<h.l2EntryBits()
			if guest := int64(index)<<h.l2CoverBits() + i<<h.ClusterBits; guest >= h.Size {
				break
			}
			entry := be.Uint64(good[entryAt:])
			end := int64(entry&entryOffset) + h.ClusterSize()
			if entry&entryCompressed != 0 {
				off, length := packedPlace(entry, h.ClusterBits)
				end = off + length
			}
			if max(end, entryAt&^511+512) > int64(n) || int(at)&^511+512 > n {
				lost += h.ClusterSize()
			}
		}
	}
	return lost
}

// A badFile has bytes that cannot be read.
type badFile struct {
	*bytes.Reader
	bad Range
}

func (f badFile) ReadAt(b []byte, off int64) (int, error) {
	end := off + int64(len(b))
	if off >= f.bad.End || end <= f.bad.Start {
		return f.Reader.ReadAt(b, off)
	}
	n, _ := f.Reader.ReadAt(b[:max(0, f.bad.Start-off)], off)
	return n, errBadSector
}

var errBadSector = errors.New("bad sector")

// TestSalvageBadSectors has sectors of the file bad in turn. Where that is a table,
// no more is lost than what the sector maps; where it is data, the read fails with
// the error of the disk; and nothing is read that was not there.
func TestSalvageBadSectors(t *testing.T) {
	for name, good := range flipImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := readWhole(t, good)
			if err != nil {
				t.Fatal(err)
			}
			for at := int64(512); at < int64(len(good)); at += 512 * (1 + int64(len(good))/512/151) {
				bad := Range{at, at + 512}
				v, err := OpenSalvage(t.Context(), badFile{bytes.NewReader(good), bad}, int64(len(good)), SalvageOptions{})
				if err != nil {
					t.Fatalf("sector at %#x: %v", at, err)
				}
				size := v.Header().ClusterSize()
				unread := int64(0)
				b := make([]byte, size)
				for off := int64(0); off < v.Size(); off += size {
					part := b[:min(size, v.Size()-off)]
					switch n, err := v.ReadAt(part, off); {
					case err == nil && !bytes.Equal(part, want[off:off+int64(n)]):
						t.Fatalf("sector at %#x: guest offset %#x is read, but not as it was", at, off)
					case err == nil:
					case errors.Is(err, errBadSector) || errors.Is(err, errLost):
						unread++
					default:
						t.Fatalf("sector at %#x: %v", at, err)
					}
				}
				perSector := int64(tableSector) >> v.Header().l2EntryBits()
				if at >= size && unread > max(perSector, 8) && at>>9 != int64(v.Header().L1Offset)>>9 {
					t.Errorf("sector at %#x: %d clusters are lost: %+v", at, unread, v.Loss())
				}
			}
		})
	}
}

// A deadFile cannot be read behind its first bytes. It counts the attempts.
type deadFile struct {
	head  []byte
	tries *int
}

func (f deadFile) ReadAt(b []byte, off int64) (int, error) {
	if end := off + int64(len(b)); end <= int64(len(f.head)) {
		return copy(b, f.head[off:]), nil
	}
	*f.tries++
	return 0, errBadSector
}

// TestSalvageDeadDisk has a dying disk give nothing but the header and the L1 table
// of a large image: it is not asked for each sector of its tables.
func TestSalvageDeadDisk(t *testing.T) {
	const tables = 2000
	b := bomb{clusterBits: 16, tables: tables, entry: func(int) uint64 { return 0 }}
	head := bomb{clusterBits: 16, tables: 0}.image()
	head = append(head, make([]byte, 65536)...)
	binary.BigEndian.PutUint64(head[24:], tables<<29)
	binary.BigEndian.PutUint32(head[36:], tables)
	for i := range tables {
		binary.BigEndian.PutUint64(head[65536+i*8:], entryCopied|uint64(b.dataOffset())-uint64(tables-i)<<16)
	}
	tries := 0
	v, err := OpenSalvage(t.Context(), deadFile{head, &tries}, b.dataOffset(), SalvageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := v.Loss().Bytes(); n != v.Size() {
		t.Errorf("%d of %d bytes are lost", n, v.Size())
	}
	if tries > 2*maxTableFailures+2*tables {
		t.Errorf("%d reads failed", tries)
	}
}

// TestSalvageMuchDamage overwrites several entries of tables at once. Where bytes
// are read that are not those of the disk, something is said to be lost, but in
// rare cases: refcounts may be damaged where they would have told.
func TestSalvageMuchDamage(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 60
	}
	for name, good := range flipImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := readWhole(t, good)
			if err != nil {
				t.Fatal(err)
			}
			places := tablePlaces(t, good)
			size := int(openSalvage(t, good).Header().ClusterSize())
			random := rand.New(rand.NewPCG(5, 6))
			silent := 0
			for range runs {
				b := bytes.Clone(good)
				for range 1 + random.IntN(8) {
					mutate(random, b, places)
				}
				v, err := OpenSalvage(t.Context(), bytes.NewReader(b), int64(len(b)), SalvageOptions{})
				if err != nil || v.Size() != int64(len(want)) {
					continue
				}
				got, read := readPieces(t, v, size)
				for i, ok := range read {
					if !ok {
						copy(got[i*size:min((i+1)*size, len(got))], want[i*size:])
					}
				}
				if !bytes.Equal(got, want) && v.Loss().Astray == 0 && v.Loss().Bytes() == 0 && unclean(t, b) != "" {
					silent++
				}
			}
			if silent*20 > runs {
				t.Errorf("%d of %d images are read wrongly, and nothing is said", silent, runs)
			}
		})
	}
}
