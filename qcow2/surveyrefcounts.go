package qcow2

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"e2qcow/internal/zero"
)

// A refBlock is a refcount block as the refcount table has it.
type refBlock struct {
	cluster uint64 // where it is
	first   uint64 // the first cluster that it counts
	good    bool
}

// useRefcounts compares the claims with the refcounts, as far as these can be
// believed: damage may as well be in them. A block of refcounts in which more
// than a quarter of the clusters in use have another refcount than they should is
// no witness; what is in the clusters tells instead. none says that the header does
// not lead to refcounts.
func (s *survey) useRefcounts(none bool) error {
	if err := s.claimSnapshots(); err != nil {
		return err
	}
	if none {
		return s.countUnclaimed(nil)
	}
	blocks, err := s.refBlocks()
	if err != nil {
		return err
	}
	for i := range blocks {
		if err := s.compareBlock(&blocks[i]); err != nil {
			return err
		}
	}
	if err := s.countUnclaimed(blocks); err != nil {
		return err
	}
	h := s.m.header
	good := slices.ContainsFunc(blocks, func(b refBlock) bool { return b.good })
	for _, b := range blocks {
		if !b.good {
			s.claims.drop(b.cluster, claimRefcount)
		}
	}
	if !good {
		for i := range uint64(h.RefcountTableLength) {
			s.claims.drop(h.RefcountTableOffset>>h.ClusterBits+i, claimRefcount)
		}
	}
	return nil
}

// refBlocks returns the refcount blocks in the file, of those that count clusters
// of the file. A cluster to which several entries lead is none.
func (s *survey) refBlocks() ([]refBlock, error) {
	h := s.m.header
	size := uint64(h.ClusterSize())
	per := h.refcountsPerBlock()
	clusters := (uint64(s.m.fileSize) + size - 1) / size
	n := min(uint64(h.RefcountTableLength)*size/8, (clusters+per-1)/per)
	if err := s.count(int64(n) * 8); err != nil {
		return nil, err
	}
	for i := range (n*8 + size - 1) / size {
		s.claims.set(h.RefcountTableOffset>>h.ClusterBits+i, claimRefcount)
	}
	b := make([]byte, n*8)
	_, _ = s.tables.ReadAt(b, int64(h.RefcountTableOffset))
	if err := s.findSpare(n); err != nil {
		return nil, err
	}
	var list []refBlock
	for i := range n {
		off := binary.BigEndian.Uint64(b[i*8:])
		if off == 0 || off%size != 0 || off >= uint64(s.m.fileSize) || s.claims.of(off>>h.ClusterBits)&claimFixed != 0 {
			continue
		}
		list = append(list, refBlock{cluster: off >> h.ClusterBits, first: i * per})
	}
	slices.SortFunc(list, func(a, b refBlock) int { return cmp.Compare(a.cluster, b.cluster) })
	var unique []refBlock
	for i, block := range list {
		if i > 0 && list[i-1].cluster == block.cluster || i+1 < len(list) && list[i+1].cluster == block.cluster {
			continue
		}
		unique = append(unique, block)
	}
	for _, block := range unique {
		s.claims.set(block.cluster, claimRefcount)
	}
	return unique, nil
}

// findSpare finds the clusters that hold refcounts of clusters behind the end of
// the file: the refcount blocks from index n on, and the part of the refcount table
// that leads to them. e2qcow reserves them for the largest image there can be.
func (s *survey) findSpare(n uint64) error {
	h := s.m.header
	size := uint64(h.ClusterSize())
	for i := (n*8 + size - 1) / size; i < uint64(h.RefcountTableLength); i++ {
		s.spare = append(s.spare, h.RefcountTableOffset>>h.ClusterBits+i)
	}
	end := uint64(h.RefcountTableLength) * size / 8
	for n < end {
		part := s.buf[:min(size, (end-n)*8)]
		if err := s.count(int64(len(part))); err != nil {
			return err
		}
		_, _ = s.tables.ReadAt(part, int64(h.RefcountTableOffset+n*8))
		for at := 0; at < len(part); at += 8 {
			if off := binary.BigEndian.Uint64(part[at:]); off != 0 && off%size == 0 && off < uint64(s.m.fileSize) {
				s.spare = append(s.spare, off>>h.ClusterBits)
			}
		}
		n += uint64(len(part)) / 8
	}
	slices.Sort(s.spare)
	return nil
}

