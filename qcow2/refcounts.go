package qcow2

import (
	"maps"
	"slices"
)

const (
	// countPage is how many clusters of the file a page counts.
	countPage = 4096

	// maxCountPages is how many pages a pass counts: 64 MiB. The tables are
	// walked anew for as many other pages.
	maxCountPages = 8192

	// maxLaterPages bounds the numbers of pages that wait for a later pass.
	maxLaterPages = 1 << 20

	countMask = 1<<15 - 1
	exclusive = 1 << 15 // referenced as what nothing else may share
)

// refCounts count references to the clusters of a file, in pages that are made
// when a cluster of theirs is first used: clusters may lie far apart. Pages that
// do not fit a pass wait for a later one.
type refCounts struct {
	pages    map[uint64]*[countPage]uint16
	later    map[uint64]struct{}
	pass     int  // 0 is the first, which finds out what pages there are
	overflow bool // more pages than maxLaterPages
}

// of returns the count of a cluster, or nil if another pass counts it.
func (r *refCounts) of(cluster uint64) *uint16 {
	if count := r.seen(cluster); count != nil || r.pass > 0 {
		return count
	}
	if page := r.add(cluster / countPage); page != nil {
		return &page[cluster%countPage]
	}
	return nil
}

// seen returns the count of a cluster, or nil if this pass does not count it.
func (r *refCounts) seen(cluster uint64) *uint16 {
	if page := r.pages[cluster/countPage]; page != nil {
		return &page[cluster%countPage]
	}
	return nil
}

// add makes page n if the first pass has room for it; else it puts the page off.
func (r *refCounts) add(n uint64) *[countPage]uint16 {
	switch {
	case len(r.pages) < maxCountPages:
		if r.pages == nil {
			r.pages = make(map[uint64]*[countPage]uint16)
		}
		page := new([countPage]uint16)
		r.pages[n] = page
		return page
	case len(r.later) < maxLaterPages:
		if r.later == nil {
			r.later = make(map[uint64]struct{})
		}
		r.later[n] = struct{}{}
	default:
		if _, ok := r.later[n]; !ok {
			r.overflow = true
		}
	}
	return nil
}

// numbers returns the numbers of the pages of this pass, ascending.
func (r *refCounts) numbers() []uint64 { return slices.Sorted(maps.Keys(r.pages)) }

// next goes on to the pages of the next pass; false if there are none.
func (r *refCounts) next() bool {
	if len(r.later) == 0 {
		return false
	}
	r.pass++
	list := slices.Sorted(maps.Keys(r.later))
	list = list[:min(len(list), maxCountPages)]
	free := slices.Collect(maps.Values(r.pages))
	clear(r.pages)
	for i, n := range list {
		delete(r.later, n)
		page := free[i] // the first pass had as many
		clear(page[:])
		r.pages[n] = page
	}
	return true
}
