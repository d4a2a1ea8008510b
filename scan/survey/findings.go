package survey

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"e2qcow/scan"
)

// findings are what the survey itself finds wrong, by kind.
type findings struct {
	list map[string]*finding
}

type finding struct {
	count uint64
	first place
	what  string
}

// add counts something wrong. What is added first of a kind is kept as the
// first.
func (f *findings) add(kind string, at place, n uint64, what string) {
	if f.list == nil {
		f.list = make(map[string]*finding)
	}
	x := f.list[kind]
	if x == nil {
		x = &finding{first: at, what: what}
		f.list[kind] = x
	}
	x.count += n
}

// order is the order in which findings of the survey are listed.
var order = []string{KindBackup, KindMultiple, KindMarkedFree, KindMarkedUsed, KindInodeFree, KindInodeUsed, KindCounts, KindSuperCounts}

// A markKey tells marks apart.
type markKey struct {
	cell int
	kind string
}

// mark marks the cell in which something lies; what is said of the first of the
// kind in the cell.
func (s *survey) mark(kind string, at place, n uint64, what string) {
	if s.d.Map == nil {
		return
	}
	block := at.block
	switch {
	case block != 0:
	case at.ino != 0 && s.geo.ValidInode(at.ino):
		g, index := s.geo.InodePlace(at.ino)
		block = s.geo.GroupFirstBlock(g)
		if int(g) < len(s.tables) && s.tables[g] != 0 {
			block = s.tables[g] + uint64(index/s.geo.InodesPerBlock())
		}
	case at.hasGroup && at.group < s.geo.GroupCount:
		block = s.geo.GroupFirstBlock(at.group)
	}
	cell, ok := s.d.Map.cell(block)
	if !ok {
		cell = 0 // it points outside: the block that does is not known
	}
	s.markCell(cell, kind, n, strings.Trim(what+", "+at.String(), ", "))
}

func (s *survey) markCell(cell int, kind string, n uint64, first string) {
	if s.marks == nil {
		s.marks = make(map[markKey]*Mark)
	}
	key := markKey{cell, kind}
	m := s.marks[key]
	if m == nil {
		m = &Mark{Cell: cell, Kind: kind, First: first}
		s.marks[key] = m
	}
	m.Count += n
}

// judge fills in what is wrong.
func (s *survey) judge(res *scan.Result) {
	d := s.d
	dmg := &d.Damage
	if s.geo != nil {
		for _, p := range res.AllProblems() {
			s.mark(p.Kind.String(), place{group: p.Group, hasGroup: p.HasGroup(), ino: p.Inode, block: p.Block}, 1, p.What)
		}
	}
	dmg.Findings = []Finding{}
	if dmg.Bits == nil {
		dmg.Bits = []BitRun{}
	}
	for _, p := range res.Problems() {
		dmg.Findings = append(dmg.Findings, Finding{
			Kind: p.Kind.String(), Count: p.Count, What: p.What, Fsck: fsckOf(p),
			Place: place{group: p.Group, hasGroup: p.HasGroup(), ino: p.Inode, block: p.Block}.String(),
		})
	}
	for _, kind := range order {
		if f := s.found.list[kind]; f != nil {
			dmg.Findings = append(dmg.Findings, Finding{Kind: kind, Count: f.count, What: f.what, Place: f.first.String(), Fsck: fsckNames[kind]})
		}
	}
	wrong := uint64(0)
	for _, sum := range d.Sums {
		wrong += sum.Wrong
	}
	if wrong > 0 {
		i := slices.IndexFunc(d.Sums, func(s Sums) bool { return s.Wrong > 0 })
		dmg.Findings = append(dmg.Findings, Finding{
			Kind: KindChecksum, Count: wrong, What: "wrong, of " + d.Sums[i].Kind, Place: d.Sums[i].First, Fsck: fsckNames[KindChecksum],
		})
	}
	s.unreadable(res)
	if d.Map == nil {
		return
	}
	for _, m := range s.marks {
		d.Map.Marks = append(d.Map.Marks, *m)
	}
	slices.SortFunc(d.Map.Marks, func(a, b Mark) int { return cmp.Or(cmp.Compare(a.Cell, b.Cell), cmp.Compare(a.Kind, b.Kind)) })
}

// maxLost is how many ranges that cannot be read are listed.
const maxLost = 64

