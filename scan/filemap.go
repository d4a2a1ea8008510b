package scan

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"

	"e2qcow/ext"
)

// A FileMap is where the blocks of a file lie, in the order of the file. It is
// made for the journal and for attribute values; other trees are followed
// without their order.
type FileMap []ext.Extent

const (
	// maxJournalNodes is how many nodes the tree of a journal may have: enough
	// for the largest in indirect blocks of 1 KiB.
	maxJournalNodes = 1 << 17

	// maxMapExtents bounds the memory of a FileMap.
	maxMapExtents = 1 << 20

	// maxValueWork bounds the work for all attribute values, in the unit of
	// mapCost.work: 2¹⁸ nodes, or fewer nodes with more entries.
	maxValueWork = 1 << 22
)

// A mapCost is the cost of mapping a file.
type mapCost struct {
	nodes   int  // blocks that were read
	entries int  // of nodes, that lead somewhere
	cut     bool // there are more nodes or extents than are taken
}

// work returns the cost in parsed entries. A node counts as the number of
// entries that are parsed in the time of reading the node.
func (c mapCost) work(blockSize uint32) int64 {
	return int64(c.entries) + int64(c.nodes)*int64(max(16, blockSize/256))
}

// mapFile follows the tree whose root is iblock, up to a count of nodes.
func (s *scanner) mapFile(iblock []byte, extents bool, maxNodes int) (FileMap, mapCost) {
	return s.mapAs(&mapper{s: s, left: maxNodes}, iblock, extents)
}

// mapAs is mapFile with a mapper.
func (s *scanner) mapAs(m *mapper, iblock []byte, extents bool) (FileMap, mapCost) {
	maxNodes := m.left
	if extents {
		m.node(iblock)
	} else {
		m.pointers(iblock[:4*ext.NDirBlocks], 0, 0)
		logical, span := uint64(ext.NDirBlocks), uint64(1)
		for n := ext.NDirBlocks; n < ext.IBlockCount; n++ {
			span *= uint64(s.geo.BlockSize / 4)
			m.pointers(iblock[4*n:4*n+4], n-ext.NDirBlocks+1, logical)
			logical += span
		}
	}
	for len(m.todo) > 0 {
		next := m.todo[len(m.todo)-1]
		m.todo = m.todo[:len(m.todo)-1]
		if m.buf == nil {
			m.buf = make([]byte, s.geo.BlockSize)
		}
		s.dev.read(m.buf, int64(next.block)*int64(s.geo.BlockSize))
		if next.level == 0 {
			m.node(m.buf)
		} else {
			m.pointers(m.buf, next.level-1, next.logical)
		}
	}
	slices.SortStableFunc(m.found, func(a, b ext.Extent) int { return cmp.Compare(a.Logical, b.Logical) })
	m.cost.nodes = maxNodes - m.left
	return m.found, m.cost
}

// A mapper gathers the extents of one file.
type mapper struct {
	s     *scanner
	found FileMap
	todo  []mapNode
	seen  blockSet
	left  int  // nodes that may still be read
	all   bool // blocks outside the filesystem are taken too
	cost  mapCost
	buf   []byte // one block; most trees have no nodes but the root
}

// A mapNode is an extent node (level 0) or an indirect block of that level,
// the first block below which is logical.
type mapNode struct {
	block   uint64
	level   int
	logical uint64
}

// push gathers a node to be read, once.
func (m *mapper) push(n mapNode) {
	m.cost.entries++
	switch {
	case m.left == 0:
		m.cost.cut = true
	case m.seen.addNew(n.block):
		m.todo = append(m.todo, n)
		m.left--
	}
}

func (m *mapper) node(b []byte) {
	node := ext.ExtentNode(b)
	if !node.Valid() {
		return
	}
	_, count := node.Count()
	for i := range count {
		if node.Depth() > 0 {
			if child, _ := node.Index(i); m.s.validBlock(child) {
				m.push(mapNode{block: child})
			}
			continue
		}
		m.extent(node.Extent(i))
	}
}

func (m *mapper) pointers(b []byte, level int, logical uint64) {
	span := uint64(1)
	for range level {
		span *= uint64(m.s.geo.BlockSize / 4)
	}
	for ; len(b) >= 4 && logical < 1<<32; b = b[4:] {
		p := uint64(binary.LittleEndian.Uint32(b))
		switch {
		case p == 0 || !m.s.validBlock(p) && (level > 0 || !m.all):
		case level == 0:
			m.extent(ext.Extent{Logical: uint32(logical), Start: p, Len: 1})
		default:
			m.push(mapNode{p, level, logical})
		}
		logical += span
	}
}

func (m *mapper) extent(x ext.Extent) {
	m.cost.entries++
	if _, _, ok := m.s.validRun(x.Start, uint64(x.Len)); !ok && !m.all {
		return
	}
	if n := len(m.found) - 1; n >= 0 {
		last := &m.found[n]
		if last.Logical+last.Len == x.Logical && last.Start+uint64(last.Len) == x.Start && last.Unwritten == x.Unwritten && uint64(last.Len)+uint64(x.Len) < 1<<32 {
			last.Len += x.Len
			return
		}
	}
	if len(m.found) == maxMapExtents {
		m.cost.cut = true
		return
	}
	m.found = append(m.found, x)
}

// Block returns where a block of the file lies.
func (f FileMap) Block(logical uint32) (uint64, bool) {
	i := sort.Search(len(f), func(i int) bool { return f[i].Logical > logical })
	if i == 0 {
		return 0, false
	}
	x := f[i-1]
	if d := logical - x.Logical; d < x.Len {
		return x.Start + uint64(d), true
	}
	return 0, false
}

// contiguous returns how many blocks of the file from block logical on, which
// is no hole, lie one behind the other: up to the next extent, which may begin
// before this one ends.
func (f FileMap) contiguous(logical uint32) uint64 {
	i := sort.Search(len(f), func(i int) bool { return f[i].Logical > logical })
	n := f[i-1].Len - (logical - f[i-1].Logical)
	if i < len(f) {
		n = min(n, f[i].Logical-logical)
	}
	return uint64(n)
}

// Blocks returns the length of the file in blocks, holes included.
func (f FileMap) Blocks() uint64 {
	if len(f) == 0 {
		return 0
	}
	last := f[len(f)-1]
	return uint64(last.Logical) + uint64(last.Len)
}
