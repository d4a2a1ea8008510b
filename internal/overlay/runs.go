package overlay

import (
	"errors"
	"io"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/image"
)

// tabledFrom returns the chunks from first on that have a table.
func (o *Overlay) tabledFrom(first int64) roaring.IntPeekable {
	it := o.tabled.Iterator()
	it.AdvanceIfNeeded(uint32(first))
	return it
}

// nextTouched returns the first chunk at or after chunk that is cleared or has a
// table, up to which chunk the same holds, and whether these are cleared.
func (o *Overlay) nextTouched(chunk int64) (first, end int64, cleared bool, err error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	tabled, isTabled := next(o.tabled, chunk)
	first, isCleared := next(o.cleared, chunk)
	switch {
	case !isTabled && !isCleared:
		return 0, 0, false, io.EOF
	case !isCleared, isTabled && tabled < first:
		return tabled, tabled + 1, false, nil
	}
	before := o.cleared.Rank(uint32(first)) - 1
	n := sort.Search(int((o.size+chunkSize-1)/chunkSize-first), func(n int) bool {
		return o.cleared.Rank(uint32(first)+uint32(n))-before != uint64(n)+1
	})
	return first, first + int64(n), true, nil
}

// next returns the first member of a set at or after n.
func next(set *roaring.Bitmap, n int64) (int64, bool) {
	if n > (1<<32)-1 {
		return 0, false
	}
	v := set.NextValue(uint32(n))
	return v, v >= 0
}

// NextChange returns the bounds [start, end) of the first run at or after off
// that may read otherwise than the base does: whole blocks, as far as the disk
// goes; io.EOF where there is none. A caller that writes meanwhile sees each
// block as it was at some time.
func (o *Overlay) NextChange(off int64) (start, end int64, err error) {
	start, end, err = o.nextRun(off, func(v uint32) bool { return v != sameBlock }, true)
	if err != nil {
		return 0, 0, err
	}
	for end < o.size {
		s, e, err := o.nextRun(end, func(v uint32) bool { return v != sameBlock }, true)
		if errors.Is(err, io.EOF) || err == nil && s > end {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		end = e
	}
	return start, end, nil
}

// nextRun returns a run of blocks of the kind that is wanted, within a chunk, or
// of cleared chunks if these are wanted.
func (o *Overlay) nextRun(off int64, wanted func(uint32) bool, cleared bool) (start, end int64, err error) {
	for off < o.size {
		first, last, isCleared, err := o.nextTouched(off / chunkSize)
		if err != nil {
			return 0, 0, err
		}
		off = max(off, first*chunkSize)
		if isCleared {
			if cleared {
				return off, min(last*chunkSize, o.size), nil
			}
			off = last * chunkSize
			continue
		}
		if start, end, ok := o.runIn(uint32(first), off, wanted); ok {
			return start, end, nil
		}
		off = (first + 1) * chunkSize
	}
	return 0, 0, io.EOF
}

// runIn returns the first run of blocks of a chunk of the kind that is wanted.
func (o *Overlay) runIn(chunk uint32, off int64, wanted func(uint32) bool) (start, end int64, ok bool) {
	s := o.shard(chunk)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[chunk]
	if t == nil {
		return 0, 0, false // it has been cleared meanwhile
	}
	base := int64(chunk) * chunkSize
	i := int((off - base) / BlockSize)
	for i < chunkBlocks && !wanted(t[i]) {
		i++
	}
	if i == chunkBlocks {
		return 0, 0, false
	}
	start = max(off, base+int64(i)*BlockSize)
	for i < chunkBlocks && wanted(t[i]) {
		i++
	}
	end = min(base+int64(i)*BlockSize, o.size)
	return start, end, start < end
}

// NextRun returns the next run that the base knows, or that is changed.
func (o *Overlay) NextRun(off int64) (start, end int64, err error) {
	return o.union(o.base.NextRun, o.NextChange, off)
}

// NextData is NextRun without what is changed to zeros.
func (o *Overlay) NextData(off int64) (start, end int64, err error) {
	written := func(off int64) (int64, int64, error) {
		return o.nextRun(off, func(v uint32) bool { return v >= firstSlot }, false)
	}
	same := func(off int64) (int64, int64, error) { return o.nextSame(off) }
	return o.union(same, written, off)
}

// nextSame returns the next run of data of the base that is not changed.
func (o *Overlay) nextSame(off int64) (start, end int64, err error) {
	data := image.Data(o.base)
	for off < o.size {
		if start, end, err = data.NextRun(off); err != nil {
			return 0, 0, err
		}
		from, to, err := o.NextChange(start)
		switch {
		case errors.Is(err, io.EOF):
			return start, end, nil
		case err != nil:
			return 0, 0, err
		case from > start:
			return start, min(end, from), nil
		}
		off = to
	}
	return 0, 0, io.EOF
}

// union returns the next run of either of two lists of runs.
func (o *Overlay) union(a, b func(int64) (int64, int64, error), off int64) (start, end int64, err error) {
	nextOf := func(f func(int64) (int64, int64, error), off int64) (int64, int64, error) {
		start, end, err := f(off)
		if errors.Is(err, io.EOF) {
			return o.size, o.size, nil
		}
		return start, end, err
	}
	if off < 0 {
		off = 0
	}
	for first := true; off < o.size || first; first = false {
		as, ae, err := nextOf(a, off)
		if err != nil {
			return 0, 0, err
		}
		bs, be, err := nextOf(b, off)
		if err != nil {
			return 0, 0, err
		}
		s, e := as, ae
		if bs < as {
			s, e = bs, be
		}
		if as == bs {
			e = max(ae, be)
		}
		switch {
		case first && s >= o.size:
			return 0, 0, io.EOF
		case first:
			start, end = s, e
		case s > end:
			return start, end, nil
		default:
			end = max(end, e)
		}
		off = end
	}
	return start, end, nil
}

// Changes returns what is changed as an image of its own, in runs of whole
// clusters of size bytes, a multiple of BlockSize: that of a qcow2 file over the
// base.
func (o *Overlay) Changes(size int64) image.Image { return &changes{o, size} }

type changes struct {
	o       *Overlay
	cluster int64
}

func (c *changes) Size() int64 { return c.o.Size() }

func (c *changes) ReadAt(b []byte, off int64) (int, error) { return c.o.ReadAt(b, off) }

func (c *changes) Damage() error { return c.o.Damage() }

func (c *changes) NextRun(off int64) (start, end int64, err error) {
	// A change before off can lie in the cluster that off is in.
	start, end, err = c.o.NextChange(off - off%c.cluster)
	if err != nil {
		return 0, 0, err
	}
	grow := func() {
		start -= start % c.cluster
		end = min((end+c.cluster-1)/c.cluster*c.cluster, c.o.size)
	}
	grow()
	for end <= off || end < c.o.size {
		s, e, err := c.o.NextChange(end)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		if end > off && s-s%c.cluster > end {
			break
		}
		if end <= off {
			start = s
		}
		end = e
		grow()
	}
	if end <= off {
		return 0, 0, io.EOF
	}
	return max(start, off), end, nil
}

// NextData is NextRun: a zero that is changed hides what the base has.
func (c *changes) NextData(off int64) (start, end int64, err error) { return c.NextRun(off) }
