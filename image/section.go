package image

import (
	"errors"
	"io"
)

// A section is a part of an image, an image itself.
type section struct {
	img       Image
	off, size int64
}

// Section returns the size bytes of img from off, which lie within it, as an
// image.
func Section(img Image, off, size int64) Image {
	if off == 0 && size == img.Size() {
		return img
	}
	return &section{img, off, size}
}

func (s *section) Size() int64 { return s.size }

func (s *section) Advice() Advice { return AdviceOf(s.img) }

func (s *section) Damage() error { return DamageOf(s.img) }

func (s *section) ReadAt(p []byte, off int64) (int, error) { return s.ReadFor(p, off, Again) }

func (s *section) ReadFor(p []byte, off int64, use Use) (int, error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	short := s.size-off < int64(len(p))
	if short {
		p = p[:s.size-off]
	}
	n, err := ReadFor(s.img, p, s.off+off, use)
	if lost := (*LostError)(nil); errors.As(err, &lost) {
		err = &LostError{Start: lost.Start - s.off, End: lost.End - s.off, Err: lost.Err}
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (s *section) NextRun(off int64) (start, end int64, err error) {
	return s.next(off, s.img.NextRun)
}

func (s *section) NextData(off int64) (start, end int64, err error) {
	return s.next(off, func(off int64) (start, end int64, err error) { return nextData(s.img, off) })
}

func (s *section) NextLost(off int64) (start, end int64, err error) {
	return s.next(off, func(off int64) (start, end int64, err error) { return NextLost(s.img, off) })
}

// Locate locates bytes as Locator says.
func (s *section) Locate(off, limit int64, read bool) (f File, at, n int64) {
	return Locate(s.img, s.off+off, min(limit, s.size-off), read)
}

// next returns the run that find finds at or after off, cut to the section.
func (s *section) next(off int64, find func(off int64) (start, end int64, err error)) (start, end int64, err error) {
	if off >= s.size {
		return 0, 0, io.EOF
	}
	start, end, err = find(s.off + off)
	if err != nil {
		return 0, 0, err
	}
	if start -= s.off; start >= s.size {
		return 0, 0, io.EOF
	}
	return start, min(end-s.off, s.size), nil
}
