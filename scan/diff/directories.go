package diff

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A dirDelta counts how often the entries of a directory came, less how often
// they went.
type dirDelta map[dirEntry]int

type dirEntry struct {
	name string
	ino  uint32
	typ  uint8
}

// maxEntries is how many entries of all directories are told apart at a time.
const maxEntries = 1 << 17

// entries takes in a chain of entries of a directory of one side.
func (c *comparison) entries(i int, dir uint32, chain []byte) {
	r := ext.NewDirReader(chain, int(c.side[i].geo.BlockSize))
	for r.Next() {
		if e := r.Entry(); e.Inode != 0 {
			c.countEntry(i, dir, dirEntry{string(e.Name), e.Inode, e.Type})
		}
	}
}

// countEntry takes in an entry of a directory of one side.
func (c *comparison) countEntry(i int, dir uint32, e dirEntry) {
	d := c.dirs[dir]
	if d == nil {
		d = make(dirDelta)
		c.dirs[dir] = d
	}
	add := 2*i - 1
	n, known := d[e]
	switch {
	case n+add == 0:
		delete(d, e)
		c.entriesHeld--
	case known:
		d[e] = n + add
	case c.entriesHeld >= maxEntries:
		c.d.Omitted["entries"]++
	default:
		d[e] = add
		c.entriesHeld++
	}
}

// directory compares a block of a directory. What belongs to another directory
// than before, or to none, is left to finishDirectories.
func (c *comparison) directory(p *pair) {
	for _, o := range c.side[0].index.dirs.of(p.block) {
		if !c.side[1].ownsBlock(o) {
			continue
		}
		c.entries(0, o.ino, p.data[0])
		c.entries(1, o.ino, p.data[1])
		c.indexBlock(o.ino, p)
	}
}

// ownsBlock tells whether a block is one of a directory. A scan tells of one
// directory only where damage has several claim the block.
func (s *side) ownsBlock(o owned) bool {
	list := s.index.dirs.of(o.block)
	if slices.Contains(list, o) {
		return true
	}
	if len(list) == 0 {
		return false
	}
	in := s.inode(o.ino)
	if in.Type() != ext.ModeDir || in.LinksCount() == 0 || inline(in) {
		return false
	}
	return slices.ContainsFunc(s.reading.MapFile(in, maxDotNodes), func(x ext.Extent) bool {
		return o.block >= x.Start && o.block-x.Start < uint64(x.Len)
	})
}

// Fields of the root of an htree and of its other blocks.
var (
	rootFields = []ext.Field{
		{Offset: 0, Size: 4, Name: "reserved_zero"},
		{Offset: 4, Size: 1, Name: "hash_version"},
		{Offset: 5, Size: 1, Name: "info_length"},
		{Offset: 6, Size: 1, Name: "indirect_levels"},
		{Offset: 7, Size: 1, Name: "unused_flags"},
	}
	limitFields = []ext.Field{
		{Offset: 0, Size: 2, Name: "limit"},
		{Offset: 2, Size: 2, Name: "count"},
	}
)

const (
	rootInfo    = 24 // struct dx_root_info
	rootInfoEnd = rootInfo + 8
)

// indexBlock compares a block of a directory as one of its htree, and how right
// its checksum is.
func (c *comparison) indexBlock(dir uint32, p *pair) {
	var x [2]ext.IndexBlock
	var is, root [2]bool
	var sums [2]string
	for i, s := range c.side {
		in := s.directory(dir)
		if in.Flags()&ext.FlagIndex != 0 {
			if x[i], root[i] = ext.DecodeIndexRoot(p.data[i]); root[i] && s.lastDirFirst == p.block {
				is[i] = true
			} else {
				x[i], is[i] = ext.DecodeIndexNode(p.data[i])
				root[i] = false
			}
		}
		sums[i] = sumState(s.sumsOn, ext.VerifyDirBlock(ext.InodeSeed(s.seed, dir, in.Generation()), p.data[i]))
	}
	it := Index{Directory: dir, Block: p.block, Sums: sumsOf(sums[0], sums[1])}
	switch {
	case is[0] != is[1]:
		it.Fields = []Field{{Name: "index", Old: is[0], New: is[1]}}
	case is[0]:
		if root[0] && root[1] {
			it.Fields = compareFields(rootFields, p.data[0][rootInfo:rootInfoEnd], p.data[1][rootInfo:rootInfoEnd], "")
		}
		it.Fields = append(it.Fields, compareFields(limitFields, x[0].Limits(), x[1].Limits(), "")...)
		a, b := x[0].Count(), x[1].Count()
		it.Entries = max(a, b) - min(a, b)
		for k := range min(a, b) {
			if !bytes.Equal(x[0].Block(k), x[1].Block(k)) || k > 0 && !bytes.Equal(x[0].Hash(k), x[1].Hash(k)) {
				it.Entries++
			}
		}
	}
	if (len(it.Fields) > 0 || it.Entries > 0 || it.Sums != nil) && c.room("indexes", 1+len(it.Fields)) {
		c.d.Indexes = append(c.d.Indexes, it)
	}
}

