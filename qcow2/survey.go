package qcow2

import (
	"context"
	"errors"
	"slices"

	"e2qcow/internal/zero"
)

// A survey goes through the tables of a damaged image and finds out what of the
// disk cannot be read, without reading the disk.
//
// An L2 entry may lead to a cluster of the file that is not its own. So the
// survey first counts who claims each cluster (claims), then lets the claims
// decide: what two entries claim, of which one must be wrong, is lost to both,
// unless the copied flag or the refcount tells which.
type survey struct {
	ctx    context.Context
	m      *Image
	tables *tableReader
	limit  int64 // bytes of tables that are read at most; 0 for no limit
	loss   lossList

	list      []l2Claim // the L2 tables
	claims    claims
	packed    []int64            // where compressed clusters begin in the file
	twice     map[int64]struct{} // offsets where more than one compressed cluster begins
	spare     []uint64           // clusters with refcounts of clusters behind the end of the file; ascending
	leaks     int64              // clusters that are in use according to refcounts, and nothing claims
	excess    int64              // references that clusters with compressed data lack, according to refcounts
	unclaimed int64              // clusters with contents that nothing claims, where refcounts cannot be believed
	unpacked  int64              // compressed clusters that are not lost
	repeated  int64              // L2 entries that share a cluster
	read      int64              // bytes of tables
	buf       []byte             // a cluster
}

// An l2Claim is an L1 entry that leads to an L2 table.
type l2Claim struct {
	cluster uint64
	index   uint32 // in the L1 table
	copied  bool
	valid   bool // there are entries in it that nothing else has
	garbage bool // there is a sector in it that cannot be of a table
	lost    bool
	empty   bool // all of it is zero
}

// errSurveyLimit says that the tables are larger than the limit of a survey.
var errSurveyLimit = errors.New("the tables are too large to be looked at")

// maxMalformed is how many entries of a sector of a table may be malformed
// before the sector is taken for something that is no table.
const maxMalformed = 3

// run finds what is lost. Of the image it clears the L1 entries that lead to lost
// tables, or to tables of zeros.
func (s *survey) run(d *head) error {
	s.buf = make([]byte, s.m.header.ClusterSize())
	s.loss.size = s.m.Size()
	if err := s.readL1(d); err != nil {
		return err
	}
	if err := s.claimAll(d); err != nil {
		return err
	}
	s.loseDoubtfulTables()
	for i := range s.list {
		t := &s.list[i]
		t.empty = true
		if err := s.eachSector(t, s.judgeSector); err != nil {
			return err
		}
		if t.empty {
			s.m.l1[t.index] = 0
		}
	}
	s.loss.join()
	s.findAstray()
	return s.inflated()
}

// claimAll finds out who claims which clusters, and compares that with the
// refcounts.
func (s *survey) claimAll(d *head) error {
	s.claimFixed(d.l1Lost)
	s.claimTables()
	for i := range s.list {
		if err := s.eachSector(&s.list[i], s.claimSector); err != nil {
			return err
		}
	}
	s.settleTables()
	s.findTwice()
	if !s.m.header.Dirty() { // else refcounts are as they were long ago
		if err := s.useRefcounts(d.noRefcounts); err != nil {
			return err
		}
	}
	if s.claims.overflow {
		return &UnsupportedError{Feature: "clusters that lie too far apart for a salvage"}
	}
	return nil
}

// count counts n bytes of tables to read.
func (s *survey) count(n int64) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if s.read += n; s.limit > 0 && s.read > s.limit {
		return errSurveyLimit
	}
	return nil
}

// eachSector calls f with each sector of a table that is not zero or cannot be
// read. guest is the part of the disk that the sector maps.
func (s *survey) eachSector(t *l2Claim, f func(t *l2Claim, b []byte, at, guest int64)) error {
	h := s.m.header
	size := h.ClusterSize()
	off := int64(t.cluster << h.ClusterBits)
	if t.lost || off+size <= s.m.fileSize && s.m.runs.hole(off, size) {
		return s.count(0)
	}
	if err := s.count(size); err != nil {
		return err
	}
	_, _ = s.tables.ReadAt(s.buf, off)
	guest := int64(t.index) << h.l2CoverBits()
	step := int64(tableSector>>h.l2EntryBits()) << h.ClusterBits
	for pos := int64(0); pos < size && guest < h.Size; pos += tableSector {
		if b := s.buf[pos:][:tableSector]; !zero.IsZero(b) || s.tables.bad(off+pos, tableSector) {
			f(t, b, off+pos, guest)
		}
		guest += step
	}
	return nil
}

