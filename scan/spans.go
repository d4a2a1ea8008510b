package scan

import (
	"cmp"
	"slices"

	"e2qcow/internal/ranges"
)

// A span is blocks that a group's descriptor, or its
// superblock copy, takes.
type span struct {
	ranges.Range[uint64]
	group uint32 // of the first block
}

// spans gathers what a window of groups takes. Spans that touch are one: those
// of one kind in a flex group, or those of all kinds in a group.
type spans struct {
	open [3]span // the last of each kind, unless empty
	list []span
}

func newSpans(most int) *spans { return &spans{list: make([]span, 0, most)} }

// add adds a span of some kind.
func (s *spans) add(kind int, next span) {
	for i := range s.open {
		if o := &s.open[i]; o.End == next.Start && o.Start < o.End {
			o.End = next.End
			return
		}
	}
	s.close(kind)
	s.open[kind] = next
}

func (s *spans) close(kind int) {
	if o := s.open[kind]; o.Start < o.End {
		s.list = append(s.list, o)
	}
}

// addTo adds all spans to a set, or returns the first that lies on another or
// on what is there.
func (s *spans) addTo(set *blockSet) (span, bool) {
	for kind := range s.open {
		s.close(kind)
	}
	slices.SortFunc(s.list, func(a, b span) int { return cmp.Compare(a.Start, b.Start) })
	end := uint64(0)
	for _, next := range s.list {
		if n := next.End - next.Start; next.Start < end || set.countIn(next.Start, n) > 0 {
			return next, false
		}
		end = next.End
	}
	// Where a long run comes first the set remembers runs, not blocks.
	for _, long := range [...]bool{true, false} {
		for _, next := range s.list {
			if n := next.End - next.Start; n > shortRun == long {
				set.add(next.Start, n)
			}
		}
	}
	return span{}, true
}
