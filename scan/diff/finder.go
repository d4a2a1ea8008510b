package diff

import (
	"errors"
	"io"
	"math"
)

// A finder returns the first run of bytes at or after off; io.EOF where there
// is none.
type finder func(off int64) (start, end int64, err error)

// candidates returns a finder of what can differ.
func (c *comparison) candidates() finder {
	if c.opt.Changes != nil {
		return c.opt.Changes.NextChange
	}
	data := union(c.side[0].runs().cached(), c.side[1].runs().cached())
	if c.opt.Contents {
		return data
	}
	// Where both images have a hole, nothing differs.
	return intersection(union(c.side[0].metadata().cached(), c.side[1].metadata().cached()), data)
}

// metadata returns a finder of the blocks in the map, in whole blocks.
func (s *side) metadata() finder {
	view, bs := s.res.View(), int64(s.geo.BlockSize)
	return func(off int64) (start, end int64, err error) {
		start, end, err = view.NextRun(off)
		return start / bs * bs, end + (bs-end%bs)%bs, err
	}
}

// cached returns a finder that asks another only where its last answer does not
// tell.
func (f finder) cached() finder {
	var asked, start, end int64
	return func(off int64) (int64, int64, error) {
		if off < asked || off >= end {
			var err error
			if start, end, err = f(off); err != nil {
				asked, start, end = 0, 0, 0
				return 0, 0, err
			}
			asked = off
		}
		return max(start, off), end, nil
	}
}

// union returns a finder of what either of two finds. A run that both have in
// part comes in pieces.
func union(a, b finder) finder {
	return func(off int64) (start, end int64, err error) {
		s1, e1, err1 := a(off)
		s2, e2, err2 := b(off)
		for _, err := range []error{err1, err2} {
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, 0, err
			}
		}
		switch {
		case err1 != nil && err2 != nil:
			return 0, 0, io.EOF
		case err1 != nil:
			s1 = math.MaxInt64
		case err2 != nil:
			s2 = math.MaxInt64
		}
		s1, s2 = max(s1, off), max(s2, off)
		switch {
		case s1 == s2 && err1 == nil && err2 == nil:
			return s1, max(e1, e2), nil
		case s1 < s2:
			return s1, e1, nil
		}
		return s2, e2, nil
	}
}

// intersection returns a finder of what two find.
func intersection(a, b finder) finder {
	return func(off int64) (start, end int64, err error) {
		for {
			s1, e1, err := a(off)
			if err != nil {
				return 0, 0, err
			}
			s1 = max(s1, off)
			s2, e2, err := b(s1)
			if err != nil {
				return 0, 0, err
			}
			if s2 = max(s2, s1); s2 < e1 {
				return s2, min(e1, e2), nil
			}
			off = s2
		}
	}
}