// directory returns the inode of a directory, and remembers the last one.
func (s *side) directory(ino uint32) ext.Inode {
	if s.lastDir == nil || s.lastDirInode != ino {
		s.lastDir, s.lastDirInode = s.inode(ino), ino
		s.lastDirFirst, _ = scan.FileMap(s.reading.MapFile(s.lastDir, maxFileNodes)).Block(0)
	}
	return s.lastDir
}

// maxDirReads bounds what is read of directories that came or went as a whole,
// in bytes.
const maxDirReads = 256 << 20

// finishDirectories takes in blocks that belong to a directory on one side
// only, then tells what became of entries.
func (c *comparison) finishDirectories() error {
	left := int64(maxDirReads)
	buf := make([]byte, c.d.BlockSize)
	for i, s := range c.side {
		other := c.side[1-i]
		for _, o := range s.index.dirs.list {
			if _, found := slices.BinarySearchFunc(other.index.dirs.list, o, byBlock); found {
				continue
			}
			if left < 0 || other.ownsBlock(o) {
				continue
			}
			if left -= int64(len(buf)); left < 0 || c.ctx.Err() != nil {
				c.d.Omitted["entries"]++
				continue
			}
			s.reading.ReadBlock(o.block, buf)
			c.entries(i, o.ino, buf)
		}
	}
	came, went := c.retargeted()
	c.renamed(came, went)
	slices.SortFunc(c.d.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Directory, b.Directory), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.What, b.What))
	})
	c.dirs = nil
	return nil
}

// A dirChange is an entry that came or went.
type dirChange struct {
	dir uint32
	dirEntry
}

func compareChanges(a, b dirChange) int {
	return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name), cmp.Compare(a.typ, b.typ))
}

// retargeted keeps the names that lead elsewhere, and returns the other entries
// that came and went, by inode.
func (c *comparison) retargeted() (came, went []dirChange) {
	for _, dir := range slices.Sorted(maps.Keys(c.dirs)) {
		byName := make(map[string][2][]dirEntry)
		for e, n := range c.dirs[dir] {
			lists := byName[e.name]
			side := 0
			if n > 0 {
				side = 1
			}
			for range max(n, -n) {
				lists[side] = append(lists[side], e)
			}
			byName[e.name] = lists
		}
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			lists := byName[name]
			for i := range lists {
				slices.SortFunc(lists[i], func(a, b dirEntry) int { return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.typ, b.typ)) })
			}
			for len(lists[0]) > 0 && len(lists[1]) > 0 {
				old, now := lists[0][0], lists[1][0]
				c.entry(Entry{What: Retargeted, Directory: dir, Name: Name(name), Inode: now.ino, Type: now.typ, OldInode: old.ino, OldType: old.typ})
				lists[0], lists[1] = lists[0][1:], lists[1][1:]
			}
			for _, e := range lists[0] {
				went = append(went, dirChange{dir, e})
			}
			for _, e := range lists[1] {
				came = append(came, dirChange{dir, e})
			}
		}
	}
	slices.SortFunc(came, compareChanges)
	slices.SortFunc(went, compareChanges)
	return came, went
}

// renamed keeps the entries that came and went: one of each that leads to the
// same inode is an entry that was renamed.
func (c *comparison) renamed(came, went []dirChange) {
	for len(came) > 0 || len(went) > 0 {
		switch {
		case len(went) == 0 || len(came) > 0 && came[0].ino < went[0].ino:
			c.came(came[0])
			came = came[1:]
		case len(came) == 0 || went[0].ino < came[0].ino:
			c.went(went[0])
			went = went[1:]
		case isDot([]byte(came[0].name)):
			c.came(came[0])
			came = came[1:]
		case isDot([]byte(went[0].name)):
			c.went(went[0])
			went = went[1:]
		default:
			now, old := came[0], went[0]
			c.entry(Entry{What: Renamed, Directory: now.dir, Name: Name(now.name), Inode: now.ino, Type: now.typ,
				OldDirectory: old.dir, OldName: Name(old.name), OldInode: old.ino, OldType: old.typ})
			came, went = came[1:], went[1:]
		}
	}
}

func (c *comparison) came(e dirChange) {
	c.entry(Entry{What: Added, Directory: e.dir, Name: Name(e.name), Inode: e.ino, Type: e.typ})
}

func (c *comparison) went(e dirChange) {
	c.entry(Entry{What: Removed, Directory: e.dir, Name: Name(e.name), Inode: e.ino, Type: e.typ})
}

func (c *comparison) entry(e Entry) {
	if c.room("entries", 2) {
		c.d.Entries = append(c.d.Entries, e)
	}
}