// unreadable finds out which structures lie where the device cannot be read.
func (s *survey) unreadable(res *scan.Result) {
	d := s.d
	lost := res.Unreadable()
	dmg := &d.Damage
	dmg.Ranges, dmg.Unreadable, dmg.Lost = uint64(len(lost)), []Lost{}, []LostIn{}
	if len(lost) == 0 {
		return
	}
	bs := int64(res.BlockSize())
	blocks := make(map[scan.Kind]uint64)
	at := 0
	kinds := make([][]string, min(len(lost), maxLost))
	last := make(map[scan.Kind]uint64) // end of the last run of blocks that was counted
	for run := range res.Map.Runs() {
		start, end := int64(run.Start)*bs, int64(run.Start+run.Count)*bs
		for at < len(lost) && lost[at].End <= start {
			at++
		}
		for i := at; i < len(lost) && lost[i].Start < end; i++ {
			from := max(uint64(max(lost[i].Start, start)/bs), last[run.Kind])
			to := uint64((min(lost[i].End, end) + bs - 1) / bs)
			if from < to {
				blocks[run.Kind] += to - from
				last[run.Kind] = to
			}
			if name := run.Kind.String(); i < len(kinds) && !slices.Contains(kinds[i], name) {
				kinds[i] = append(kinds[i], name)
			}
		}
	}
	for i, r := range lost {
		dmg.Bytes += uint64(r.End - r.Start)
		if i < maxLost {
			if kinds[i] == nil {
				kinds[i] = []string{}
			}
			dmg.Unreadable = append(dmg.Unreadable, Lost{r.Start, r.End, kinds[i]})
		}
		s.markLost(r.Start, r.End)
	}
	for k := range scan.Kinds() {
		if n := blocks[k]; n > 0 {
			dmg.Lost = append(dmg.Lost, LostIn{k.String(), n})
		}
	}
}

// markLost marks the cells of a range of bytes that cannot be read.
func (s *survey) markLost(start, end int64) {
	if s.d.Map == nil || len(s.d.Map.Cells) == 0 {
		return
	}
	m := s.d.Map
	cell := int64(m.Size * s.bs)
	first := int64(m.First * s.bs)
	for at := max(start, first); at < end; {
		i := (at - first) / cell
		if i >= int64(len(m.Cells)) {
			return
		}
		to := min(end, first+(i+1)*cell)
		s.markCell(int(i), KindUnreadable, uint64(to-at), fmt.Sprintf("bytes %d-%d", start, end-1))
		at = to
	}
}

// fsckNames says what e2fsck calls what the survey finds.
var fsckNames = map[string]string{
	KindBackup:      "nothing, unless it needs the copy (-b)",
	KindMultiple:    "Multiply-claimed block(s) in inode … (pass 1B)",
	KindMarkedFree:  "Block bitmap differences: +(…) (pass 5)",
	KindMarkedUsed:  "Block bitmap differences: -(…) (pass 5)",
	KindInodeFree:   "Inode bitmap differences: +(…) (pass 5)",
	KindInodeUsed:   "Inode bitmap differences: -(…) (pass 5)",
	KindCounts:      "Free blocks count wrong for group; Free inodes count wrong for group (pass 5)",
	KindSuperCounts: "Free blocks count wrong; Free inodes count wrong (pass 5)",
	KindChecksum:    "… passes checks, but checksum does not match (pass 1 and 2); … checksum is invalid",
}

// fsckOf says what e2fsck calls damage that a scan has met.
func fsckOf(p scan.Problem) string {
	switch p.Kind {
	case scan.BadSuperblock:
		if strings.Contains(p.What, "checksum") {
			return "Superblock checksum does not match superblock; trying backup blocks"
		}
		return "Superblock invalid, trying backup blocks"
	case scan.BadDescriptor:
		if strings.Contains(p.What, "checksum") {
			return fmt.Sprintf("Group descriptor %d checksum is invalid", p.Group)
		}
		return "Group descriptors look bad, trying backup blocks"
	case scan.BadTableLocation:
		return fmt.Sprintf("… for group %d is not in group (pass 0)", p.Group)
	case scan.BadInode:
		return fmt.Sprintf("Inode %d … (pass 1)", p.Inode)
	case scan.BadExtentNode:
		return fmt.Sprintf("Inode %d has corrupt extent header, or an invalid extent (pass 1)", p.Inode)
	case scan.BadBlockPointer:
		return fmt.Sprintf("Inode %d has illegal block(s); Illegal block number passed (pass 1)", p.Inode)
	case scan.BadDirectory:
		return fmt.Sprintf("Directory inode %d, block …: directory corrupted (pass 2)", p.Inode)
	case scan.BadXattr:
		return fmt.Sprintf("Inode %d has a bad extended attribute; Extended attribute block … is corrupt (pass 1)", p.Inode)
	case scan.BadJournal:
		return "Superblock has an invalid journal; Journal superblock is corrupt"
	case scan.BadOrphan:
		return "Illegal inode in orphaned inode list; Inodes that were part of a corrupted orphan linked list found"
	case scan.InodePastUnused:
		return fmt.Sprintf("Entry … references inode %d found in group %d's unused inodes area (pass 2)", p.Inode, p.Group)
	case scan.UnknownFeature:
		return "Filesystem has unsupported feature(s)"
	case scan.SizeMismatch:
		return "The filesystem size (according to the superblock) … The physical size of the device …"
	}
	return "nothing by that name: e2qcow left out a part"
}
