package survey

import (
	"cmp"
	"fmt"

	"e2qcow/ext"
)

// Structures that have checksums.
const (
	sumSuper = iota
	sumDescriptor
	sumBlockBitmap
	sumInodeBitmap
	sumInode
	sumExtents
	sumDirectory
	sumAttributes
	sumOrphans
	sumMMP
	summed
)

var sumNames = [summed]string{
	"superblocks", "group descriptors", "block bitmaps", "inode bitmaps", "inodes", "extent nodes", "directory blocks",
	"attribute blocks", "orphan file blocks", "multi-mount protection",
}

// A place says where a structure lies. Fields that do not apply are zero.
type place struct {
	group    uint32
	hasGroup bool
	ino      uint32
	block    uint64
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.ino, b.ino), cmp.Compare(a.block, b.block))
}

func (p place) String() string {
	text := ""
	add := func(format string, n any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, n)
	}
	if p.ino != 0 {
		add("inode %d", p.ino)
	}
	if p.hasGroup {
		add("group %d", p.group)
	}
	if p.block != 0 {
		add("block %d", p.block)
	}
	return text
}

// sums counts the checksums of one kind.
type sums struct {
	right, wrong uint64
	first        place // of the wrong ones
}

// add counts a checksum.
func (s *sums) add(ok bool, at place) {
	if ok {
		s.right++
		return
	}
	if s.wrong++; s.wrong == 1 || comparePlaces(at, s.first) < 0 {
		s.first = at
	}
}

func (s *sums) merge(o *sums) {
	if o.wrong > 0 && (s.wrong == 0 || comparePlaces(o.first, s.first) < 0) {
		s.first = o.first
	}
	s.right, s.wrong = s.right+o.right, s.wrong+o.wrong
}

// sum counts the checksum of a structure of an inode.
func (v *visitor) sum(ino uint32, kind int, ok bool, at place) {
	if _, lost := v.incomplete.Load(at.block); lost && at.block != 0 {
		return // nobody knows what the checksum is of
	}
	p := &v.parts[0]
	if ino != 0 {
		p = v.part(ino)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums[kind].add(ok, at)
}

// checkInode counts the checksum of an inode.
func (v *visitor) checkInode(ino uint32, in ext.Inode) {
	if v.sums {
		v.sum(ino, sumInode, ext.VerifyInode(v.seed, ino, in), place{ino: ino})
	}
}