// compareBlock compares the claims on the clusters of a block with its refcounts.
func (s *survey) compareBlock(block *refBlock) error {
	h := s.m.header
	size := h.ClusterSize()
	off := int64(block.cluster << h.ClusterBits)
	if s.m.runs.hole(off, min(size, s.m.fileSize-off)) {
		return s.count(0)
	}
	if err := s.count(size); err != nil {
		return err
	}
	_, _ = s.tables.ReadAt(s.buf, off)
	clusters := (s.m.fileSize + size - 1) / size
	n := min(h.refcountsPerBlock(), uint64(clusters)-block.first)
	used, wrong := uint64(0), uint64(0)
	leaks, excess := int64(0), int64(0)
	for i := range n {
		refcount := readRefcount(s.buf, i, h.RefcountBits)
		v := s.claims.of(block.first + i)
		want := references(v)
		if want == 0 {
			if _, spare := slices.BinarySearch(s.spare, block.first+i); spare {
				continue
			}
			if refcount > 0 && (v&claimSnapshot == 0 || refcount > uint64(h.Snapshots)) {
				leaks++
			}
			continue
		}
		if v&claimRefcount != 0 && want > 1 {
			continue // that is to be found out
		}
		used++
		if v&claimPacked != 0 && v&claimSnapshot == 0 && refcount > want && refcount < math.MaxUint16 {
			excess += int64(refcount - want)
		}
		if refcount < want || refcount-want > uint64(h.Snapshots) && v&claimPacked == 0 {
			wrong++
		}
	}
	if wrong*4 > used || used == 0 || s.tables.bad(off, size) {
		return nil
	}
	block.good = true
	s.leaks += leaks
	s.excess += excess
	for i := range n {
		v := s.claims.of(block.first + i)
		want := references(v)
		if want == 0 {
			continue
		}
		refcount := readRefcount(s.buf, i, h.RefcountBits)
		switch {
		case refcount == 0:
			s.claims.set(block.first+i, claimFree)
		case refcount <= want && v&claimSnapshot != 0 && v&claimPacked == 0:
			s.claims.set(block.first+i, claimLow)
		case refcount >= want && h.Snapshots == 0: // else some of it may be for snapshots
			s.claims.set(block.first+i, claimAllowed)
		}
	}
	return nil
}

// countUnclaimed counts the clusters of the file that nothing claims and that are
// not zero, except those that good blocks count.
func (s *survey) countUnclaimed(blocks []refBlock) error {
	h := s.m.header
	per := h.refcountsPerBlock()
	var good []uint64 // their first clusters
	for _, b := range blocks {
		if b.good {
			good = append(good, b.first)
		}
	}
	slices.Sort(good)
	looked := int64(0) // bytes of such clusters that were read
	for off := int64(0); off < s.m.fileSize; {
		start, end := s.m.runs.data(off, s.m.fileSize-off)
		if start == end {
			return nil
		}
		first := uint64(start) >> h.ClusterBits
		for c := first; c < uint64(end+h.ClusterSize()-1)>>h.ClusterBits; c++ {
			if c%per == 0 || c == first {
				if err := s.count(0); err != nil {
					return err
				}
				if _, ok := slices.BinarySearch(good, c/per*per); ok {
					c = c/per*per + per - 1
					continue
				}
			}
			if s.claims.of(c) != 0 {
				continue
			}
			at := int64(c << h.ClusterBits)
			b := s.buf[:min(h.ClusterSize(), s.m.fileSize-at)]
			if looked += int64(len(b)); looked > maxLostBytes {
				s.unclaimed++
			} else if _, _ = s.tables.ReadAt(b, at); !zero.IsZero(b) {
				s.unclaimed++
			}
		}
		off = end
	}
	return nil
}
