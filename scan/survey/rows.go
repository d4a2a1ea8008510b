package survey

import (
	"sync"

	"e2qcow/ext"
)

// maxRows is how many rows are kept.
const maxRows = 1 << 19

// A row is what is kept of a directory, or of a file whose extents do not fit in
// its inode.
type row struct {
	generation uint32
	extents    uint32
	entries    uint32
	parent     uint32 // of a directory; 0 where it is not known
	dir, file  bool
}

// rows is a table of rows by inode. It keeps those of all inodes, or where that
// were more than most, of the inodes whose hash begins with some zeros: the
// fewest for which they fit.
type rows struct {
	most int

	mu    sync.Mutex
	list  map[uint32]row
	zeros uint
}

func newRows(most int) *rows { return &rows{most: most, list: make(map[uint32]row)} }

// sampled reports whether the row of an inode is kept.
func (r *rows) sampled(ino uint32) bool {
	return r.zeros == 0 || ino*2654435769>>(32-r.zeros) == 0
}

func (r *rows) add(ino uint32, v row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.sampled(ino) {
		return
	}
	r.list[ino] = v
	for len(r.list) > r.most {
		r.zeros++
		for ino := range r.list {
			if !r.sampled(ino) {
				delete(r.list, ino)
			}
		}
	}
}

// grow adds to a row, and returns the generation in it; false where there is no
// row.
func (r *rows) grow(ino, extents, entries, parent uint32) (generation uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.list[ino]
	if !ok {
		return 0, false
	}
	v.extents += extents
	v.entries += entries
	if v.dir && parent != 0 && (v.parent == 0 || parent < v.parent) {
		v.parent = parent
	}
	r.list[ino] = v
	return v.generation, true
}

// depths counts how deep directories lie: those in the root are 1 deep.
// Directories that do not lead to the root are left out.
func (r *rows) depths() *tally {
	t := new(tally)
	known := map[uint32]uint32{ext.RootInode: 1} // depth + 1; 0 for one that is being looked at, or has none
	var path []uint32
	for ino, v := range r.list {
		if !v.dir {
			continue
		}
		path = path[:0]
		at, depth := ino, uint32(0)
		for {
			d, ok := known[at]
			if ok {
				depth = d
				break
			}
			next, have := r.list[at]
			known[at] = 0 // ends loops
			path = append(path, at)
			if !have || next.parent == 0 {
				break
			}
			at = next.parent
		}
		for i := len(path) - 1; i >= 0 && depth > 0; i-- {
			depth++
			known[path[i]] = depth
		}
	}
	for ino, d := range known {
		if d > 0 {
			t.add(uint64(d-1), Largest{Inode: ino})
		}
	}
	return t
}
