package scan

import (
	"fmt"
	"slices"
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
	if s.suspects = append(s.suspects, b.suspects...); len(s.suspects) >= 2*s.maxSuspects() {
		s.suspects = s.leastSuspects()
	}
	for _, ino := range b.named {
		s.named.Add(ino)
	}
	for _, r := range b.revisits {
		_, asked := s.asked[r]
		switch {
		case asked || !s.geo.ValidInode(r.ino):
		case len(s.asked) >= maxRevisits:
			s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("more than %d inodes hold attribute values or are orphans", maxRevisits), Inode: r.ino})
		default:
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
	list := s.leastSuspects()
	s.suspects = nil
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

// maxSuspects is how many suspects maxClaimed leaves room for.
func (s *scanner) maxSuspects() int { return maxClaimed / int(s.geo.BlockSize) }

// leastSuspects returns the suspects in order, no more than there is room for.
func (s *scanner) leastSuspects() []item {
	slices.SortFunc(s.suspects, compareItems)
	list := slices.Compact(s.suspects)
	return list[:min(len(list), s.maxSuspects()+1)]
}
