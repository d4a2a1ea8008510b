package scan

import (
	"errors"
	"io"
	"math"

	"e2qcow/image"
)

// A hole shorter than leastHole is read like the rest. As much is read before
// the source is asked again: the questions cost less than the reading.
const leastHole = 256 << 10

// holes finds parts of a source that are known to be zero without reading them.
// It remembers the last hole and the last run of data.
type holes struct {
	source interface { // nil where the source does not say
		NextRun(off int64) (start, end int64, err error)
	}
	hole, run Range
}

// holesOf returns the holes of a device. A bad area is not a hole.
func holesOf(dev *device) (h holes) {
	if img, ok := dev.r.(image.Image); ok && len(dev.bad) == 0 {
		h.source = img
	}
	return h
}

// data returns the first part of [off, end) that must be read; it begins at end
// if there is none.
func (h *holes) data(off, end int64) (start, stop int64) {
	for off < end && h.source != nil {
		switch {
		case off >= h.hole.Start && off < h.hole.End:
			off = min(h.hole.End, end)
		case off >= h.run.Start && off < h.run.End:
			return off, min(h.run.End, end)
		default:
			h.ask(off)
		}
	}
	return off, end
}

// ask finds out whether off is in a hole or in a run.
func (h *holes) ask(off int64) {
	start, end, err := h.source.NextRun(off)
	switch {
	case errors.Is(err, io.EOF):
		h.hole = Range{off, math.MaxInt64}
	case err != nil || start < off || end <= start:
		h.source = nil // what it says is of no use
	default:
		if start-off >= leastHole {
			h.hole = Range{off, start}
			off = start
		}
		h.run = Range{off, max(end, off+leastHole)}
	}
}
