package scan

import (
	"cmp"
	"slices"
)

// A span is the blocks [start, end) that a group's descriptor, or its
// superblock copy, takes.
type span struct {
	start, end uint64
	group      uint32
}

// A spanList is a list of disjoint spans in ascending order; spans that touch
// are one.
type spanList []span

// add puts spans into the list, or returns the first that overlaps another.
func (l *spanList) add(more []span) (span, bool) {
	slices.SortFunc(more, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	merged := make(spanList, 0, len(*l))
	for old := *l; len(old) > 0 || len(more) > 0; {
		var next span
		if len(more) == 0 || len(old) > 0 && old[0].start < more[0].start {
			next, old = old[0], old[1:]
		} else {
			next, more = more[0], more[1:]
		}
		if n := len(merged) - 1; n >= 0 && merged[n].end >= next.start {
			if merged[n].end > next.start {
				return next, false
			}
			merged[n].end = next.end
			continue
		}
		merged = append(merged, next)
	}
	*l = merged
	return span{}, true
}
