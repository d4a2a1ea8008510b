package qcow2

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// areas are the parts of a file that header and tables fill, ascending, merged
// where they touch.
type areas []area

type area struct{ start, end int64 }

// readAreas returns where header, L1 table, L2 tables, refcount table and refcount
// blocks are, as far as they are aligned and within the file: what is wrong
// with the others is told where they are used, if they are.
func (m *Image) readAreas() (areas, error) {
	h := m.header
	size := h.ClusterSize()
	list := areas{{0, size}}
	add := func(off uint64, n int64) {
		if n > 0 && off != 0 && off%uint64(size) == 0 && off < uint64(m.fileSize) {
			list = append(list, area{int64(off), int64(off) + min(n, m.fileSize-int64(off))})
		}
	}
	add(h.L1Offset, int64(h.L1Entries)*8)
	for _, entry := range m.l1 {
		add(entry&entryOffset, size)
	}
	tableLen := int64(h.RefcountTableLength) * size
	add(h.RefcountTableOffset, tableLen)
	const reserved = 1<<9 - 1
	end := min(int64(h.RefcountTableOffset)+tableLen, m.fileSize)
	buf := make([]byte, max(0, min(end-int64(h.RefcountTableOffset), 64<<10)))
	for off := int64(h.RefcountTableOffset); off < end; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), end-off)]
		if n, err := m.r.ReadAt(b, off); n < len(b) {
			return nil, fmt.Errorf("read qcow2 refcount table at %#x: %w", off, unexpectedEOF(err))
		}
		for ; len(b) >= 8; b = b[8:] {
			add(binary.BigEndian.Uint64(b)&^reserved, size)
		}
	}
	return list.merge(), nil
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
