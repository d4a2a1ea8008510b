package diff

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"e2qcow/ext"
	"e2qcow/scan"
)

// search goes through all files of an image for those that have blocks of
// wanted, and returns what it finds of them.
func (s *side) search(ctx context.Context, wanted *ranges, opt scan.Options) ([]ownedRange, error) {
	wanted.find(0)            // sorts
	var searchers []*searcher // in the order in which readings began
	opt.Visit = func(sb *ext.Superblock, geo *ext.Geometry) scan.Visitor {
		x := &searcher{super: sb, wanted: wanted.list}
		searchers = append(searchers, x)
		return &searching{x, geo}
	}
	opt.Journal, opt.Progress = scan.JournalNone, nil
	res, err := scan.Scan(ctx, s.src.Reader, s.size, opt)
	if err != nil {
		return nil, fmt.Errorf("looking for the owners of blocks: %w", err)
	}
	i := slices.IndexFunc(searchers, func(x *searcher) bool { return x.super == res.Super() })
	rd := slices.IndexFunc(res.Readings(), func(r scan.Reading) bool { return r.Super == res.Super() })
	if i < 0 || rd < 0 {
		return nil, nil
	}
	x, reading := searchers[i], &res.Readings()[rd]
	// Files with indirect blocks: who owns those is not shown to a visitor.
	slices.Sort(x.indirect)
	nodes := maxAllNodes
	for _, ino := range slices.Compact(x.indirect) {
		if in, ok := reading.ReadInode(ino); ok && nodes > 0 {
			file := reading.MapFile(in, min(nodes, maxFileNodes))
			nodes -= 1 + len(file)/8
			for _, e := range file {
				x.has(ino, e.Start, uint64(e.Len))
			}
		}
	}
	slices.SortFunc(x.found, compareRanges)
	return x.found, nil
}

// A searcher gathers the owners of wanted blocks.
type searcher struct {
	super  *ext.Superblock // of the reading
	wanted []ownedRange    // ascending

	mu       sync.Mutex
	found    []ownedRange
	indirect []uint32
}

// maxIndirect is how many files with indirect blocks are looked at.
const maxIndirect = 1 << 16

// has takes in that a file has blocks.
func (x *searcher) has(ino uint32, start, n uint64) {
	i, _ := slices.BinarySearchFunc(x.wanted, start, func(r ownedRange, b uint64) int { return cmp.Compare(r.start+r.count, b+1) })
	for ; i < len(x.wanted) && x.wanted[i].start < start+n; i++ {
		w := x.wanted[i]
		from, to := max(w.start, start), min(w.start+w.count, start+n)
		if from >= to {
			continue
		}
		x.mu.Lock()
		if len(x.found) < maxOwned {
			x.found = append(x.found, ownedRange{from, to - from, ino})
		}
		x.mu.Unlock()
	}
}

// searching searches under one reading of a filesystem.
type searching struct {
	*searcher
	geo *ext.Geometry
}

func (x *searching) Inode(ino uint32, in ext.Inode) {
	if in.LinksCount() == 0 && ino >= x.geo.FirstInode {
		return
	}
	if acl := in.FileACL(x.geo.DescSize > 32); acl != 0 {
		x.has(ino, acl, 1)
	}
	if !hasMap(in) {
		return
	}
	if in.Flags()&ext.FlagExtents != 0 {
		x.node(ino, in.IBlock())
		return
	}
	x.pointers(ino, in.IBlock())
	if in.BlockNr(ext.NDirBlocks)|in.BlockNr(ext.NDirBlocks+1)|in.BlockNr(ext.NDirBlocks+2) != 0 {
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.indirect) < maxIndirect {
			x.indirect = append(x.indirect, ino)
		}
	}
}

func (x *searching) pointers(ino uint32, b []byte) {
	for ; len(b) >= 4; b = b[4:] {
		if block := binary.LittleEndian.Uint32(b); block != 0 {
			x.has(ino, uint64(block), 1)
		}
	}
}

func (x *searching) node(ino uint32, b []byte) {
	node := ext.ExtentNode(b)
	if !node.Valid() {
		return
	}
	_, n := node.Count()
	for i := range n {
		if node.Depth() > 0 {
			child, _ := node.Index(i)
			x.has(ino, child, 1)
			continue
		}
		e := node.Extent(i)
		x.has(ino, e.Start, uint64(e.Len))
	}
}

func (x *searching) Directory(ino uint32, block uint64, _ []byte) { x.has(ino, block, 1) }

func (x *searching) Extents(ino uint32, block uint64, data []byte) {
	x.has(ino, block, 1)
	x.node(ino, data)
}

func (x *searching) Attributes(uint64, []byte) {}
func (x *searching) Pointers(uint64)           {}

func (x *searching) Indirect(uint32, uint64, bool, []byte) {}
