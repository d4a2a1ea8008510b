package image

import (
	"errors"
	"io"
	"testing"
)

// gone is an image of 100 bytes of which 40 to 60 are lost.
type gone struct{ halfZero }

func (gone) ReadAt(p []byte, off int64) (int, error) {
	if off < 60 && off+int64(len(p)) > 40 {
		return int(max(0, 40-off)), &LostError{Start: 40, End: 60, Err: io.ErrUnexpectedEOF}
	}
	return len(p), nil
}

func (gone) NextLost(off int64) (start, end int64, err error) {
	if off >= 60 {
		return 0, 0, io.EOF
	}
	return max(off, 40), 60, nil
}

// TestLost has parts of an image, and its data, know what is lost of it in their
// own offsets.
func TestLost(t *testing.T) {
	for name, c := range map[string]struct {
		img        Image
		start, end int64
		failed     Range
	}{
		"the image":         {gone{}, 40, 60, Range{40, 60}},
		"its data":          {Data(gone{}), 40, 60, Range{40, 60}},
		"a section":         {Section(gone{}, 30, 50), 10, 30, Range{10, 30}},
		"a part of it":      {Section(gone{}, 50, 30), 0, 10, Range{-10, 10}},
		"data of a section": {Data(Section(gone{}, 30, 20)), 10, 20, Range{10, 30}},
	} {
		if start, end, err := NextLost(c.img, 0); err != nil || start != c.start || end != c.end {
			t.Errorf("%s: lost from %d to %d, %v", name, start, end, err)
		}
		n, err := c.img.ReadAt(make([]byte, 15), 0)
		if c.start < 15 {
			var lost *LostError
			if !errors.As(err, &lost) || lost.Start != c.failed.Start || lost.End != c.failed.End || int64(n) != c.start || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: read %d, %v", name, n, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NextLost(halfZero{}, 0); !errors.Is(err, io.EOF) {
		t.Errorf("an image that knows of no loss: %v", err)
	}
	if _, _, err := NextLost(Section(gone{}, 0, 30), 0); !errors.Is(err, io.EOF) {
		t.Errorf("a section before the loss: %v", err)
	}
}

// A Range is a range of bytes.
type Range struct{ Start, End int64 }
