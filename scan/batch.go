package scan

import (
	"fmt"
	"slices"

	"e2qcow/internal/ranges"
)

// A batch contains the findings of one worker that are not merged yet.
type batch struct {
	items    []item
	suspects []item // what is read last: what points to it is doubtful
	marks    []Run
	held     []ranges.Range[uint64] // blocks that are somebody's, but not taken
	inUse    []ranges.Range[uint64] // blocks that a block bitmap marks as in use
	named    []uint32
	parents  []uint32 // inodes that a ".." names
	revisits []revisit
	links    []orphanLink
	ends     []partial
	problems []Problem

	unlinkedDirs []uint32

	values []value

	read int     // bytes of the request
	lost []Range // what could not be read of the request that is visited
}

// unread reports whether any of n bytes from off could not be read.
func (b *batch) unread(off, n int64) bool {
	return slices.ContainsFunc(b.lost, func(r Range) bool { return ranges.Overlap(r, Range{off, off + n}) })
}

// excuse drops all problems from index from on if one of n bytes from off could
// not be read: unreadable bytes read as zeros, and these zeros are not damage.
func (b *batch) excuse(problems int, off, n int64) {
	if len(b.problems) > problems && b.unread(off, n) {
		b.problems = b.problems[:problems]
	}
}

// A value is the value of an extended attribute in an inode of its own.
type value struct {
	ino  uint32
	size uint64 // bytes
	root treeRoot
}

func (b *batch) full() bool {
	return len(b.items)+len(b.suspects)+len(b.marks)+len(b.held)+len(b.inUse)+len(b.named)+len(b.parents)+len(b.unlinkedDirs)+len(b.revisits)+len(b.links)+len(b.ends)+len(b.problems)+len(b.values) >= 1024
}

func (b *batch) mark(kind Kind, start, n uint64) {
	b.marks = appendMark(b.marks, kind, start, n)
}

// appendMark appends a run, to the last one where it begins in or behind that.
func appendMark(marks []Run, kind Kind, start, n uint64) []Run {
	if n == 0 {
		return marks
	}
	if i := len(marks) - 1; i >= 0 && marks[i].Kind == kind {
		if last := &marks[i]; start >= last.Start && start-last.Start <= last.Count {
			last.Count = max(last.Count, start-last.Start+n)
			return marks
		}
	}
	return append(marks, Run{start, n, kind})
}

func (b *batch) problem(kind ProblemKind, ino uint32, block uint64, what string) {
	b.problems = append(b.problems, Problem{Kind: kind, What: what, Inode: ino, Block: block})
}

// merge adds the contents of a batch to the scanner, and empties the batch.
func (s *scanner) merge(b *batch) {
	s.addMarks(b.marks)
	for _, r := range b.held {
		s.held.add(r.Start, r.End-r.Start)
	}
	for _, r := range b.inUse {
		s.inUse.add(r.Start, r.End-r.Start)
	}
	s.claim(b.items)
	if s.suspects = append(s.suspects, b.suspects...); len(s.suspects) >= 2*maxSuspects {
		s.suspects = s.leastSuspects()
	}
	for _, ino := range b.named {
		s.named.Add(ino)
	}
	s.parents.AddMany(b.parents)
	s.unlinkedDirs.AddMany(b.unlinkedDirs)
	for _, r := range b.revisits {
		_, asked := s.asked[r]
		switch {
		case asked || !s.geo.ValidInode(r.ino):
		case len(s.asked) >= s.maxRevisits:
			s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("more than %d inodes hold attribute values or are orphans", s.maxRevisits), Inode: r.ino})
		default:
			s.asked[r] = struct{}{}
			s.revisits = append(s.revisits, r)
		}
	}
	for _, l := range b.links {
		if s.orphanLinks != nil && len(s.orphanLinks) < s.maxRevisits {
			s.orphanLinks[l.ino] = l.next
		}
	}
	s.mergeValues(b.values)
	for _, p := range b.problems {
		s.problems.add(p)
	}
	s.addEnds(b.ends)
	*b = batch{
		items: b.items[:0], suspects: b.suspects[:0], marks: b.marks[:0], held: b.held[:0], inUse: b.inUse[:0], named: b.named[:0], parents: b.parents[:0],
		revisits: b.revisits[:0], links: b.links[:0], ends: b.ends[:0], problems: b.problems[:0], unlinkedDirs: b.unlinkedDirs[:0],
		values: b.values[:0],
	}
}

func (s *scanner) addMarks(marks []Run) {
	for _, m := range marks {
		if m.Kind == Claimed {
			s.claimed += int64(m.Count) * int64(s.geo.BlockSize)
		}
		s.out.add(m.Kind, m.Start, m.Count)
	}
}

