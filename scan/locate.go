package scan

import "e2qcow/image"

// Locate locates the blocks of the map in the source, as image.Locator says,
// except those of which a read returns something else: blocks whose end is
// unused, and bytes that could not be read. Before a read it locates nothing.
func (v *View) Locate(off, limit int64, read bool) (f image.File, at, n int64) {
	end := min(off+limit, v.size, v.dev.size)
	if !read || off < 0 || off >= end {
		return nil, 0, max(limit, 1)
	}
	start, stop, err := v.NextRun(off)
	switch {
	case err != nil || start >= end:
		return nil, 0, end - off
	case start > off:
		return nil, 0, start - off
	}
	end = min(end, stop)
	if s, e, ok := v.slack.blocks.next(uint64(off / v.blockSize)); ok {
		from, to := int64(s)*v.blockSize, int64(e)*v.blockSize
		if from <= off {
			return nil, 0, min(end, to) - off
		}
		end = min(end, from)
	}
	for _, lost := range v.dev.lostIn(off, end) {
		if lost.Start <= off {
			return nil, 0, min(end, lost.End) - off
		}
		end = min(end, lost.Start)
	}
	return image.Locate(v.dev.r, off, end-off, read)
}
