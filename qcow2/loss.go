package qcow2

import (
	"fmt"

	"e2qcow/internal/ranges"
)

// A Range is a range of bytes [Start, End).
type Range struct{ Start, End int64 }

// A LossKind says what was lost of an image.
type LossKind int

// The kinds of losses.
const (
	LostCluster   LossKind = iota // an L2 entry leads nowhere, or its cluster is cut off
	LostDoubtful                  // a cluster that more than one entry claims, or that refcounts call free
	LostTablePart                 // a part of an L2 table cannot be read, or holds something else
	LostTable                     // an L2 table
	LostL1                        // an entry of the L1 table cannot be read
	LostBacking                   // it would come from the backing file
	lossKinds     = iota
)

// A LossCount is how many things of a kind were lost.
type LossCount struct {
	Count int64
	Bytes int64 // of the disk
}

// A Loss is what cannot be read of the disk in a damaged image.
type Loss struct {
	Ranges   []Range // of the disk; ascending and disjoint
	Kinds    [lossKinds]LossCount
	Findings []Finding // why; the first MaxFindings

	// Astray is how many clusters of the file are in use while nothing leads to
	// them, beyond those that lost tables and entries may have led to. If they were
	// a part of the disk, that part now reads as zero, and nobody knows which.
	Astray int64
}

// Bytes returns how many bytes of the disk are lost.
func (l *Loss) Bytes() (n int64) {
	for _, r := range l.Ranges {
		n += r.End - r.Start
	}
	return n
}

// maxLostRanges bounds the list of a Loss. Ranges that lie near one another are
// joined then, and what is between them is lost with them.
const maxLostRanges = 1 << 18

// A lossList makes a Loss.
type lossList struct {
	Loss
	size int64 // of the disk
	gap  int64 // ranges this near are joined; 0 if there is room for all
}

// add loses [start, end) of the disk, for what is at offset at of the file.
func (l *lossList) add(kind LossKind, start, end, at int64, format string, args ...any) {
	end = min(end, l.size)
	if start >= end {
		return
	}
	l.Kinds[kind].Count++
	l.Kinds[kind].Bytes += end - start
	if len(l.Findings) < MaxFindings {
		l.Findings = append(l.Findings, Finding{Severity: Corruption, Offset: at, Guest: start, What: fmt.Sprintf(format, args...)})
	}
	l.Ranges = ranges.Append(l.Ranges, start, end)
	if len(l.Ranges) >= 2*maxLostRanges {
		l.join()
	}
}

// join sorts and joins the list, so that it is within its bound.
func (l *lossList) join() {
	l.Ranges = ranges.Join(l.Ranges)
	for len(l.Ranges) > maxLostRanges || l.gap > 0 {
		near := l.Ranges[:0]
		for _, r := range l.Ranges {
			if n := len(near); n > 0 && r.Start-near[n-1].End <= l.gap {
				near[n-1].End = r.End
				continue
			}
			near = append(near, r)
		}
		l.Ranges = near
		if len(l.Ranges) <= maxLostRanges {
			return
		}
		l.gap = max(4096, 2*l.gap)
	}
}

// next returns the first range that ends behind off.
func (l *Loss) next(off int64) (Range, bool) {
	if i := ranges.Find(l.Ranges, off); i < len(l.Ranges) {
		return l.Ranges[i], true
	}
	return Range{}, false
}
