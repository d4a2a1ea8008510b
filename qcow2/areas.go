package qcow2

import (
	"cmp"
	"slices"
	"sort"
)

// areas are the parts of a file where the reader finds what is where: header,
// L1 table and L2 tables, ascending, merged where they touch. Refcounts are not
// among them: where they are damaged, the data is still right.
type areas []area

type area struct{ start, end int64 }

// tableAreas returns the areas of the image, as far as they are aligned and
// within the file: what is wrong with the others is told where they are used,
// if they are.
func (m *Image) tableAreas() areas {
	size := m.header.ClusterSize()
	list := areas{{0, size}}
	add := func(off uint64, n int64) {
		if n == 0 || off == 0 || off%uint64(size) != 0 || off >= uint64(m.fileSize) {
			return
		}
		start := int64(off)
		end := start + min(n, m.fileSize-start)
		// Tables mostly lie one behind the other.
		if last := &list[len(list)-1]; start >= last.start && start <= last.end {
			last.end = max(last.end, end)
			return
		}
		list = append(list, area{start, end})
	}
	add(m.header.L1Offset, int64(m.header.L1Entries)*8)
	for _, entry := range m.l1 {
		add(entry&entryOffset, size)
	}
	return list.merge()
}

// merge sorts the list and joins what overlaps or touches.
func (list areas) merge() areas {
	slices.SortFunc(list, func(a, b area) int { return cmp.Compare(a.start, b.start) })
	n := 0
	for _, a := range list[1:] {
		if a.start <= list[n].end {
			list[n].end = max(list[n].end, a.end)
			continue
		}
		n++
		list[n] = a
	}
	return slices.Clip(list[:n+1])
}

// hit returns whether any of the n bytes from off on is in an area.
func (list areas) hit(off, n int64) bool {
	i := sort.Search(len(list), func(i int) bool { return list[i].end > off })
	return i < len(list) && list[i].start < off+n
}
