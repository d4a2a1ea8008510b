package image

import (
	"errors"
	"io"
	"testing"
)

// halfZero is an image of 100 bytes, all known, of which the first 50 are known
// to be zero.
type halfZero struct{}

func (halfZero) Size() int64 { return 100 }

func (halfZero) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }

func (halfZero) NextRun(off int64) (start, end int64, err error) {
	if off >= 100 {
		return 0, 0, io.EOF
	}
	return off, 100, nil
}

func (halfZero) NextData(off int64) (start, end int64, err error) {
	if off >= 100 {
		return 0, 0, io.EOF
	}
	return max(off, 50), 100, nil
}

func TestData(t *testing.T) {
	for name, c := range map[string]struct {
		img        Image
		start, end int64
	}{
		"the image":              {halfZero{}, 0, 100},
		"its data":               {Data(halfZero{}), 50, 100},
		"data of data":           {Data(Data(halfZero{})), 50, 100},
		"a section":              {Section(halfZero{}, 40, 30), 0, 30},
		"data of a section":      {Data(Section(halfZero{}, 40, 30)), 10, 30},
		"data of another reader": {Data(Section(struct{ Image }{halfZero{}}, 0, 100)), 0, 100},
	} {
		if start, end, err := c.img.NextRun(0); err != nil || start != c.start || end != c.end {
			t.Errorf("%s: %d to %d, %v; want %d to %d", name, start, end, err, c.start, c.end)
		}
		if _, _, err := c.img.NextRun(c.end); !errors.Is(err, io.EOF) {
			t.Errorf("%s, behind: %v", name, err)
		}
	}
}
