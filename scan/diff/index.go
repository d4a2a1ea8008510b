package diff

import (
	"cmp"
	"slices"
	"sync"

	"e2qcow/ext"
)

// An index says whose the directory blocks and extent nodes of an image are. It
// is filled while the image is scanned, and does not depend on the order in
// which that happens.
type index struct {
	super *ext.Superblock // of the reading

	mu     sync.Mutex
	dirs   owners
	nodes  owners
	inline owners // directories that stand in their inodes; of no block
}

// owners are blocks with the inode that each belongs to.
type owners struct {
	list []owned // sorted by block once finished
	byIn []owned // the same, sorted by inode
}

type owned struct {
	block uint64
	ino   uint32
}

// maxOwned is how many blocks of a kind have an owner that is remembered: those
// with the least numbers.
const maxOwned = 1 << 19

func byBlock(a, b owned) int { return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.ino, b.ino)) }
func byInode(a, b owned) int { return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.block, b.block)) }

func (o *owners) add(block uint64, ino uint32) {
	o.list = append(o.list, owned{block, ino})
	if len(o.list) == 2*maxOwned {
		o.compact()
	}
}

func (o *owners) compact() {
	slices.SortFunc(o.list, byBlock)
	o.list = slices.Compact(o.list)
	o.list = o.list[:min(len(o.list), maxOwned)]
}

func (o *owners) finish() {
	o.compact()
	o.list = slices.Clip(o.list)
	o.byIn = slices.Clone(o.list)
	slices.SortFunc(o.byIn, byInode)
}

// of returns the inodes that a block belongs to.
func (o *owners) of(block uint64) []owned {
	i, _ := slices.BinarySearchFunc(o.list, owned{block: block}, byBlock)
	n := i
	for n < len(o.list) && o.list[n].block == block {
		n++
	}
	return o.list[i:n]
}

// blocks returns the blocks that belong to an inode.
func (o *owners) blocks(ino uint32) []owned {
	i, _ := slices.BinarySearchFunc(o.byIn, owned{ino: ino}, byInode)
	n := i
	for n < len(o.byIn) && o.byIn[n].ino == ino {
		n++
	}
	return o.byIn[i:n]
}

// inodes returns the inodes that have any, ascending.
func (o *owners) inodes() (list []uint32) {
	for _, x := range o.byIn {
		if n := len(list); n == 0 || list[n-1] != x.ino {
			list = append(list, x.ino)
		}
	}
	return list
}

func (x *index) finish() {
	x.dirs.finish()
	x.nodes.finish()
	x.inline.finish()
}

// An indexer fills an index under one reading of the filesystem.
type indexer struct {
	*index
	geo *ext.Geometry
}

func (x *indexer) Inode(ino uint32, in ext.Inode) {
	if in.LinksCount() == 0 {
		return
	}
	extents := in.Flags()&ext.FlagExtents != 0
	switch t := in.Type(); {
	case in.Flags()&ext.FlagInlineData != 0:
		if t == ext.ModeDir {
			x.add(&x.inline, 0, ino)
		}
	case !extents && (t == ext.ModeDir || t == ext.ModeRegular):
		for n := ext.NDirBlocks; n < ext.IBlockCount; n++ {
			if block := uint64(in.BlockNr(n)); block != 0 && x.geo.ValidBlock(block) {
				x.add(&x.nodes, block, ino)
			}
		}
	}
}

func (x *indexer) Directory(ino uint32, block uint64, _ []byte) { x.add(&x.dirs, block, ino) }

func (x *indexer) Extents(ino uint32, block uint64, _ []byte) { x.add(&x.nodes, block, ino) }

// add notes whose a block is.
func (x *indexer) add(to *owners, block uint64, ino uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	to.add(block, ino)
}

func (x *indexer) Attributes(uint64, []byte) {}
func (x *indexer) Pointers(uint64)           {}

func (x *indexer) Indirect(uint32, uint64, bool, []byte) {}

func isDot(name []byte) bool { return string(name) == "." || string(name) == ".." }
