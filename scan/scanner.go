package scan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
)

// A scanner goes through a filesystem under one reading of it: one superblock
// and descriptor table, before or after journal replay. Several scanners may
// fill one map.
//
// It holds twelve bytes for each block group, sixteen for each block that is
// gathered for the next level, and sparse sets of what has been visited.
type scanner struct {
	dev          *device
	sb           *ext.Superblock
	geo          *ext.Geometry
	deviceBlocks uint64
	groups       uint32 // groups that can be on the device
	wide         bool   // block numbers in inodes have high halves
	journalFile  fileMap
	trustFlags   bool   // UNINIT and bg_itable_unused count where the checksum is right
	descGroup    uint32 // the superblock copy whose descriptors are read
	threads      int
	journal      JournalMode
	progress     func(done, total int64)
	quotas       [5]uint32 // inodes that may be quota inodes; 0 is none
	orphanFile   uint32    // its inode, 0 if there is none

	tables []uint64 // by group: first block of the inode table, 0 where unusable
	limits []uint32 // by group: how many inodes of the table have been visited

	mu           sync.Mutex // guards what follows while workers merge
	out          *Map
	problems     *problems
	visited      [roles][contents]blockSet
	pending      []item
	suspects     []item
	named        *roaring.Bitmap // inodes that a directory or the orphan list names beyond what was visited
	revisits     []revisit
	asked        map[revisit]struct{} // revisits asked for so far
	located      spanList             // bitmaps and tables, to find those that overlap
	suspectBytes int64                // of suspects that were followed
	descBad      bool                 // e2fsck would not believe this descriptor table
}

// A role is what a gathered block is to be read as.
type role uint8

const (
	roleExtent role = iota
	roleInd1        // single indirect: points to data
	roleInd2
	roleInd3
	roleDir
	roleProbe // a first block that may be a directory's
	roleXattr
	roleOrphan
	roles
)

// A content is what the leaves of a tree hold.
type content uint8

const (
	contentData content = iota // file contents: never taken
	contentDir
	contentSymlink
	contentEncrypted // a symlink's target, encrypted
	contentProbe     // an inode of no known type: its first block may be a directory's
	contents
)

// An item is count blocks that something claims, to be read in a role.
type item struct {
	block   uint64
	ino     uint32 // who claims it
	count   uint16
	role    role
	content content
}

// A revisit is an inode that something met later says more about.
type revisit struct {
	ino  uint32
	why  reason
	size uint32 // of the value, for asValue
}

type reason uint8

const (
	asOrphan reason = iota // on the orphan list: in use whatever its links say
	asDir                  // a directory in spite of its mode
	asValue                // holds the value of an extended attribute
)

// A batch is what one worker found and has not handed over yet.
type batch struct {
	items    []item
	suspects []item // what a block points to that does not look like what it is claimed to be
	marks    []Run
	named    []uint32
	revisits []revisit
	ends     []valueEnd
	problems []Problem
}

func (b *batch) full() bool {
	return len(b.items)+len(b.suspects)+len(b.marks)+len(b.named)+len(b.revisits)+len(b.ends)+len(b.problems) >= 1024
}

func (b *batch) mark(kind Kind, start, n uint64) {
	if n == 0 {
		return
	}
	if i := len(b.marks) - 1; i >= 0 && b.marks[i].Kind == kind && b.marks[i].Start+b.marks[i].Count == start {
		b.marks[i].Count += n
		return
	}
	b.marks = append(b.marks, Run{start, n, kind})
}

func (b *batch) problem(kind ProblemKind, ino uint32, block uint64, what string) {
	b.problems = append(b.problems, Problem{Kind: kind, What: what, Inode: ino, Block: block})
}

// merge takes over what a batch holds and empties it.
func (s *scanner) merge(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range b.marks {
		s.out.add(m.Kind, m.Start, m.Count)
	}
	s.claim(b.items)
	s.suspects = append(s.suspects, b.suspects...)
	for _, ino := range b.named {
		s.named.Add(ino)
	}
	for _, r := range b.revisits {
		if _, ok := s.asked[r]; !ok && s.geo.ValidInode(r.ino) {
			s.asked[r] = struct{}{}
			s.revisits = append(s.revisits, r)
		}
	}
	for _, p := range b.problems {
		s.problems.add(p)
	}
	s.out.ends = append(s.out.ends, b.ends...)
	*b = batch{items: b.items[:0], suspects: b.suspects[:0], marks: b.marks[:0], named: b.named[:0], revisits: b.revisits[:0], ends: b.ends[:0], problems: b.problems[:0]}
}

