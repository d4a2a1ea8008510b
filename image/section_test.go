package image

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// A disk is bytes of which two runs are known.
type disk struct{ *bytes.Reader }

func (d disk) NextRun(off int64) (start, end int64, err error) {
	for _, r := range [][2]int64{{10, 20}, {30, 40}} {
		if off < r[1] {
			return max(off, r[0]), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

func TestSection(t *testing.T) {
	b := make([]byte, 50)
	for i := range b {
		b[i] = byte(i)
	}
	d := disk{bytes.NewReader(b)}
	if Section(d, 0, 50) != Image(d) {
		t.Error("the whole is a part")
	}
	s := Section(d, 15, 20)
	if s.Size() != 20 {
		t.Errorf("size %d", s.Size())
	}
	var runs [][2]int64
	for off := int64(0); ; {
		start, end, err := s.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		runs = append(runs, [2]int64{start, end})
		off = end
	}
	if len(runs) != 2 || runs[0] != [2]int64{0, 5} || runs[1] != [2]int64{15, 20} {
		t.Errorf("runs %v", runs)
	}
	for _, test := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 3, "\x0f\x10\x11", nil},
		{18, 2, "!\"", nil},
		{18, 3, "!\"", io.EOF},
		{20, 1, "", io.EOF},
		{-1, 1, "", io.EOF},
	} {
		p := make([]byte, test.n)
		if n, err := s.ReadAt(p, test.off); string(p[:n]) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%d bytes at %d: %q, %v", test.n, test.off, p[:n], err)
		}
	}
	if _, _, err := Section(d, 20, 10).NextRun(0); !errors.Is(err, io.EOF) {
		t.Errorf("a run where there is none: %v", err)
	}
}
