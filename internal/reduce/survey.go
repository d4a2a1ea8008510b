package reduce

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/ranges"
	"e2qcow/internal/zero"
)

// A run is a run of blocks of an inode; of the filesystem itself if the inode is
// 0.
type run struct {
	start, count uint64
	ino          uint32
}

// A dirent is an entry of a directory.
type dirent struct {
	ino   uint32
	block uint64
	off   int    // in the block
	name  string // "." and ".." too
}

// A node is an inode that says something.
type node struct {
	ino     uint32
	inode   ext.Inode
	runs    []run
	trees   []uint64 // blocks of the extent tree
	entries []dirent // of a directory
	xattr   uint64   // the attribute block; 0 for none
	broken  bool     // the map of its blocks contradicts itself
}

// A tree is all that the inodes of a filesystem say.
type tree struct {
	nodes  []*node // by number
	byIno  map[uint32]*node
	parent map[uint32]uint32
	shared []ranges.Range[uint64] // blocks that are claimed more than once

	first   uint32          // inode that a user may have made
	special map[uint32]bool // inodes that the superblock names
}

// Bounds of a survey.
const (
	maxNodes   = 1 << 20 // inodes
	maxRuns    = 4 << 20
	maxEntries = 4 << 20
	maxDepth   = 5

	maxReads = 1 << 20 // blocks of maps that are read
)

// survey reads all inodes, their maps, and the entries of directories.
func (f *filesystem) survey() (*tree, error) {
	t := &tree{byIno: map[uint32]*node{}, parent: map[uint32]uint32{}, first: f.firstInode(), special: f.isSpecial()}
	runs, entries := 0, 0
	err := f.eachInode(func(ino uint32, b []byte) error {
		if len(t.nodes) == maxNodes || runs > maxRuns || entries > maxEntries {
			return errNoLayout
		}
		n := &node{ino: ino, inode: slices.Clone(ext.Inode(b))}
		if err := f.mapNode(n); err != nil {
			return err
		}
		if n.inode.Type() == ext.ModeDir {
			if err := f.readEntries(n); err != nil {
				return err
			}
		}
		runs, entries = runs+len(n.runs), entries+len(n.entries)
		t.nodes = append(t.nodes, n)
		t.byIno[ino] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range t.nodes {
		for _, e := range n.entries {
			if _, known := t.parent[e.ino]; !known && e.name != "." && e.name != ".." && e.ino != n.ino {
				t.parent[e.ino] = n.ino
			}
		}
	}
	t.shared = f.sharedBlocks(t)
	return t, nil
}

// eachInode calls do with each inode that is not zero.
func (f *filesystem) eachInode(do func(ino uint32, b []byte) error) error {
	data := image.Data(f.d.base) // what is changed was there before
	size := int64(f.geo.InodeSize)
	buf := make([]byte, 256*size)
	for group := range f.geo.GroupCount {
		start, ok := f.inodeOffset(group*f.geo.InodesPerGroup + 1)
		if !ok {
			continue
		}
		end := start + int64(f.geo.InodesPerGroup)*size
		for off := start; off < end; {
			from, to, err := data.NextRun(off)
			if err != nil || from >= end {
				break
			}
			from = start + (from-start)/size*size
			to = min(start+(min(to, end)-start+size-1)/size*size, end)
			for ; from < to; from += int64(len(buf)) {
				b := buf[:min(int64(len(buf)), to-from)]
				if _, err := f.d.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				for at := int64(0); at < int64(len(b)); at += size {
					in := ext.Inode(b[at : at+size])
					ino := group*f.geo.InodesPerGroup + uint32((from+at-start)/size) + 1
					if zero.IsZero(in) {
						continue
					}
					if err := do(ino, in); err != nil {
						return err
					}
				}
			}
			off = to
		}
	}
	return nil
}

// readEntries reads the entries of a directory that has blocks.
func (f *filesystem) readEntries(n *node) error {
	trees := map[uint64]bool{n.xattr: true}
	for _, t := range n.trees {
		trees[t] = true
	}
	bs := int(f.geo.BlockSize)
	for _, r := range n.runs {
		for block := r.start; block < r.start+r.count; block++ {
			if trees[block] {
				continue
			}
			b, err := f.block(block)
			if err != nil {
				return err
			}
			for off := 0; off+8 <= bs; {
				recLen := ext.RecLen(le.Uint16(b[off+4:]), bs)
				nameLen := int(b[off+6])
				if recLen < 8 || recLen%4 != 0 || off+recLen > bs || 8+nameLen > recLen {
					if !zero.IsZero(b) {
						n.broken = true
					}
					break
				}
				if ino := le.Uint32(b[off:]); ino != 0 && len(n.entries) < maxEntries {
					n.entries = append(n.entries, dirent{ino, block, off, string(b[off+8 : off+8+nameLen])})
				}
				off += recLen
			}
		}
	}
	return nil
}

// sharedBlocks returns the blocks that two claim.
func (f *filesystem) sharedBlocks(t *tree) []ranges.Range[uint64] {
	var all []run
	g := f.geo
	add := func(start, count uint64) {
		if count > 0 && g.ValidBlock(start) && g.ValidBlock(start+count-1) {
			all = append(all, run{start, count, 0})
		}
	}
	for group := range g.GroupCount {
		if g.HasSuper(group) {
			add(g.SuperBlock(group), 1+uint64(g.LinearDescBlocks()))
		}
		d := f.desc(group)
		add(d.BlockBitmap(), 1)
		add(d.InodeBitmap(), 1)
		add(d.InodeTable(), uint64(g.TableBlocks))
	}
	for _, n := range t.nodes {
		all = append(all, n.runs...)
	}
	slices.SortFunc(all, func(a, b run) int { return cmp.Compare(a.start, b.start) })
	var shared []ranges.Range[uint64]
	end := uint64(0)
	for _, r := range all {
		if r.start < end {
			shared = ranges.Append(shared, r.start, min(end, r.start+r.count))
		}
		end = max(end, r.start+r.count)
	}
	return shared
}

// isShared reports whether more than one claims the block.
func (t *tree) isShared(block uint64) bool {
	i := ranges.Find(t.shared, block)
	return i < len(t.shared) && t.shared[i].Start <= block
}
