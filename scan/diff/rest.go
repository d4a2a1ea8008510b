package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// finishRest compares what is looked at as a whole: journal, orphans, quota and
// damage.
func (c *comparison) finishRest() error {
	c.d.Contents = c.opt.Contents || c.opt.Changes != nil
	for _, ino := range slices.Sorted(maps.Keys(c.inodes)) {
		c.d.Inodes = append(c.d.Inodes, c.inodes[ino])
	}
	c.journal()
	c.compareOrphans()
	if c.quota {
		c.compareQuotas()
	}
	c.compareDamage()
	for i, s := range c.side {
		for _, r := range s.res.Unreadable() {
			c.d.Unreadable[i] += uint64(r.End - r.Start)
		}
	}
	return nil
}

// compareOrphans compares the inodes that are on the orphan list, or in the
// orphan file.
func (c *comparison) compareOrphans() {
	old, now := c.side[0].orphans(), c.side[1].orphans()
	both := maps.Clone(old)
	maps.Copy(both, now)
	for _, ino := range slices.Sorted(maps.Keys(both)) {
		if old[ino] != now[ino] && c.room("orphans", 1) {
			c.d.Orphans = append(c.d.Orphans, Orphan{Inode: ino, Came: now[ino]})
		}
	}
}

// orphans returns the inodes that are on the orphan list or in the orphan file,
// up to 2¹⁶ of each.
func (s *side) orphans() map[uint32]bool {
	const most = 1 << 16
	list := make(map[uint32]bool)
	if s.geo.GroupCount == 0 {
		return list
	}
	for ino := s.super.LastOrphan(); ino != 0 && !list[ino] && len(list) < most && s.geo.ValidInode(ino); {
		list[ino] = true
		in, ok := s.reading.ReadInode(ino)
		if !ok {
			break
		}
		ino = in.Dtime()
	}
	if !s.super.HasCompat(ext.CompatOrphanFile) {
		return list
	}
	buf := make([]byte, s.geo.BlockSize)
	left := 2 * most
	for block := range s.blocksOf(scan.OrphanFile) {
		s.reading.ReadBlock(block, buf)
		if !ext.IsOrphanBlock(buf) {
			continue
		}
		for b := buf[:len(buf)-ext.OrphanTailLen]; len(b) >= 4 && left > 0; b, left = b[4:], left-1 {
			if ino := le.Uint32(b); ino != 0 {
				list[ino] = true
			}
		}
	}
	return list
}

// blocksOf yields the blocks of a kind.
func (s *side) blocksOf(kind scan.Kind) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		last, seen := uint64(0), false
		for r := range s.res.Map.RunsOf(kind) {
			for b := r.Start / s.ratio; b*s.ratio < r.Start+r.Count; b++ {
				if seen && b == last {
					continue
				}
				if last, seen = b, true; !yield(b) {
					return
				}
			}
		}
	}
}

// compareDamage compares the damage that the scans met.
func (c *comparison) compareDamage() {
	var lists [2][]scan.Problem
	for i, s := range c.side {
		lists[i] = s.res.AllProblems()
		for k := range lists[i] {
			lists[i][k].Count = 0
		}
	}
	for i, list := range lists {
		other := make(map[scan.Problem]bool)
		for _, p := range lists[1-i] {
			other[p] = true
		}
		for _, p := range list {
			if !other[p] && c.room("damage", 2) {
				c.d.Damage = append(c.d.Damage, Damage{i == 1, p.Kind.String(), p.What, p.Group, p.Inode, p.Block, p})
			}
		}
	}
}

// journal compares the journal's superblock and what recovery would do.
func (c *comparison) journal() {
	j := &Journal{Blocks: c.d.Kinds[scan.Journal.String()]}
	var heads [2][]byte
	for i, s := range c.side {
		if file := s.reading.Journal(); len(file) > 0 {
			heads[i] = make([]byte, s.geo.BlockSize)
			s.reading.ReadBlock(file[0].Start, heads[i])
		}
	}
	switch {
	case heads[0] == nil && heads[1] == nil:
	case heads[0] == nil || heads[1] == nil:
		j.Fields = []Field{{Name: "journal", Old: heads[0] != nil, New: heads[1] != nil}}
	default:
		j.Fields = compareBig(ext.JournalFields, heads[0][:ext.JournalSuperblockSize], heads[1][:ext.JournalSuperblockSize])
	}
	if j.Blocks == 0 && len(j.Fields) == 0 {
		return
	}
	follow(j.Fields, "s_checksum")
	for i, s := range c.side {
		if heads[i] != nil {
			j.Log[i] = s.log(heads[i])
		}
	}
	c.d.Journal = j
}