// mergeValues adds attribute values up to their sizes; the bytes behind a value
// do not belong to it. Trees may share nodes, so the bound is on the work for
// all trees.
func (s *scanner) mergeValues(values []value) {
	bs := uint64(s.geo.BlockSize)
	for _, v := range values {
		if s.valueWork >= s.maxValueWork {
			s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("the trees of attribute values have more than %d nodes or entries", s.maxValueWork), Inode: v.ino})
			continue
		}
		cost := s.leaves(v.root, v.size, func(start, n uint64, logical uint32) {
			if part := v.size % bs; part != 0 && uint64(logical)+n == v.size/bs+1 {
				n--
				s.addEnds([]partial{{start + n, uint32(part), XattrValue}})
			}
			if n > 0 {
				s.out.add(XattrValue, start, n)
			}
		})
		s.valueWork += cost.work(s.geo.BlockSize)
		if cost.cut {
			s.problems.add(Problem{Kind: Unbounded, What: "the tree of an attribute value has more nodes or extents than are followed", Inode: v.ino})
		}
	}
}

// manyEnds is how many blocks that are taken in part are kept before it is
// looked for those that are there twice.
const manyEnds = 1 << 16

// addEnds adds blocks of which only the first bytes belong to the image.
func (s *scanner) addEnds(ends []partial) {
	m := s.out
	if m.ends = append(m.ends, ends...); len(m.ends) >= max(manyEnds, 2*m.compacted) {
		m.ends = compactEnds(m.ends)
		m.compacted = len(m.ends)
	}
}

// claim gathers the blocks of items that were not yet visited in their role.
func (s *scanner) claim(items []item) {
	for _, it := range items {
		if it.role == roleProbe {
			s.gather(it) // what is looked for depends on the inode
			continue
		}
		s.claimItem(it)
	}
}

// claimItem gathers the blocks of an item that were not yet visited in its
// role, and returns their number.
func (s *scanner) claimItem(it item) (fresh int) {
	seen := &s.visited[it.role][it.content]
	if it.count == 1 {
		if !seen.addNew(it.block) {
			return 0
		}
		s.gather(it)
		return 1
	}
	run := it
	run.count = 0
	seen.claim(it.block, uint64(it.count), func(block uint64) {
		fresh++
		if run.count > 0 && run.block+uint64(run.count) == block {
			run.count++
			return
		}
		if run.count > 0 {
			s.gather(run)
		}
		run.block, run.count = block, 1
	})
	if run.count > 0 {
		s.gather(run)
	}
	return fresh
}

// gather has the blocks of an item be read.
func (s *scanner) gather(it item) {
	s.pending = append(s.pending, it)
	s.work.gather(&it, s.geo.BlockSize)
}

// suspectSlice is the number of bytes of suspects that are read before the
// blocks that they claim are counted.
const suspectSlice = 16 << 20

// claimSuspects gathers the first suspects: blocks that only doubtful pointers
// lead to. When damage has claimed maxClaimed bytes, the other suspects are
// dropped. The choice does not depend on the order of work, because suspects
// come last, in the order of blocks.
func (s *scanner) claimSuspects() {
	list := s.leastSuspects()
	s.suspects = nil
	if len(list) > 0 && s.claimed >= maxClaimed {
		s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("damaged trees claim more than %d bytes as structure: not followed further", int64(maxClaimed)), Inode: list[0].ino, Block: list[0].block})
		return
	}
	var ends [roles][contents]uint64 // of the runs that were claimed
	left := suspectSlice / int(s.geo.BlockSize)
	for len(list) > 0 && left > 0 {
		it := &list[0]
		// Runs overlap where damage claims a block often: each is looked at once.
		end := &ends[it.role][it.content]
		it.skip(min(max(*end, it.block)-it.block, uint64(it.count)))
		part := *it
		part.count = uint16(min(int(it.count), left))
		left -= s.claimItem(part)
		it.skip(uint64(part.count))
		*end = max(*end, it.block)
		if it.count == 0 {
			list = list[1:]
		}
	}
	s.suspects = list
}

// skip takes the first n blocks off an item.
func (it *item) skip(n uint64) {
	it.block += n
	it.count -= uint16(n)
}

// maxSuspects is how many suspects are kept.
const maxSuspects = 1 << 18

// leastSuspects returns the suspects in order, no more than there is room for.
func (s *scanner) leastSuspects() []item {
	slices.SortFunc(s.suspects, compareItems)
	list := slices.Compact(s.suspects)
	return list[:min(len(list), maxSuspects)]
}
