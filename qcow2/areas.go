package qcow2

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"e2qcow/internal/ranges"
)

// A tableKind is the kind of a part of the file that is not data.
type tableKind uint8

const (
	headerArea tableKind = iota
	l1Area
	refTableArea
	refBlockArea
	l2Area
)

func (k tableKind) String() string {
	return [...]string{"header", "L1 table", "refcount table", "refcount block", "L2 table"}[k]
}

// areas are the parts of a file that header, tables and refcounts fill,
// ascending and disjoint. What lies in them is no data.
type areas []area

type area struct {
	ranges.Range[int64]
	kind tableKind
}

// readAreas returns the areas of the image that are aligned and within the
// file. Other areas cause an error where they are used. Areas that overlap are
// a *CorruptError, because the header or a table is wrong about one of them.
func (m *Image) readAreas() (areas, error) {
	h := m.header
	size := h.ClusterSize()
	list := areas{{ranges.Range[int64]{Start: 0, End: size}, headerArea}}
	add := func(kind tableKind, off uint64, n int64) {
		if n == 0 || off%uint64(size) != 0 || off >= uint64(m.fileSize) {
			return
		}
		start := int64(off)
		end := start + min(n, m.fileSize-start)
		// Tables mostly lie one behind the other.
		if last := &list[len(list)-1]; kind == last.kind && start == last.End {
			last.End = end
			return
		}
		list = append(list, area{ranges.Range[int64]{Start: start, End: end}, kind})
	}
	add(l1Area, h.L1Offset, int64(h.L1Entries)*8)
	add(refTableArea, h.RefcountTableOffset, int64(h.RefcountTableLength)*size)
	err := m.eachRefBlock(func(off uint64) { add(refBlockArea, off, size) })
	if err != nil {
		return nil, err
	}
	for _, entry := range m.l1 {
		if off := entry & entryOffset; off != 0 {
			add(l2Area, off, size)
		}
	}
	slices.SortFunc(list, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
	for i, a := range list[1:] {
		if before := list[i]; a.Start < before.End {
			return nil, corrupt(a.kind.String(), uint64(a.Start), "it overlaps the %v at %#x", before.kind, before.Start)
		}
	}
	return slices.Clip(list), nil
}

// eachRefBlock calls f with the offset of each refcount block in the part of
// the refcount table that the file contains.
func (m *Image) eachRefBlock(f func(off uint64)) error {
	const reserved = 1<<9 - 1
	h := m.header
	off := int64(h.RefcountTableOffset)
	end := min(off+int64(h.RefcountTableLength)*h.ClusterSize(), m.fileSize)
	for buf := make([]byte, 64<<10); off < end; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), end-off)]
		if n, err := m.r.ReadAt(b, off); n < len(b) {
			return fmt.Errorf("read qcow2 refcount table at %#x: %w", off, unexpectedEOF(err))
		}
		for ; len(b) >= 8; b = b[8:] {
			if block := binary.BigEndian.Uint64(b) &^ reserved; block != 0 {
				f(block)
			}
		}
	}
	return nil
}

// hit returns the first of the areas that any of the n bytes from off on is in.
func (list areas) hit(off, n int64) (area, bool) {
	i := sort.Search(len(list), func(i int) bool { return list[i].End > off })
	if i == len(list) || list[i].Start >= off+n {
		return area{}, false
	}
	return list[i], true
}