// log walks a journal as recovery would.
func (s *side) log(head []byte) *LogState {
	file := s.reading.Journal()
	jsb, err := ext.DecodeJournalSuperblock(head)
	if err == nil {
		err = jsb.Check(int(s.geo.BlockSize), file.Blocks())
	}
	if err != nil {
		return &LogState{Error: err.Error()}
	}
	left := 3*file.Blocks() + 1<<16 // passes over the log, and blocks that are named twice
	if limit := uint64(maxLogReads) / uint64(s.geo.BlockSize); left > limit {
		left = limit
	}
	rec, err := ext.WalkJournal(jsb, file.Blocks(), func(n uint32, buf []byte) error {
		block, ok := file.Block(n)
		if !ok || left == 0 {
			return fmt.Errorf("journal block %d cannot be read", n)
		}
		left--
		s.reading.ReadBlock(block, buf)
		return nil
	}, nil)
	if err != nil {
		return &LogState{Error: err.Error()}
	}
	st := &LogState{Transactions: rec.End - rec.First, First: rec.First, Blocks: rec.Replay.Len(), FastCommits: rec.FastCommits}
	if rec.Err != nil {
		st.Error = rec.Err.Error()
	}
	return st
}

// maxLogReads bounds what is read of a log, in bytes.
const maxLogReads = 1 << 30

// A quotaKey is a user, group or project.
type quotaKey struct {
	kind int
	id   uint32
}

var quotaKinds = [...]string{"user", "group", "project"}

// Fields of struct v2r1_disk_dqblk.
var quotaFields = []ext.Field{
	{Offset: 8, Size: 8, Name: "dqb_ihardlimit"},
	{Offset: 16, Size: 8, Name: "dqb_isoftlimit"},
	{Offset: 24, Size: 8, Name: "dqb_curinodes"},
	{Offset: 32, Size: 8, Name: "dqb_bhardlimit"},
	{Offset: 40, Size: 8, Name: "dqb_bsoftlimit"},
	{Offset: 48, Size: 8, Name: "dqb_curspace"},
	{Offset: 56, Size: 8, Name: "dqb_btime", Form: ext.Time},
	{Offset: 64, Size: 8, Name: "dqb_itime", Form: ext.Time},
}

// compareQuotas compares the quota files, entry by entry.
func (c *comparison) compareQuotas() {
	old, now := c.side[0].quotas(), c.side[1].quotas()
	both := maps.Clone(old)
	maps.Copy(both, now)
	keys := slices.SortedFunc(maps.Keys(both), func(a, b quotaKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	for _, k := range keys {
		a, had := old[k]
		b, has := now[k]
		if a == b && had == has {
			continue
		}
		it := Quota{Type: quotaKinds[k.kind], ID: k.id, What: Changed, Fields: compareFields(quotaFields, a[:], b[:], "")}
		switch {
		case !had:
			it.What = Added
		case !has:
			it.What = Removed
		}
		if c.room("quota", 1+len(it.Fields)) {
			c.d.Quota = append(c.d.Quota, it)
		}
	}
}

const (
	quotaBlock     = 1024 // bytes of a block of a quota file
	quotaEntry     = 72
	quotaHeader    = 16 // of a block with entries
	quotaDepth     = 4  // levels of the tree of a quota file
	maxQuotaBlocks = 1 << 16
)

// quotas returns the entries of the quota files.
func (s *side) quotas() map[quotaKey][quotaEntry]byte {
	all := make(map[quotaKey][quotaEntry]byte)
	for kind, ino := range s.super.QuotaInodes() {
		in, ok := s.reading.ReadInode(ino)
		if ino == 0 || !ok {
			continue
		}
		q := &quotaFile{side: s, file: s.reading.MapFile(in, maxFileNodes)}
		level := []uint32{1} // the root
		for depth := 0; depth <= quotaDepth && len(level) > 0; depth++ {
			var next []uint32
			seen := make(map[uint32]bool)
			for _, n := range level {
				b, ok := q.block(n)
				if !ok {
					continue
				}
				if depth == quotaDepth {
					q.leaf(b, kind, all)
					continue
				}
				for ; len(b) >= 4; b = b[4:] {
					if child := le.Uint32(b); child > 1 && !seen[child] && len(next) < maxQuotaBlocks {
						seen[child] = true
						next = append(next, child)
					}
				}
			}
			level = next
		}
	}
	return all
}

// A quotaFile reads a quota file.
type quotaFile struct {
	side *side
	file scan.FileMap
	read int // blocks
}

// block returns a block of a quota file.
func (q *quotaFile) block(n uint32) ([]byte, bool) {
	bs := uint64(q.side.geo.BlockSize)
	at := uint64(n) * quotaBlock
	block, ok := q.file.Block(uint32(at / bs))
	if q.read++; !ok || q.read > maxQuotaBlocks {
		return nil, false
	}
	buf := make([]byte, bs)
	q.side.reading.ReadBlock(block, buf)
	return buf[at%bs:][:quotaBlock], true
}

// leaf takes in the entries of a block.
func (q *quotaFile) leaf(b []byte, kind int, all map[quotaKey][quotaEntry]byte) {
	for b = b[quotaHeader:]; len(b) >= quotaEntry; b = b[quotaEntry:] {
		if e := [quotaEntry]byte(b); e != ([quotaEntry]byte{}) && len(all) < maxQuotaBlocks {
			all[quotaKey{kind, le.Uint32(b)}] = e
		}
	}
}
