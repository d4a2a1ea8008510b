package reduce

import (
	"context"
	"slices"

	"e2qcow/ext"
)

// maxNamed bounds how many numbers of a command's output are looked at.
const maxNamed = 1 << 16

// freeUnnamed frees, at once, all inodes but those whose number, or the number of
// one of whose blocks, stands in what the command says, and the directories that
// lead to them.
func freeUnnamed(ctx context.Context, r *reducer) error {
	f, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	named := numbers(r.want.Output, maxNamed)
	keep := map[uint32]bool{}
	for _, n := range t.nodes {
		if n.broken || named[uint64(n.ino)] || n.owns(named) {
			t.keepWay(keep, n.ino)
		}
	}
	list := []*change{f.remove(t, t.without(keep))}
	for _, n := range t.nodes {
		for _, d := range n.entries {
			if n.ino == rootInode && d.name == lostAndFound { // which e2fsck makes anew
				t.keepWay(keep, d.ino)
				list = append(list, f.remove(t, t.without(keep)))
			}
		}
	}
	_, err = r.first(ctx, slices.DeleteFunc(list, func(c *change) bool { return c == nil || c.empty(r.disk) }))
	return err
}

// owns reports whether one of the blocks is in the set. A set is smaller than
// what a large file has.
func (n *node) owns(blocks map[uint64]bool) bool {
	for _, r := range n.runs {
		if r.count < uint64(len(blocks)) {
			for b := r.start; b < r.start+r.count; b++ {
				if blocks[b] {
					return true
				}
			}
			continue
		}
		for b := range blocks {
			if b >= r.start && b-r.start < r.count {
				return true
			}
		}
	}
	return false
}

// keepWay adds an inode and the directories above it to a set.
func (t *tree) keepWay(keep map[uint32]bool, ino uint32) {
	for !keep[ino] {
		keep[ino] = true
		parent, ok := t.parent[ino]
		if !ok {
			return
		}
		ino = parent
	}
}

// without returns the inodes that may be freed but those in keep.
func (t *tree) without(keep map[uint32]bool) map[uint32]bool {
	gone := map[uint32]bool{}
	for _, n := range t.nodes {
		if t.isFile(n) && !keep[n.ino] {
			gone[n.ino] = true
		}
	}
	return gone
}

// isFile reports whether a node is a file or a directory that a user made, or one
// that was deleted.
func (t *tree) isFile(n *node) bool {
	return n.ino >= t.first && n.inode.Flags()&ext.FlagEaInode == 0 && !t.special[n.ino]
}

// freeInodes frees inodes by halves, then by smaller parts. A directory goes with
// all that is below it.
func freeInodes(ctx context.Context, r *reducer) error {
	_, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	var list []uint32
	for _, n := range t.nodes {
		if t.isFile(n) {
			list = append(list, n.ino)
		}
	}
	return r.eachPart(ctx, len(list), func(things []int) *change {
		f, t, err := r.look()
		if err != nil {
			return nil
		}
		gone := map[uint32]bool{}
		for _, i := range things {
			if t.byIno[list[i]] != nil {
				gone[list[i]] = true
			}
		}
		for _, n := range t.nodes { // what is below
			if t.isFile(n) && !gone[n.ino] && t.isBelow(n.ino, gone) {
				gone[n.ino] = true
			}
		}
		return f.remove(t, gone)
	})
}

// isBelow reports whether a directory above an inode is in the set.
func (t *tree) isBelow(ino uint32, set map[uint32]bool) bool {
	for range maxPath {
		parent, ok := t.parent[ino]
		if !ok {
			return false
		}
		if set[parent] {
			return true
		}
		ino = parent
	}
	return false
}

// maxPath bounds how many directories are above an inode, as a loop may be.
const maxPath = 4096

// remove returns the change that frees inodes: with their blocks, bits, entries,
// and the links that go with them.
func (f *filesystem) remove(t *tree, gone map[uint32]bool) *change {
	if len(gone) == 0 {
		return nil
	}
	e := f.edit()
	links := map[uint32]int{} // that kept inodes lose
	xattrs := map[uint64]int{}
	for _, n := range t.nodes {
		if !gone[n.ino] {
			for _, d := range n.entries {
				if gone[d.ino] && d.name != "." && d.name != ".." {
					blank(e.dirBlock(n, d.block)[d.off:])
				}
			}
			continue
		}
		for _, d := range n.entries {
			if d.name != "." && !gone[d.ino] {
				links[d.ino]++
			}
		}
		if n.xattr != 0 && t.isShared(n.xattr) {
			xattrs[n.xattr]++
		}
		for _, r := range n.runs {
			e.free(r.start, r.count, t.shared)
		}
		e.freeInode(n)
		clear(e.inode(n.ino))
	}
	for ino, n := range links {
		e.dropLinks(t, ino, n)
	}
	for block, n := range xattrs {
		e.dropReferences(block, n)
	}
	return e.change()
}

// blank makes an entry of a directory one that is not used.
func blank(b []byte) {
	nameLen := int(b[6])
	clear(b[:4])
	clear(b[6 : 8+nameLen])
}

// dropLinks takes n links from an inode.
func (e *edit) dropLinks(t *tree, ino uint32, n int) {
	node := t.byIno[ino]
	if node == nil || node.inode.Type() == ext.ModeDir && node.inode.LinksCount() == 1 {
		return // a directory with too many links to count
	}
	if in := e.inode(ino); in != nil {
		le.PutUint16(in[inLinks:], uint16(int(node.inode.LinksCount())-n))
	}
}

// dropReferences takes n references from an attribute block that others share.
func (e *edit) dropReferences(block uint64, n int) {
	const refcount = 4
	b := e.xattrBlock(block)
	le.PutUint32(b[refcount:], le.Uint32(b[refcount:])-uint32(n))
}

// Offsets in struct ext4_inode.
const (
	inUID       = 0x02
	inSizeLo    = 0x04
	inAtime     = 0x08
	inCtime     = 0x0C
	inMtime     = 0x10
	inGID       = 0x18
	inLinks     = 0x1A
	inBlocksLo  = 0x1C
	inACLLo     = 0x68
	inSizeHi    = 0x6C
	inBlocksHi  = 0x74
	inACLHi     = 0x76
	inUIDHi     = 0x78
	inGIDHi     = 0x7A
	inExtraSize = 0x80
	inCtimeX    = 0x84
	inMtimeX    = 0x88
	inAtimeX    = 0x8C
	inCrtime    = 0x90
	inCrtimeX   = 0x94
	oldSize     = 128
)
