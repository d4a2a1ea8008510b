package diff

import (
	"cmp"
	"maps"
	"slices"

	"e2qcow/ext"
)

// A mapCursor walks the extents of a file.
type mapCursor []ext.Extent

// at returns where block n of the file lies, 0 for a hole, and the first block
// of the file for which that says nothing. n never descends.
func (m *mapCursor) at(n uint64) (start uint64, unwritten bool, end uint64) {
	for len(*m) > 0 {
		x := (*m)[0]
		first := uint64(x.Logical)
		switch end := first + uint64(x.Len); {
		case end <= n:
			*m = (*m)[1:]
		case first > n:
			return 0, false, first
		default:
			return x.Start + n - first, x.Unwritten, end
		}
	}
	return 0, false, 1 << 63
}

// compareMaps yields the parts of a file that lie elsewhere.
func compareMaps(a, b mapCursor) func(yield func(Extent) bool) {
	return func(yield func(Extent) bool) {
		for n := uint64(0); ; {
			old, oldUnwritten, oldEnd := a.at(n)
			now, nowUnwritten, nowEnd := b.at(n)
			end := min(oldEnd, nowEnd)
			if end == 1<<63 {
				return
			}
			if (old != now || oldUnwritten != nowUnwritten) && !yield(Extent{n, end - n, old, now, oldUnwritten, nowUnwritten}) {
				return
			}
			n = end
		}
	}
}

// maxTrees is how many files are looked at whose trees differ below the inode,
// and for how many blocks the file is looked for.
const maxTrees = 1 << 16

// node takes in a block of a file's tree that differs: the file's map is
// compared once all are known.
func (c *comparison) node(p *pair) {
	known := false
	for _, s := range c.side {
		for _, o := range s.index.nodes.of(p.block) {
			if known = true; len(c.trees) < maxTrees {
				c.trees[o.ino] = true
			}
		}
	}
	if !known && len(c.lostNodes) < maxTrees {
		c.lostNodes[p.block] = true
	}
}

// findNodes finds the files that indirect blocks of the lower levels belong to:
// a scan does not tell.
func (c *comparison) findNodes() {
	left := maxAllNodes
	for _, s := range c.side {
		if len(c.lostNodes) == 0 {
			return
		}
		for _, ino := range s.index.nodes.inodes() {
			in := s.inode(ino)
			if in.Flags()&ext.FlagExtents != 0 {
				continue
			}
			level := []uint64{uint64(in.BlockNr(ext.NDirBlocks + 2))}
			next := []uint64{uint64(in.BlockNr(ext.NDirBlocks + 1))}
			for range 2 { // what the triply indirect block leads to is doubly indirect
				next = append(next, c.pointers(s, ino, level, &left)...)
				level, next = next, nil
			}
		}
	}
}

// pointers returns what indirect blocks lead to, and notes those that were
// looked for.
func (c *comparison) pointers(s *side, ino uint32, blocks []uint64, left *int) (list []uint64) {
	buf := make([]byte, s.geo.BlockSize)
	for _, block := range blocks {
		if block == 0 || !s.geo.ValidBlock(block) || *left == 0 {
			continue
		}
		*left--
		s.reading.ReadBlock(block, buf)
		for b := buf; len(b) >= 4; b = b[4:] {
			if n := uint64(le.Uint32(b)); n != 0 && s.geo.ValidBlock(n) {
				list = append(list, n)
				if c.lostNodes[n] && len(c.trees) < maxTrees {
					c.trees[ino] = true
				}
			}
		}
	}
	return list
}

// finishInodes compares the maps of files whose trees differ below the inode,
// and the inodes of tables that lie elsewhere.
func (c *comparison) finishInodes() error {
	const most = 1 << 20 // inodes looked at
	left := most
	slices.Sort(c.movedTables)
	for _, g := range slices.Compact(c.movedTables) {
		per := c.side[1].geo.InodesPerGroup
		for k := uint32(0); k < per && left > 0 && c.ctx.Err() == nil; k, left = k+1, left-1 {
			if ino := uint64(g)*uint64(per) + uint64(k) + 1; ino < 1<<32 {
				c.inodeByNumber(uint32(ino))
			}
		}
	}
	c.findNodes()
	for _, ino := range slices.Sorted(maps.Keys(c.trees)) {
		it := c.inodes[ino]
		if it != nil && it.mapped {
			continue
		}
		a, b := c.side[0].inode(ino), c.side[1].inode(ino)
		if it == nil {
			if it = c.newInode(ino, a, b); !c.room("inodes", 2) {
				delete(c.inodes, ino)
				continue
			}
		}
		c.mapInode(it, a, b)
		c.left -= min(c.left, len(it.Map))
	}
	return nil
}

// ranges are runs of blocks with the inode that each belongs to.
type ranges struct {
	list   []ownedRange
	sorted bool
}

type ownedRange struct {
	start, count uint64
	ino          uint32
}

func (r *ranges) add(start, count uint64, ino uint32) {
	const most = 1 << 19
	if len(r.list) < most {
		r.list = append(r.list, ownedRange{start, count, ino})
		r.sorted = false
	}
}

// find returns the inode that a block belongs to, 0 for none, and the first
// block behind it for which that says nothing.
func (r *ranges) find(block uint64) (ino uint32, end uint64) {
	if !r.sorted {
		slices.SortFunc(r.list, compareRanges)
		r.sorted = true
	}
	i, _ := slices.BinarySearchFunc(r.list, ownedRange{start: block + 1}, compareRanges)
	end = 1 << 63
	if i < len(r.list) {
		end = r.list[i].start
	}
	const near = 8 // ranges that damage lays over each other
	for k := i - 1; k >= 0 && k >= i-near; k-- {
		if x := r.list[k]; block-x.start < x.count {
			return x.ino, min(end, x.start+x.count)
		}
	}
	return 0, end
}

func compareRanges(a, b ownedRange) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.count, b.count), cmp.Compare(a.ino, b.ino))
}
