package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A ProblemKind is a class of damage.
type ProblemKind uint8

// The classes of damage.
const (
	BadSuperblock ProblemKind = iota
	BadDescriptor
	BadTableLocation
	BadInode
	BadExtentNode
	BadBlockPointer
	BadDirectory
	BadXattr
	BadJournal
	BadOrphan
	InodePastUnused // named by something, though its descriptor says it was never used
	UnknownFeature
	SizeMismatch // between filesystem and device
	Unbounded    // damage that claims more than is taken
	problemKinds
)

var problemNames = [problemKinds]string{
	"superblock", "group descriptor", "table location", "inode", "extent tree", "block pointer", "directory",
	"extended attribute", "journal", "orphan list", "inode beyond bg_itable_unused", "unknown feature", "size", "bound",
}

func (k ProblemKind) String() string {
	if k < problemKinds {
		return problemNames[k]
	}
	return "unknown"
}

// A Problem is damage that the scan met. Fields that do not apply are zero;
// HasGroup reports whether Group applies.
type Problem struct {
	Kind  ProblemKind
	What  string // what is wrong
	Group uint32
	Inode uint32
	Block uint64
	Count uint64 // of Result.Problems: how often damage of this kind was met
}

// HasGroup reports whether Group, which may be 0, applies: to damage of group
// descriptors and of the places in them.
func (p Problem) HasGroup() bool {
	return p.Kind == BadDescriptor || p.Kind == BadTableLocation || p.Kind == InodePastUnused
}

func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s", p.Kind, p.What)
	if p.Inode != 0 {
		fmt.Fprintf(&b, ", inode %d", p.Inode)
	}
	if p.HasGroup() {
		fmt.Fprintf(&b, ", group %d", p.Group)
	}
	if p.Block != 0 {
		fmt.Fprintf(&b, ", block %d", p.Block)
	}
	return b.String()
}

// maxProblems is how many problems of a kind are kept.
const maxProblems = 256

// problems counts damage and keeps the first of each kind: the lowest by group,
// inode and block, so that the choice does not depend on the order of the
// workers.
type problems struct {
	mu    sync.Mutex
	kinds [problemKinds]problemsOfKind
}

// problemsOfKind is the damage of one kind.
type problemsOfKind struct {
	count uint64
	list  []Problem // up to twice maxProblems, unsorted
	worst Problem   // of maxProblems that are kept, if so many are
	full  bool
}

func (s *problems) add(p Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &s.kinds[p.Kind]
	k.count++
	if k.full && compareProblems(p, k.worst) >= 0 {
		return
	}
	k.list = append(k.list, p)
	if len(k.list) >= 2*maxProblems {
		k.list = leastProblems(k.list)
		if k.full = len(k.list) == maxProblems; k.full {
			k.worst = k.list[maxProblems-1]
		}
	}
}

// merge adds the problems of other, which must not be used afterwards.
func (s *problems) merge(other *problems) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.kinds {
		k, o := &s.kinds[i], &other.kinds[i]
		k.count += o.count
		k.list = leastProblems(append(k.list, o.list...))
		if k.full = len(k.list) == maxProblems; k.full {
			k.worst = k.list[maxProblems-1]
		}
	}
}

func compareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Block, b.Block), cmp.Compare(a.What, b.What))
}

// leastProblems sorts list and cuts it to maxProblems.
func leastProblems(list []Problem) []Problem {
	slices.SortFunc(list, compareProblems)
	list = slices.Compact(list)
	return list[:min(len(list), maxProblems)]
}

// any reports whether there are any.
func (s *problems) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.kinds[:], func(k problemsOfKind) bool { return k.count > 0 })
}

// list returns the first problem of each kind, with the count of all.
func (s *problems) list() []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Problem
	for i := range s.kinds {
		if k := &s.kinds[i]; k.count > 0 {
			k.list = leastProblems(k.list)
			p := k.list[0]
			p.Count = k.count
			list = append(list, p)
		}
	}
	return list
}

// all returns the problems that were kept.
func (s *problems) all() []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Problem
	for i := range s.kinds {
		k := &s.kinds[i]
		k.list = leastProblems(k.list)
		list = append(list, k.list...)
	}
	return list
}
