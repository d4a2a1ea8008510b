package qcow2

import (
	"cmp"
	"context"
	"encoding/binary"
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
	leaks     int64              // clusters that are in use according to refcounts, and nothing claims
	excess    int64              // references that clusters with compressed data lack, according to refcounts
	unclaimed int64              // clusters with contents that nothing claims, where refcounts cannot be believed
	unpacked  int64              // compressed clusters that are not lost
	repeated  int64              // of these, beyond the first of a cluster
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
// tables.
func (s *survey) run(d *head) error {
	s.buf = make([]byte, s.m.header.ClusterSize())
	s.loss.size = s.m.Size()
	if err := s.readL1(d); err != nil {
		return err
	}
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
	if s.claims.of(s.m.header.L1Offset>>s.m.header.ClusterBits)&claimRefcount != 0 {
		for i, entry := range s.m.l1 {
			if entry != 0 {
				s.loseTable(LostTable, uint32(i), "the L1 table would be in the refcounts")
			}
		}
		s.list = nil
	}
	if s.claims.overflow {
		return &UnsupportedError{Feature: "clusters that lie too far apart for a salvage"}
	}
	s.loseDoubtfulTables()
	for i := range s.list {
		t := &s.list[i]
		t.empty = true
		if err := s.eachSector(t, s.judgeSector); err != nil {
			return err
		}
		if t.empty {
			s.m.l1[t.index] = 0 // the same, and nobody reads the table
		}
	}
	s.loss.join()
	s.findAstray()
	return s.inflated()
}

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

// eachEntry calls f with the entries of a part of an L2 table that are not zero.
func (h *Header) eachEntry(b []byte, at, guest int64, f func(e l2Entry)) {
	size := 1 << h.l2EntryBits()
	for i := 0; i < len(b); i += size {
		e := l2Entry{at: at + int64(i), guest: guest, entry: binary.BigEndian.Uint64(b[i:])}
		if size == 16 {
			e.bitmap = binary.BigEndian.Uint64(b[i+8:])
		}
		if e.entry != 0 || e.bitmap != 0 {
			f(e)
		}
		guest += h.ClusterSize()
	}
}

// longestFile is behind the end of every file: text that is taken for an entry
// leads there.
const longestFile = 1 << 50

// An entryForm is what an L2 entry looks like.
type entryForm int

const (
	malformed  entryForm = iota
	beyondFile           // well-formed, but what it leads to is behind the end of the file
	noCluster            // it leads nowhere: zero
	plainForm
	packedForm
)

// form returns what an L2 entry looks like, and why it is not good.
func (s *survey) form(e l2Entry) (entryForm, string) {
	return s.m.header.entryForm(e, s.m.fileSize)
}

// entryForm returns what an L2 entry looks like in a file of size bytes, and why
// it is not good.
func (h *Header) entryForm(e l2Entry, fileSize int64) (entryForm, string) {
	size := h.ClusterSize()
	if e.entry&entryCompressed != 0 {
		off, _ := packedPlace(e.entry, h.ClusterBits)
		switch {
		case e.entry&entryCopied != 0:
			return malformed, "the compressed cluster is marked as copied"
		case e.bitmap != 0:
			return malformed, "the compressed cluster has subclusters"
		case off < size:
			return malformed, "the compressed cluster would be in the header"
		case off >= longestFile:
			return malformed, "the compressed cluster lies beyond any file"
		case off >= fileSize:
			return beyondFile, "the compressed cluster lies beyond the end of the file"
		}
		return packedForm, ""
	}
	host := int64(e.entry & entryOffset)
	alloc, zeros := uint32(e.bitmap), uint32(e.bitmap>>32)
	isZero := e.entry&entryZero != 0 && !h.ExtendedL2()
	switch {
	case e.entry&l2Reserved != 0:
		return malformed, "reserved bits are set"
	case host%size != 0:
		return malformed, "the cluster is not aligned"
	case host >= longestFile:
		return malformed, "the cluster lies beyond any file"
	case isZero && h.Version == 2:
		return malformed, "a zero flag in version 2"
	case alloc&zeros != 0:
		return malformed, "subclusters are both allocated and zero"
	case host == 0 && (e.entry&entryCopied != 0 || alloc != 0):
		return malformed, "the cluster is in use and nowhere"
	case host == 0, isZero && host >= fileSize:
		return noCluster, ""
	case host >= fileSize:
		return beyondFile, "the cluster lies beyond the end of the file"
	}
	return plainForm, ""
}

// malformed returns how many of the L2 entries in two numbers of a table cannot be
// good.
func (h *Header) malformed(first, second uint64, fileSize int64) (n int) {
	entries := []l2Entry{{entry: first}, {entry: second}}
	if h.ExtendedL2() {
		entries = []l2Entry{{entry: first, bitmap: second}}
	}
	for _, e := range entries {
		if form, _ := h.entryForm(e, fileSize); form == malformed || form == beyondFile {
			n++
		}
	}
	return n
}

// judgeEntries reports whether a sector may be of an L2 table in a file of size
// bytes, and whether it certainly is: numbers in a file can look like entries, but
// not like entries with flags.
func (h *Header) judgeEntries(b []byte, fileSize int64) (may, certainly bool) {
	good, bad, flagged := 0, 0, 0
	h.eachEntry(b, 0, 0, func(e l2Entry) {
		switch form, _ := h.entryForm(e, fileSize); {
		case form == malformed:
			bad++
			return
		case form == packedForm, form == plainForm && (e.entry&entryCopied != 0 || h.Snapshots > 0):
			flagged++
		}
		good++
	})
	return bad <= maxMalformed || bad <= good, flagged > 0 && 2*flagged >= good
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
