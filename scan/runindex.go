package scan

import (
	"encoding/binary"
	"iter"
	"sort"
)

// A runIndex is a frozen, ascending list of runs of blocks: for each the gap
// before it and its length as varints, three to four bytes a run, with a
// checkpoint of 16 bytes every checkpointRuns runs to search from.
type runIndex struct {
	data        []byte
	checkpoints []checkpoint
	blocks      uint64 // in all runs
	last        uint64 // end of the last
}

type checkpoint struct {
	block uint64 // end of the run before
	off   int    // in data
}

// checkpointRuns bounds the number of runs that are decoded to find one. That
// is most of the cost of a lookup.
const checkpointRuns = 16

func newRunIndex(runs iter.Seq2[uint64, uint64]) *runIndex {
	x := new(runIndex)
	var last, start, end uint64
	n := 0
	put := func() {
		if n%checkpointRuns == 0 {
			x.checkpoints = append(x.checkpoints, checkpoint{last, len(x.data)})
		}
		x.data = binary.AppendUvarint(x.data, start-last)
		x.data = binary.AppendUvarint(x.data, end-start)
		x.blocks += end - start
		last = end
		n++
	}
	for s, e := range runs {
		if end > start && s <= end {
			end = e // goes on across a border of the set's bitmaps
			continue
		}
		if end > start {
			put()
		}
		start, end = s, e
	}
	if end > start {
		put()
	}
	x.last = last
	return x
}

// next returns the first run that ends behind block; false if there is none.
func (x *runIndex) next(block uint64) (start, end uint64, ok bool) {
	i := sort.Search(len(x.checkpoints), func(i int) bool { return x.checkpoints[i].block > block })
	if i == 0 {
		return 0, 0, false // no run at all: the first checkpoint is at block 0
	}
	c := x.checkpoints[i-1]
	for at, off := c.block, c.off; off < len(x.data); {
		gap, n := binary.Uvarint(x.data[off:])
		off += n
		length, n := binary.Uvarint(x.data[off:])
		off += n
		start, at = at+gap, at+gap+length
		if at > block {
			return start, at, true
		}
	}
	return 0, 0, false
}
