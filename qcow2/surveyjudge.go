package qcow2

// judgeSector loses what a sector of a table does not lead to.
func (s *survey) judgeSector(t *l2Claim, b []byte, at, guest int64) {
	t.empty = false
	h := s.m.header
	all := int64(tableSector>>h.l2EntryBits()) << h.ClusterBits
	if s.tables.bad(at, tableSector) {
		s.loss.add(LostTablePart, guest, guest+all, at, "the L2 table cannot be read there")
		return
	}
	if may, _ := s.m.header.judgeEntries(b, s.m.fileSize); !may {
		s.loss.add(LostTablePart, guest, guest+all, at, "what is there is no L2 table")
		return
	}
	s.eachEntry(b, at, guest, s.judge)
}

// judge loses what an L2 entry does not lead to.
func (s *survey) judge(e l2Entry) {
	h := s.m.header
	size := h.ClusterSize()
	form, why := s.form(e)
	lose := func(kind LossKind, from int64, what string) {
		s.loss.add(kind, e.guest+from, e.guest+size, e.at, "L2 entry %#x: %s", e.entry, what)
	}
	switch form {
	case malformed, beyondFile:
		lose(LostCluster, 0, why)
	case packedForm:
		kind, why := s.doubtPacked(e)
		if why != "" {
			lose(kind, 0, why)
		} else {
			s.unpacked++
		}
	case plainForm:
		host := int64(e.entry & entryOffset)
		kind, why := s.doubt(e, s.claims.of(uint64(host)>>h.ClusterBits))
		isZero := e.entry&entryZero != 0 && !h.ExtendedL2()
		switch {
		case isZero: // whatever is there
		case why != "":
			lose(kind, 0, why)
		case host+size > s.m.fileSize:
			// The last cluster may end where the disk or its last subcluster does.
			in := (s.m.fileSize - host) &^ (tableSector - 1)
			if end := min(size, h.Size-e.guest); in < end && !s.unallocatedBehind(e, in) {
				lose(LostCluster, in, "the file ends within the cluster")
			}
		}
	}
}

// unallocatedBehind reports whether no subcluster of an entry behind the first
// bytes of the cluster is allocated.
func (s *survey) unallocatedBehind(e l2Entry, bytes int64) bool {
	h := s.m.header
	return h.ExtendedL2() && uint64(uint32(e.bitmap))>>uint(bytes/(h.ClusterSize()/32)) == 0
}

// doubt returns why the cluster of a plain L2 entry may be another's, "" if
// nothing speaks for that.
func (s *survey) doubt(e l2Entry, v uint32) (LossKind, string) {
	copied, shared := counted(v)
	switch {
	case v&claimFixed != 0:
		return LostCluster, "the cluster would be in the header or in the L1 table"
	case v&claimTable != 0:
		return LostCluster, "the cluster would be in an L2 table"
	case v&claimRefcount != 0:
		return LostCluster, "the cluster would be in the refcounts"
	case v&claimPacked != 0:
		return LostDoubtful, "a compressed cluster is in the same place"
	case copied+shared > 1 && v&claimAllowed != 0:
		s.repeated++
	case copied+shared > 1:
		// Without snapshots, only one entry can own the cluster, and says so.
		if e.entry&entryCopied != 0 && copied == 1 && s.m.header.Snapshots == 0 {
			return 0, ""
		}
		return LostDoubtful, "another L2 entry leads to the same cluster"
	case v&claimLow != 0 && s.leaks > 0:
		return LostDoubtful, "the refcounts say that only a snapshot uses the cluster"
	case v&claimFree != 0 && (s.leaks > 0 || shared > 0 && v&claimSnapshot == 0):
		return LostDoubtful, "the refcounts call the cluster free"
	}
	return 0, ""
}

// doubtPacked is doubt for a compressed cluster.
func (s *survey) doubtPacked(e l2Entry) (LossKind, string) {
	h := s.m.header
	off, n := packedPlace(e.entry, h.ClusterBits)
	if _, ok := s.twice[off]; ok {
		return LostDoubtful, "another compressed cluster is in the same place"
	}
	n = min(n, s.m.fileSize-off)
	for c := uint64(off) >> h.ClusterBits; c <= uint64(off+n-1)>>h.ClusterBits; c++ {
		v := s.claims.of(c)
		switch copied, shared := counted(v); {
		case v&(claimFixed|claimTable|claimRefcount) != 0:
			return LostCluster, "the compressed cluster would be in a table"
		case copied+shared > 0 && packedIn(v) == 1:
			return LostDoubtful, "a plain cluster is in the same place"
		case v&claimFree != 0 && s.leaks > 0:
			return LostDoubtful, "the refcounts call the cluster free"
		}
	}
	return 0, ""
}
