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
	sortSpans(more)
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

// sortSpans sorts by start what is a few ascending parts, unless damaged: those
// are merged, one with the next, till one is left.
func sortSpans(spans []span) {
	const fewParts = 16
	starts := make([]int, 1, fewParts+1)
	for i := 1; i < len(spans); i++ {
		if spans[i].start < spans[i-1].start {
			if len(starts) == fewParts {
				slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
				return
			}
			starts = append(starts, i)
		}
	}
	starts = append(starts, len(spans))
	merged := make([]span, 0, len(spans))
	for len(starts) > 2 {
		merged = merged[:0]
		ends := starts[:1]
		for i := 1; i < len(starts); i += 2 {
			a, b := spans[starts[i-1]:starts[i]], []span(nil)
			if i+1 < len(starts) {
				b = spans[starts[i]:starts[i+1]]
			}
			for len(a) > 0 && len(b) > 0 {
				if a[0].start <= b[0].start {
					merged, a = append(merged, a[0]), a[1:]
				} else {
					merged, b = append(merged, b[0]), b[1:]
				}
			}
			merged = append(append(merged, a...), b...)
			ends = append(ends, len(merged))
		}
		copy(spans, merged)
		starts = ends
	}
}
