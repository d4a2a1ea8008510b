package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
						t.Errorf("byte %#x, bit %#x: %v, though %s", at, bit, err, what)
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
	own, err := m.find(guest, 1)
	if err != nil {
		return false
	}
	cluster := uint64(own.host) >> h.ClusterBits
	if own.kind == mapPacked {
		off, _ := packedPlace(own.desc, h.ClusterBits)
		cluster = uint64(off) >> h.ClusterBits
	}
	if led&entryCompressed != 0 {
		off, n := packedPlace(led, h.ClusterBits)
		return cluster >= uint64(off)>>h.ClusterBits && cluster <= uint64(off+n-1)>>h.ClusterBits
	}
	return cluster == led&entryOffset>>h.ClusterBits
}
