package scrub

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"slices"
	"sync"

	"e2qcow/scan"
)

// Names of indexed directories take 16 bytes and more each, and short names of
// others 24. While they are few they are held from the scan on. Where they are
// many, none is: what the names of a directory become is found out when one of its
// blocks is written, from the blocks of the directory, which are read again. It is
// the same whenever that is done. The directories written last are held.

// maxHeld is how many such names are held at once, unless one directory has more.
const maxHeld = 1 << 19

// A heldNames is the directories whose names are held, where there are too many
// to hold them all.
type heldNames struct {
	readings []scan.Reading // to read names by
	owners   []uint32       // places in Index.owners, ascending by directory, then block
	shared   map[uint32][]uint64

	mu     sync.Mutex
	dirs   map[uint32]*list.Element // of *placedDirectory
	recent *list.List               // those used last first
	names  int                      // of those in dirs
	room   int                      // how many there may be
	again  int                      // names that were read again since there was room for more
	placed Placed
}

// A placedDirectory is a directory whose names have numbers of words.
type placedDirectory struct {
	once  sync.Once
	ino   uint32
	names int
	dir   *directory
}

// hold makes ready to place the names of directories as they are written.
func (x *Index) hold(res *scan.Result) {
	h := &heldNames{dirs: map[uint32]*list.Element{}, recent: list.New(), room: x.maxHeld, shared: map[uint32][]uint64{}}
	for _, r := range res.Readings() {
		if r.Geometry.BlockSize == res.BlockSize() {
			h.readings = append(h.readings, r)
		}
	}
	h.owners = make([]uint32, len(x.owners))
	for i := range h.owners {
		h.owners[i] = uint32(i)
	}
	slices.SortStableFunc(h.owners, func(a, b uint32) int { return cmp.Compare(x.owners[a].ino, x.owners[b].ino) })
	for block, inos := range x.shared {
		for _, ino := range inos {
			h.shared[ino] = append(h.shared[ino], block)
		}
	}
	x.held = h
}

// directory returns what is known of a directory, its names placed; nil where
// nothing is to be known of it.
func (x *Index) directory(ino uint32) *directory {
	d := x.dirs[ino]
	if x.held == nil || ino == 0 {
		return d
	}
	p := x.held.get(ino, d)
	p.once.Do(func() { p.dir = x.placeAgain(ino, d) })
	return p.dir
}

// perDirectory is how many names a directory counts for that is held, beside its
// own: what is known of it has about as many bytes.
const perDirectory = 16

// get returns the place of a directory among those that are held. Others make
// room for it. There is more room from when as many names were read again as
// there is room for, four times over: where the blocks of large directories lie
// between each other, memory is worth the time.
func (h *heldNames) get(ino uint32, d *directory) *placedDirectory {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.dirs[ino]; e != nil {
		h.recent.MoveToFront(e)
		return e.Value.(*placedDirectory)
	}
	p := &placedDirectory{ino: ino, names: perDirectory}
	if d != nil {
		p.names += d.count
		if d.seen {
			const patience = 4
			if h.again += d.count; h.again >= patience*h.room {
				h.room, h.again = 2*h.room, 0
			}
		}
	}
	for h.names > 0 && h.names+p.names > h.room {
		last := h.recent.Remove(h.recent.Back()).(*placedDirectory)
		delete(h.dirs, last.ino)
		h.names -= last.names
	}
	h.dirs[ino] = h.recent.PushFront(p)
	h.names += p.names
	return p
}

// placeAgain reads and places the names of a directory. d is what is known of it,
// if anything. The result is nil where its names need no more than to be drawn.
func (x *Index) placeAgain(ino uint32, d *directory) *directory {
	if d == nil {
		d = &directory{ino: ino}
	}
	g := x.gather(d)
	dr := x.keys.get()
	defer x.keys.put(dr)
	if !g.indexed || g.unknown {
		spread := g.spread(dr, g.shorts, ino == x.lost)
		if g.shorts = nil; !spread && x.dirs[ino] == nil {
			return nil
		}
		return g
	}
	var placed Placed
	if len(g.names)+len(g.odds)+len(g.bounds) > 0 {
		placed, _ = x.placeOne(context.Background(), dr, g, nil) // its draws are bounded
	}
	x.held.mu.Lock()
	defer x.held.mu.Unlock()
	if !d.seen {
		x.held.placed.add(placed)
	}
	d.seen, d.unclear, d.crooked = true, g.unclear, g.crooked
	return g
}

// gather reads the names of a directory in all its blocks, or in its inode.
func (x *Index) gather(d *directory) *directory {
	g := &directory{
		ino: d.ino, indexed: d.indexed, encrypted: d.encrypted, folds: d.folds, rooted: d.rooted, kept: d.kept,
		version: d.version, assumed: d.version, unsigned: d.unsigned, seed: d.seed, source: d,
	}
	h := x.held
	i, found := slices.BinarySearchFunc(h.owners, d.ino, func(o, ino uint32) int { return cmp.Compare(x.owners[o].ino, ino) })
	for ; i < len(h.owners) && x.owners[h.owners[i]].ino == d.ino; i++ {
		o := x.owners[h.owners[i]]
		x.gatherBlocks(g, o.start, uint64(o.count))
	}
	for _, block := range h.shared[d.ino] {
		x.gatherBlocks(g, block, 1)
	}
	if !found {
		x.gatherInline(g)
	}
	if g.unknown {
		g.names, g.odds = nil, nil
	}
	return g
}

// gatherBlocks gathers the names in a run of blocks, as each reading has them.
func (x *Index) gatherBlocks(g *directory, start, count uint64) {
	var block, last []byte
	for n := start; n < start+count; n++ {
		for k := range x.held.readings {
			r := &x.held.readings[k]
			if block == nil {
				block, last = make([]byte, r.Geometry.BlockSize), make([]byte, r.Geometry.BlockSize)
			}
			if r.ReadBlock(n, block); k > 0 && bytes.Equal(block, last) {
				continue
			}
			copy(last, block)
			x.gatherFrom(g, r, n, func(l layout, c *collector) { l.walkBlock(block, c) })
		}
	}
}

// gatherInline gathers the names in the inode of a directory.
func (x *Index) gatherInline(g *directory) {
	for k := range x.held.readings {
		r := &x.held.readings[k]
		if in, ok := r.ReadInode(g.ino); ok && shapeOf(r.Super, r.Geometry).use(in) == useDirectory {
			x.gatherFrom(g, r, 0, func(l layout, c *collector) {
				l.indexed = false
				l.walkInline(in, c)
			})
		}
	}
}

// gatherFrom gathers the names that walk shows, of a block.
func (x *Index) gatherFrom(g *directory, r *scan.Reading, block uint64, walk func(layout, *collector)) {
	v := &visitor{shape: shapeOf(r.Super, r.Geometry), x: x, sb: r.Super}
	c := v.collectorOf(g.ino, g)
	c.again = true
	walk(c.layout(v), c)
	c.moveTo(g, block)
	c.release()
}
