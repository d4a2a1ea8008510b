package scan

import (
	"cmp"
	"slices"
)

// A span is the blocks [start, end) that a group's descriptor, or its
// superblock copy, takes.
type span struct {
	start, end uint64
	group      uint32 // of the first block
}

// spans gathers what a window of groups takes. Spans that touch are one: those
// of one kind in a flex group, or those of all kinds in a group.
type spans struct {
	open [3]span // the last of each kind, unless empty
	list []span
}

func newSpans(most int) *spans { return &spans{list: make([]span, 0, most)} }

// add takes in a span of some kind.
func (s *spans) add(kind int, next span) {
	for i := range s.open {
		if o := &s.open[i]; o.end == next.start && o.start < o.end {
			o.end = next.end
			return
		}
	}
	s.close(kind)
	s.open[kind] = next
}

func (s *spans) close(kind int) {
	if o := s.open[kind]; o.start < o.end {
		s.list = append(s.list, o)
	}
}

// addTo adds all spans to a set, or returns the first that lies on another or
// on what is there.
func (s *spans) addTo(set *blockSet) (span, bool) {
	for kind := range s.open {
		s.close(kind)
	}
	slices.SortFunc(s.list, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	end := uint64(0)
	for _, next := range s.list {
		if n := next.end - next.start; next.start < end || set.countIn(next.start, n) > 0 {
			return next, false
		}
		end = next.end
	}
	// Where a long run comes first the set remembers runs, not blocks.
	for _, long := range [...]bool{true, false} {
		for _, next := range s.list {
			if n := next.end - next.start; n > shortRun == long {
				set.add(next.start, n)
			}
		}
	}
	return span{}, true
}
