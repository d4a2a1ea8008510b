// Package ranges works with sorted lists of ranges: of bytes, of blocks.
//
//	list     ├──┤        ├─────┤ ├┤      ascending and disjoint
//	Append   ├──┤        ├─────┤ ├┤├──┤  the last one grows where the new one touches it
//	Join     of ranges in any order, which may overlap, makes such a list
//	Find     the first range that ends behind a place
//
// The functions take any type that has the fields of a Range, so that a public
// package can have a type of its own.
package ranges

import (
	"cmp"
	"slices"
	"sort"
)

// A Number is what a range counts in.
type Number interface {
	~int | ~int64 | ~uint64
}

// A Range is everything from Start up to, but without, End.
type Range[N Number] struct{ Start, End N }

// Append adds [start, end) to a list of which no range begins behind start. Where
// the last range reaches to start, that one grows instead.
func Append[R ~struct{ Start, End N }, N Number](list []R, start, end N) []R {
	if start >= end {
		return list
	}
	if n := len(list); n > 0 {
		if last := Range[N](list[n-1]); last.Start <= start && start <= last.End {
			list[n-1] = R{last.Start, max(last.End, end)}
			return list
		}
	}
	return append(list, R{start, end})
}

// Join sorts a list, and joins the ranges that overlap or touch. The result takes
// the place of the list.
func Join[R ~struct{ Start, End N }, N Number](list []R) []R {
	slices.SortFunc(list, func(a, b R) int { return cmp.Compare(Range[N](a).Start, Range[N](b).Start) })
	joined := list[:0]
	for _, r := range list {
		joined = Append(joined, Range[N](r).Start, Range[N](r).End)
	}
	return joined
}

// Find returns the index of the first range of an ascending, disjoint list that
// ends behind at; the length of the list where there is none.
func Find[R ~struct{ Start, End N }, N Number](list []R, at N) int {
	return sort.Search(len(list), func(i int) bool { return Range[N](list[i]).End > at })
}

// Overlap reports whether two ranges have something in common.
func Overlap[R ~struct{ Start, End N }, N Number](a, b R) bool {
	x, y := Range[N](a), Range[N](b)
	return x.Start < y.End && y.Start < x.End
}
