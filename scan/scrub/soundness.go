package scrub

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"e2qcow/ext"
)

// An index that is sound in the source has to be sound in what is written. That
// is found out while its blocks are written, from the names and hashes in them:
//
//	leaf of the source   its names lie between two borders: its cell
//	leaf as written      so do its words, between the same two borders as drawn
//	root or node         hashes ascend if they did; count and limit are the same
//
// Placing knows of names for which it found no word: such a directory is
// counted. Any other that is sound no more is a defect, and ends the run, unless
// the filesystem is damaged, where blocks may belong to several directories, or
// has changed since the scan.

// An IndexError is a directory whose index was sound, and would not be as it
// is written.
type IndexError struct {
	Directory uint32 // inode
	Block     uint64 // of the filesystem
}

func (e *IndexError) Error() string {
	return fmt.Sprintf("the index of the directory of inode %d was sound and would not be in the scrambled image, by block %d", e.Directory, e.Block)
}

// A leaf is a block with names of an indexed directory.
type leaf struct {
	block uint64

	// low and high are the least and the greatest hash of the names in the
	// source. Once names are placed, low is the cell that both lie in.
	low, high uint32
}

// sortLeaves finds the cell of each leaf, and whether all names lie in the cells
// of their leaves.
func (d *directory) sortLeaves() {
	slices.SortFunc(d.leaves, func(a, b leaf) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.low, b.low), cmp.Compare(a.high, b.high))
	})
	for i := range d.leaves {
		l := &d.leaves[i]
		low, high := placedName{hash: l.low}, placedName{hash: l.high, lower: l.low < l.high}
		cell := d.cell(&low)
		d.crooked = d.crooked || cell != d.cell(&high)
		// Of a leaf whose names all have the hash that goes on from the leaf before,
		// nothing says which of the two it is.
		at, found := slices.BinarySearch(d.bounds, l.low|1)
		d.unclear = d.unclear || found && at > 0 && l.low == l.high
		l.low = cell
	}
	kept := d.leaves[:0]
	for _, l := range d.leaves {
		if n := len(kept) - 1; n >= 0 && kept[n].block == l.block {
			d.crooked = d.crooked || kept[n].low != l.low // by two readings
			continue
		}
		kept = append(kept, l)
	}
	d.leaves = slices.Clip(kept)
}

// leafAt returns the leaf that a block is.
func (d *directory) leafAt(block uint64) (leaf, bool) {
	i, found := slices.BinarySearchFunc(d.leaves, block, func(l leaf, b uint64) int { return cmp.Compare(l.block, b) })
	if !found {
		return leaf{}, false
	}
	return d.leaves[i], true
}

// holds tells whether words with hashes from low to high may stand in a leaf.
func (d *directory) holds(l leaf, low, high uint32) bool {
	cell := int(l.low)
	end := uint64(math.MaxUint32)
	if next := cell + 1; next < len(d.fresh) {
		end = uint64(d.fresh[next]) - 1
		if d.bounds[next]&1 != 0 {
			end++ // the leaf behind goes on with the hash
		}
	}
	return low >= d.fresh[cell] && uint64(high) <= end
}

// A writtenBlock is what is written of a block of an indexed directory.
type writtenBlock struct {
	names     bool
	low, high uint32 // hashes of the names
	news      bool   // a name has come since the scan

	hashes        bool
	before, fresh uint32 // the last hash of the index, and what it became
	wasAscending  bool
	isAscending   bool
}

func newWrittenBlock() writtenBlock {
	return writtenBlock{low: math.MaxUint32, wasAscending: true, isAscending: true}
}

// name adds a name.
func (w *writtenBlock) name(hash uint32) {
	w.names = true
	w.low, w.high = min(w.low, hash), max(w.high, hash)
}

// hash adds a hash of the index, and what it became.
func (w *writtenBlock) hash(before, fresh uint32) {
	if w.hashes {
		w.wasAscending = w.wasAscending && before >= w.before
		w.isAscending = w.isAscending && fresh >= w.fresh
	}
	w.hashes, w.before, w.fresh = true, before, fresh
}

// An indexHead is what a block says of itself as a part of an index.
type indexHead struct {
	root, node   bool
	count, limit int
}

func headOf(block []byte) (h indexHead) {
	x, ok := ext.DecodeIndexRoot(block)
	if h.root = ok; !ok {
		x, h.node = ext.DecodeIndexNode(block)
	}
	if h.root || h.node {
		h.count, h.limit = x.Count(), x.Limit()
	}
	return h
}

// judgeIndex notes what was written of a block of an indexed directory whose
// index is sound in the source, if the block makes it unsound.
func (s *scrubber) judgeIndex(d *drawer, dir *directory, block uint64, was, is indexHead, w *writtenBlock) {
	sound := was == is && (w.isAscending || !w.wasAscending)
	changed := w.news
	if w.names && !is.root && !is.node {
		leaf, known := dir.leafAt(block)
		changed = changed || !known
		sound = sound && known && dir.holds(leaf, w.low, w.high)
	}
	if sound {
		return
	}
	if dir.unsound.Store(true); dir.source != nil {
		dir.source.unsound.Store(true)
	}
	if !dir.expected && !s.damaged && !changed && d.index == nil {
		d.index = &IndexError{dir.ino, block}
	}
}

// unsound counts the directories whose index was sound, and is not as written or
// may not be.
func (x *Index) unsound() (n uint64) {
	for _, d := range x.dirs {
		if d.unsound.Load() || d.unclear && !d.crooked {
			n++
		}
	}
	return n
}