// eachEntry calls f with the entries of a sector that are not zero.
func (s *survey) eachEntry(b []byte, at, guest int64, f func(e l2Entry)) {
	h := s.m.header
	behind := (h.Size - guest + h.ClusterSize() - 1) >> h.ClusterBits << h.l2EntryBits() // the disk
	h.eachEntry(b[:max(0, min(int64(len(b)), behind))], at, guest, f)
}

// form returns what an L2 entry looks like, and why it is not good.
func (s *survey) form(e l2Entry) (entryForm, string) {
	return s.m.header.entryForm(e, s.m.fileSize)
}

// claimSector claims the clusters to which the entries of a sector lead.
func (s *survey) claimSector(t *l2Claim, b []byte, at, guest int64) {
	may, certainly := s.m.header.judgeEntries(b, s.m.fileSize)
	if !may {
		t.garbage = true
		return
	}
	t.valid = t.valid || certainly
	h := s.m.header
	s.eachEntry(b, at, guest, func(e l2Entry) {
		switch form, _ := s.form(e); form {
		case plainForm:
			claim := claimShared
			if e.entry&entryCopied != 0 {
				claim = claimCopied
			}
			s.claims.count(e.entry&entryOffset>>h.ClusterBits, claim)
		case packedForm:
			off, n := packedPlace(e.entry, h.ClusterBits)
			n = min(n, s.m.fileSize-off)
			for c := uint64(off) >> h.ClusterBits; c <= uint64(off+n-1)>>h.ClusterBits; c++ {
				s.claims.countPacked(c)
			}
			s.packed = append(s.packed, off)
		}
	})
}

// settleTables decides about clusters that are claimed as an L2 table and as data.
// What no entry can be in is no table.
func (s *survey) settleTables() {
	const data = claimCount*claimCopied | claimCount*claimShared | claimPacked
	for i := range s.list {
		t := &s.list[i]
		claimed := s.claims.of(t.cluster)&data != 0
		switch {
		case t.valid:
			continue
		case t.garbage:
			s.claims.drop(t.cluster, claimTable)
			s.loseTable(LostTable, t.index, "the cluster is no L2 table")
		case claimed: // a table or data
			s.loseTable(LostTable, t.index, "an L2 entry leads to the same cluster")
		default:
			continue
		}
		t.lost = true
	}
}

// findTwice finds the places where more than one compressed cluster begins.
func (s *survey) findTwice() {
	slices.Sort(s.packed)
	s.twice = make(map[int64]struct{})
	for i := 1; i < len(s.packed); i++ {
		if s.packed[i] == s.packed[i-1] {
			s.twice[s.packed[i]] = struct{}{}
		}
	}
}

// loseDoubtfulTables loses the tables that, as the refcounts say, may be
// elsewhere.
func (s *survey) loseDoubtfulTables() {
	if s.claims.of(s.m.header.L1Offset>>s.m.header.ClusterBits)&claimRefcount != 0 {
		for _, t := range s.list {
			if !t.lost {
				s.loseTable(LostTable, t.index, "the L1 table would be in the refcounts")
			}
		}
		s.list = nil
	}
	for i := range s.list {
		t := &s.list[i]
		what, claimed := "", s.claims.of(t.cluster)
		switch {
		case t.lost:
		case claimed&claimRefcount != 0:
			what = "the L2 table would be in the refcounts"
		case claimed&claimFree != 0 && s.leaks > 0:
			what = "the refcounts call the cluster free"
		case !t.valid && s.leaks > 0:
			what = "the L2 table says little, while nothing leads to clusters that are in use"
		}
		if what != "" {
			t.lost = true
			s.claims.drop(t.cluster, claimTable)
			s.loseTable(LostTable, t.index, what)
		}
	}
}

// findAstray counts the clusters that nothing leads to, though entries that are
// lost may have. Programs that do not end well leave some, and so do entries that
// were overwritten with zeros.
func (s *survey) findAstray() {
	explained := s.loss.Kinds[LostTable].Count
	for _, n := range s.loss.Kinds {
		explained += (n.Bytes + s.m.header.ClusterSize() - 1) >> s.m.header.ClusterBits
	}
	// A compressed cluster may lie in two clusters of the file.
	s.loss.Astray = max(0, s.leaks+s.unclaimed-explained) + max(0, s.excess-2*explained)
}

// inflated returns an error if the disk has much more data than the file: then
// reading it would not end in reasonable time.
func (s *survey) inflated() error {
	size := s.m.header.ClusterSize()
	packed := s.unpacked * size
	repeated := s.repeated * size
	if packed > leastOutput && !s.m.holds(packed/outputRatio, nil) || repeated > leastRepeated && !s.m.holds(repeated/repeatRatio, nil) {
		return corrupt("image", 0, "%d clusters of the disk are in a file of %d bytes, more than any program puts there",
			s.repeated+s.unpacked, s.m.fileSize)
	}
	return nil
}
