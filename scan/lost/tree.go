package lost

import (
	"cmp"
	"encoding/binary"
	"slices"

	"e2qcow/ext"
)

// A tree is the tree of a file that is followed.
type tree struct {
	ino  uint32
	typ  uint16
	size uint64
	end  uint64 // bytes of the file that count

	// leaf is called with n blocks of the file, which lie from block start on
	// the disk and from block logical in the file.
	leaf func(t *tree, logical, start, n uint64)

	// miss is called with the bytes of the file below a part of the tree that is
	// lost.
	miss func(t *tree, from, end uint64)
}

// A node is an extent node or an indirect block that is to be read.
type node struct {
	*tree
	block      uint64
	first, end uint64 // the blocks of the file that lie below
	level      int    // of an indirect block; 0 for an extent node
	depth      int    // of the nodes above
}

const (
	maxPending = 1 << 15 // nodes that are gathered, to be read in ascending order
	maxDepth   = 5       // of an extent tree
	fileBlocks = 1 << 32 // that a tree can number
)

// root follows the tree in an inode.
func (f *finder) root(t *tree, in ext.Inode) {
	iblock := in.IBlock()
	if in.Flags()&ext.FlagExtents != 0 {
		f.extents(node{tree: t, end: fileBlocks}, iblock)
		return
	}
	f.pointers(node{tree: t, level: 1}, iblock[:4*ext.NDirBlocks], 0)
	first, span := uint64(ext.NDirBlocks), uint64(1)
	for n := ext.NDirBlocks; n < ext.IBlockCount; n++ {
		level := n - ext.NDirBlocks + 1
		span *= f.bs / 4
		f.pointers(node{tree: t, first: first, level: level + 1}, iblock[4*n:4*n+4], span)
		first += span
	}
}

// extents follows an extent node.
func (f *finder) extents(n node, data []byte) {
	x := ext.ExtentNode(data)
	if !x.Valid() {
		return
	}
	_, count := x.Count()
	for i := range count {
		if x.Depth() == 0 {
			if e := x.Extent(i); !e.Unwritten {
				n.leaf(n.tree, uint64(e.Logical), e.Start, uint64(e.Len))
			}
			continue
		}
		child, logical := x.Index(i)
		end := n.end
		if i+1 < count {
			_, next := x.Index(i + 1)
			end = min(end, uint64(next))
		}
		f.push(node{tree: n.tree, block: child, first: uint64(logical), end: end, depth: n.depth + 1})
	}
}

// pointers follows the block numbers of an indirect block, or of an inode. Each
// leads to span blocks of the file; a span of 0 says that it is data.
func (f *finder) pointers(n node, data []byte, span uint64) {
	logical := n.first
	for ; len(data) >= 4 && logical < fileBlocks; data = data[4:] {
		p := uint64(binary.LittleEndian.Uint32(data))
		switch {
		case p == 0:
		case n.level == 1:
			n.leaf(n.tree, logical, p, 1)
		default:
			f.push(node{tree: n.tree, block: p, first: logical, end: logical + span, level: n.level - 1})
		}
		logical += max(span, 1)
	}
}

// push gathers a node. If a part of an extent node is lost, what lies below the
// node is lost: the checksum of the node cannot be right.
func (f *finder) push(n node) {
	switch {
	case !f.geo.ValidBlock(n.block) || n.depth > maxDepth || n.first*f.bs >= n.tree.end:
	case n.level == 0 && f.isLost(n.block*f.bs, f.bs):
		n.miss(n.tree, n.first*f.bs, n.end*f.bs)
	case f.nodesLeft == 0:
		f.cut = true
	default:
		f.nodesLeft--
		f.pending = append(f.pending, n)
	}
}

// drain reads the nodes that are gathered, and those below, level by level.
func (f *finder) drain() error {
	block := func(n node) uint64 { return n.block }
	for len(f.pending) > 0 {
		list := f.pending
		f.pending = nil
		slices.SortStableFunc(list, func(a, b node) int { return cmp.Compare(a.block, b.block) })
		if err := readBlocks(f, list, block, f.visit); err != nil {
			return err
		}
	}
	return nil
}

// readBlocks calls visit with the blocks of the elements of an ascending list.
// Blocks that lie together are read at once.
func readBlocks[T any](f *finder, list []T, block func(T) uint64, visit func(T, []byte)) error {
	if f.buf == nil {
		f.buf = make([]byte, maxWindow)
	}
	for len(list) > 0 {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		n := window(list, f.bs, block)
		first := block(list[0])
		part := f.buf[:(block(list[n-1])-first+1)*f.bs]
		f.reading.ReadBlocks(first, part)
		for _, it := range list[:n] {
			visit(it, part[(block(it)-first)*f.bs:][:f.bs])
		}
		list = list[n:]
	}
	return nil
}

// window returns how many of the first elements of an ascending list lie together
// in maxWindow bytes, without a gap: in a gap may be what nobody wants to read.
func window[T any](list []T, blockSize uint64, block func(T) uint64) int {
	n := 1
	for n < len(list) && block(list[n]) <= block(list[n-1])+1 && (block(list[n])-block(list[0])+1)*blockSize <= maxWindow {
		n++
	}
	return n
}

// visit follows a node that was read.
func (f *finder) visit(n node, data []byte) {
	if n.level == 0 {
		f.extents(n, data)
		return
	}
	span := uint64(0) // of the file, below one pointer
	if n.level > 1 {
		span = (n.end - n.first) / (f.bs / 4)
	}
	if !f.isLost(n.block*f.bs, f.bs) {
		f.pointers(n, data, span)
		return
	}
	// Each pointer that is left leads on.
	for at := uint64(0); at < f.bs; at += sector {
		from := n
		from.first += at / 4 * max(span, 1)
		if f.isLost(n.block*f.bs+at, sector) {
			n.miss(n.tree, from.first*f.bs, (from.first+sector/4*max(span, 1))*f.bs)
			continue
		}
		f.pointers(from, data[at:at+sector], span)
	}
}

// sector is the smallest piece of a block that can be lost, in bytes.
const sector = 512