// claim gathers what of items has not been visited in its role.
func (s *scanner) claim(items []item) {
	for _, it := range items {
		if it.role == roleProbe {
			s.pending = append(s.pending, it) // what is looked for depends on the inode
			continue
		}
		seen := &s.visited[it.role][it.content]
		run := it
		run.count = 0
		seen.claim(it.block, uint64(it.count), func(block uint64) {
			if run.count > 0 && run.block+uint64(run.count) == block {
				run.count++
				return
			}
			if run.count > 0 {
				s.pending = append(s.pending, run)
			}
			run.block, run.count = block, 1
		})
		if run.count > 0 {
			s.pending = append(s.pending, run)
		}
	}
}

// claimSuspects gathers what was put off because blocks that do not look like
// structure point to it: the first of it, as far as maxClaimed goes, so that
// what is taken does not depend on the order of work.
func (s *scanner) claimSuspects() {
	list := s.suspects
	s.suspects = nil
	slices.SortFunc(list, compareItems)
	bs := int64(s.geo.BlockSize)
	for i, it := range list {
		if s.suspectBytes >= maxClaimed {
			s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("damaged trees claim more than %d bytes as structure: not followed further", int64(maxClaimed)), Inode: it.ino, Block: it.block})
			return
		}
		before := len(s.pending)
		s.claim(list[i : i+1])
		for _, it := range s.pending[before:] {
			s.suspectBytes += int64(it.count) * bs
		}
	}
}

func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.role, b.role), cmp.Compare(a.content, b.content), cmp.Compare(a.ino, b.ino))
}

// maxPending bounds how many blocks are gathered before they are read: more
// would give larger reads, at sixteen bytes each.
const maxPending = 1 << 20

// run goes through the filesystem.
func (s *scanner) run(ctx context.Context) error {
	if err := s.scanGroups(ctx); err != nil {
		return err
	}
	b := new(batch)
	s.seedOrphans(b)
	s.merge(b)
	return s.scanAll(ctx)
}

// scanAll follows all that has been gathered and asked for until nothing is
// left.
func (s *scanner) scanAll(ctx context.Context) error {
	for {
		if err := s.scanLevels(ctx); err != nil {
			return err
		}
		switch {
		case len(s.revisits) > 0:
			if err := s.scanRevisits(ctx); err != nil {
				return err
			}
		case !s.named.IsEmpty():
			if err := s.scanNamed(ctx); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// scanLevels reads what has been gathered, and what that leads to, until
// nothing is left.
func (s *scanner) scanLevels(ctx context.Context) error {
	for len(s.pending) > 0 || len(s.suspects) > 0 {
		if len(s.pending) == 0 {
			s.claimSuspects()
		}
		level := s.pending
		s.pending = nil
		slices.SortFunc(level, compareItems)
		err := s.sweep(ctx, len(level),
			func(i int) (uint64, uint64) { return level[i].block, uint64(level[i].count) },
			func(b *batch, i int, block uint64, data []byte) {
				for bs := int(s.geo.BlockSize); len(data) > 0; data, block = data[bs:], block+1 {
					s.visit(b, &level[i], block, data[:bs])
				}
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// visit takes in one block of an item.
func (s *scanner) visit(b *batch, it *item, block uint64, data []byte) {
	switch it.role {
	case roleExtent:
		s.visitExtentBlock(b, it, block, data)
	case roleInd1, roleInd2, roleInd3:
		s.visitIndirectBlock(b, it, block, data)
	case roleDir:
		s.visitDirBlock(b, it.ino, block, data)
	case roleProbe:
		b.mark(Claimed, block, 1)
		if ext.LooksLikeDirectory(data, it.ino) {
			b.revisits = append(b.revisits, revisit{ino: it.ino, why: asDir})
		}
	case roleXattr:
		s.visitXattrBlock(b, it.ino, block, data)
	case roleOrphan:
		s.visitOrphanBlock(b, data)
	}
}

// validRun cuts a run of blocks to what can be on the filesystem and on the
// device, and tells whether anything is left.
func (s *scanner) validRun(start, n uint64) (uint64, uint64, bool) {
	first, end := uint64(s.geo.FirstDataBlock), min(s.geo.BlocksCount, s.deviceBlocks)
	if first == 0 {
		first = 1
	}
	if n == 0 || start >= end || start+n < start || start+n <= first {
		return 0, 0, false
	}
	if start < first {
		start, n = first, start+n-first
	}
	return start, min(n, end-start), true
}

func (s *scanner) validBlock(block uint64) bool {
	_, _, ok := s.validRun(block, 1)
	return ok
}
