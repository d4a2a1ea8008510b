package scan

import (
	"fmt"
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
	InodePastUnused
	UnknownFeature
	SizeMismatch
	Unbounded
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

// A Problem is damage that the scan came across. Fields that do not apply are
// zero.
type Problem struct {
	Kind  ProblemKind
	What  string // what is wrong
	Group uint32
	Inode uint32
	Block uint64
	Count uint64 // how often damage of this kind was met
}

func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s", p.Kind, p.What)
	if p.Inode != 0 {
		fmt.Fprintf(&b, ", inode %d", p.Inode)
	}
	if p.Group != 0 {
		fmt.Fprintf(&b, ", group %d", p.Group)
	}
	if p.Block != 0 {
		fmt.Fprintf(&b, ", block %d", p.Block)
	}
	return b.String()
}

// problems counts damage and keeps the first of each kind. The first is the
// least by group, inode and block, so that it does not depend on the order in
// which workers come across it.
type problems struct {
	mu    sync.Mutex
	first [problemKinds]Problem
}

func (s *problems) add(p Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := &s.first[p.Kind]
	p.Count = old.Count + 1
	if old.Count == 0 || p.before(old) {
		*old = p
	} else {
		old.Count = p.Count
	}
}

func (p *Problem) before(q *Problem) bool {
	switch {
	case p.Group != q.Group:
		return p.Group < q.Group
	case p.Inode != q.Inode:
		return p.Inode < q.Inode
	case p.Block != q.Block:
		return p.Block < q.Block
	}
	return p.What < q.What
}

func (s *problems) list() []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Problem
	for _, p := range s.first {
		if p.Count > 0 {
			list = append(list, p)
		}
	}
	return list
}
