package scan

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"e2qcow/image"
)

// A torn is an image of which ranges are lost, some of them without its knowledge.
// It counts its reads.
type torn struct {
	data          []byte
	known, hidden []Range
	reads         int
}

func (d *torn) Size() int64 { return int64(len(d.data)) }

func (d *torn) NextRun(off int64) (start, end int64, err error) {
	if off >= d.Size() {
		return 0, 0, io.EOF
	}
	return off, d.Size(), nil
}

func (d *torn) NextLost(off int64) (start, end int64, err error) {
	for _, r := range d.known {
		if r.End > off {
			return max(r.Start, off), r.End, nil
		}
	}
	return 0, 0, io.EOF
}

func (d *torn) ReadAt(p []byte, off int64) (int, error) {
	d.reads++
	for _, r := range slices.Concat(d.known, d.hidden) {
		if r.Start < off+int64(len(p)) && r.End > off {
			n := copy(p, d.data[off:max(off, r.Start)])
			return n, &image.LostError{Start: r.Start, End: r.End, Err: io.ErrUnexpectedEOF}
		}
	}
	return copy(p, d.data[off:]), nil
}

// TestRescue reads an image of which a part is lost: it costs a read for each lost
// range, not one for each sector.
func TestRescue(t *testing.T) {
	const size = 64 << 20
	d := &torn{data: bytes.Repeat([]byte{1}, size), known: []Range{{1 << 20, 32 << 20}}, hidden: []Range{{40 << 20, 40<<20 + 65536}, {size - 512, size}}}
	for name, img := range map[string]image.Image{"whole": d, "part": image.Section(d, 512, size-512)} {
		d.reads = 0
		shift := size - img.Size()
		r, err := NewRescue(t.Context(), img, 1)
		if err != nil {
			t.Fatal(err)
		}
		start, end, err := r.NextRun(0)
		if err != nil || start != 0 || end != 1<<20-shift {
			t.Errorf("%s: a run from %d to %d, %v", name, start, end, err)
		}
		if start, _, err = r.NextData(end); err != nil || start != 32<<20-shift {
			t.Errorf("%s: data from %d, %v", name, start, err)
		}
		b := make([]byte, img.Size())
		if n, err := r.ReadAt(b, 0); n != len(b) || err != nil {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		want := bytes.Clone(d.data[shift:])
		var lost []Range
		for _, l := range slices.Concat(d.known, d.hidden) {
			lost = append(lost, Range{l.Start - shift, l.End - shift})
			clear(want[l.Start-shift : l.End-shift])
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%s: other bytes than those that are left", name)
		}
		if got := r.Unreadable(); !slices.Equal(got, lost) {
			t.Errorf("%s: lost %v, want %v", name, got, lost)
		}
		if d.reads > 8 {
			t.Errorf("%s: %d reads", name, d.reads)
		}
	}
}

// TestLostOutside is of an image whose error names a range that it did not read:
// that is a failed read like any other.
func TestLostOutside(t *testing.T) {
	d := &device{r: wrongPlace{}, size: 2 * sector}
	b := []byte{1, 1}
	d.read(b, 0)
	if !bytes.Equal(b, []byte{0, 0}) || !slices.Equal(d.unreadable(), []Range{{0, sector}}) {
		t.Errorf("%v, lost %v", b, d.unreadable())
	}
	if !errors.Is(d.failure().Err, io.ErrNoProgress) {
		t.Errorf("failed with %v", d.failure().Err)
	}
}

type wrongPlace struct{}

func (wrongPlace) ReadAt([]byte, int64) (int, error) {
	return 0, &image.LostError{Start: 4096, End: 8192, Err: io.ErrNoProgress}
}
