package qcow2

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// readL1 reads the part of the L1 table that is in the file.
func (s *survey) readL1(d *head) error {
	h := s.m.header
	cover := h.l2CoverBits()
	need := h.l1Needed()
	s.m.l1 = make([]uint64, need)
	// Of a table that is too short for the disk, its last cluster may have more.
	perCluster := uint64(h.ClusterSize()) / 8
	known := min(need, max((uint64(d.declared)+perCluster-1)/perCluster, 1)*perCluster)
	if d.l1Lost {
		known = 0
	}
	known = min(known, max(0, uint64(s.m.fileSize)-min(h.L1Offset, uint64(s.m.fileSize)))/8)
	lostFrom := int64(-1)
	lose := func(end uint64) {
		if lostFrom >= 0 {
			s.loss.add(LostL1, lostFrom<<cover, int64(end)<<cover, int64(h.L1Offset)+lostFrom*8, "the L1 table cannot be read there")
			s.loss.Kinds[LostL1].Count += int64(end) - lostFrom - 1
		}
		lostFrom = -1
	}
	buf := make([]byte, min(known*8, 64<<10))
	for i := uint64(0); i < known; {
		b := buf[:min(uint64(len(buf)), (known-i)*8)]
		if err := s.count(int64(len(b))); err != nil {
			return err
		}
		_, _ = s.tables.ReadAt(b, int64(h.L1Offset+i*8))
		anyBad := s.tables.bad(int64(h.L1Offset+i*8), int64(len(b)))
		for ; len(b) > 0; b = b[8:] {
			if anyBad && s.tables.bad(int64(h.L1Offset+i*8), 8) {
				if lostFrom < 0 {
					lostFrom = int64(i)
				}
			} else {
				lose(i)
				s.m.l1[i] = binary.BigEndian.Uint64(b)
			}
			i++
		}
	}
	if known < need && lostFrom < 0 {
		lostFrom = int64(known)
	}
	lose(need)
	return nil
}

// claimFixed claims the clusters that the header says are no data.
func (s *survey) claimFixed(l1Lost bool) {
	h := s.m.header
	s.claims.set(0, claimFixed)
	if l1Lost {
		return
	}
	first, n := h.L1Offset>>h.ClusterBits, (h.l1Needed()*8+uint64(h.ClusterSize())-1)>>h.ClusterBits
	for i := range n {
		s.claims.set(first+i, claimFixed)
	}
}

// loseTable loses all that the L1 entry i maps.
func (s *survey) loseTable(kind LossKind, i uint32, what string) {
	h := s.m.header
	cover := h.l2CoverBits()
	s.loss.add(kind, int64(i)<<cover, (int64(i)+1)<<cover, int64(h.L1Offset)+int64(i)*8, "L1 entry %#x: %s", s.m.l1[i], what)
	s.m.l1[i] = 0
}

// loseL1Garbage loses what the sectors of the L1 table map that hold something
// else, or all where no entry has the flag that tables without snapshots have.
func (s *survey) loseL1Garbage() {
	h := s.m.header
	const perSector = tableSector / 8
	all, copied := 0, 0
	for first := 0; first < len(s.m.l1); first += perSector {
		entries := s.m.l1[first:min(first+perSector, len(s.m.l1))]
		good, bad := 0, 0
		for _, entry := range entries {
			off := entry & entryOffset
			switch {
			case entry == 0:
			case entry&l1Reserved != 0, off == 0, off%uint64(h.ClusterSize()) != 0:
				bad++
			default:
				good++
				copied += int(entry >> 63)
			}
		}
		all += good
		if bad > maxMalformed && bad > good {
			s.loseL1(first, first+len(entries))
		}
	}
	if all > maxMalformed && copied == 0 && h.Snapshots == 0 {
		s.loseL1(0, len(s.m.l1))
	}
}

// loseL1 loses what some entries of the L1 table map.
func (s *survey) loseL1(first, end int) {
	clear(s.m.l1[first:end])
	cover := s.m.header.l2CoverBits()
	s.loss.add(LostL1, int64(first)<<cover, int64(end)<<cover, int64(s.m.header.L1Offset)+int64(first)*8, "what is there is no L1 table")
	s.loss.Kinds[LostL1].Count += int64(end-first) - 1
}

// claimTables lists the L2 tables. An entry that cannot be one is lost, and so is
// a table to which several lead.
func (s *survey) claimTables() {
	h := s.m.header
	s.loseL1Garbage()
	for i, entry := range s.m.l1 {
		off := entry & entryOffset
		i := uint32(i)
		switch {
		case entry == 0:
		case entry&l1Reserved != 0:
			s.loseTable(LostTable, i, "reserved bits are set")
		case off == 0:
			s.loseTable(LostTable, i, "the L2 table is in use and nowhere")
		case off%uint64(h.ClusterSize()) != 0:
			s.loseTable(LostTable, i, "the L2 table is not aligned")
		case off >= uint64(s.m.fileSize):
			s.loseTable(LostTable, i, "the L2 table lies beyond the end of the file")
		case s.claims.of(off>>h.ClusterBits)&claimFixed != 0:
			s.loseTable(LostTable, i, "the L2 table would be in the header or in the L1 table")
		default:
			s.list = append(s.list, l2Claim{cluster: off >> h.ClusterBits, index: i, copied: entry&entryCopied != 0})
		}
	}
	slices.SortFunc(s.list, func(a, b l2Claim) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.index, b.index))
	})
	for i := 0; i < len(s.list); {
		end, owners, owner := i, 0, 0
		for ; end < len(s.list) && s.list[end].cluster == s.list[i].cluster; end++ {
			if s.list[end].copied {
				owners, owner = owners+1, end
			}
		}
		for k := i; end-i > 1 && k < end; k++ {
			// A table that is no snapshot's has one owner, which says so.
			if owners == 1 && owner == k && h.Snapshots == 0 {
				continue
			}
			s.list[k].lost = true
			s.loseTable(LostTable, s.list[k].index, "another L1 entry leads to the same L2 table")
		}
		i = end
	}
	s.list = slices.DeleteFunc(s.list, func(t l2Claim) bool { return t.lost })
	for _, t := range s.list {
		s.claims.set(t.cluster, claimTable)
	}
	slices.SortFunc(s.list, func(a, b l2Claim) int { return cmp.Compare(a.index, b.index) })
}
