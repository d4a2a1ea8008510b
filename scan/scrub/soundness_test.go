package scrub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"

	"e2qcow/ext"
	"e2qcow/scan"
)

// leavesOf returns the blocks of an indexed directory: its root, and leaves with
// names in the order of their hashes.
func leavesOf(v *visitor, names []string, perLeaf int) (blocks [][]byte) {
	hash := func(name string) uint32 {
		h, _ := hashName(new([]byte), ext.DirHashHalfMD4, false, false, v.sb.HashSeed(), []byte(name))
		return h
	}
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(hash(a), hash(b)) })
	root := indexRoot(ext.DirHashHalfMD4)
	blocks = append(blocks, root)
	count := 0
	for leaf := range slices.Chunk(names, perLeaf) {
		const first = 32 // of the entries
		if count > 0 {
			le.PutUint32(root[first+8*count:], hash(leaf[0])&^1)
		}
		count++
		le.PutUint32(root[first+8*(count-1)+4:], uint32(count))
		block := make([]byte, 1024)
		at, last := 0, 0
		for i, name := range leaf {
			n := (8 + len(name) + 3) &^ 3
			le.PutUint32(block[at:], uint32(100+i))
			le.PutUint16(block[at+4:], uint16(n))
			block[at+6], block[at+7] = byte(len(name)), 1
			copy(block[at+8:], name)
			at, last = at+n, at
		}
		le.PutUint16(block[last+4:], uint16(1024-last))
		blocks = append(blocks, block)
	}
	le.PutUint16(root[34:], uint16(count))
	return blocks
}

// soundIndex returns a scrubber for a directory of 600 names with an index, as
// the scan shows it, and its blocks, which begin at block 10.
func soundIndex(t *testing.T) (*scrubber, *directory, [][]byte) {
	t.Helper()
	x := NewIndex(Options{})
	v := visitorOf(t, x)
	v.Inode(12, indexedDir())
	var names []string
	for i := range 600 {
		names = append(names, fmt.Sprintf("name-%d", i*i))
	}
	blocks := leavesOf(v, names, 20)
	for i, b := range blocks {
		v.Directory(12, uint64(10+i), b)
	}
	x.sortOwners()
	if placed, err := x.place(context.Background(), 1); err != nil || placed.Misplaced != 0 {
		t.Fatalf("%+v, %v", placed, err)
	}
	s := &scrubber{shape: shape{blockSize: 1024, inodes: 1000}, keys: x.keys, words: x.words, index: x, m: new(scan.Map)}
	s.lim.inodes = 1000
	return s, x.dirs[12], blocks
}

// TestIndexIsCompared has what is written of an index compared with what was
// there: what was sound is, and each way to break it is found.
func TestIndexIsCompared(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(s *scrubber, d *directory, blocks [][]byte)
		found bool // it is unsound
		ends  bool // the run
	}{
		{"sound", func(*scrubber, *directory, [][]byte) {}, false, false},
		{"a border beyond the names", func(_ *scrubber, d *directory, _ [][]byte) { d.fresh[3] = d.fresh[4] - 2 }, true, true},
		{"a border before the names", func(_ *scrubber, d *directory, _ [][]byte) { d.fresh[3] = d.fresh[2] + 2 }, true, true},
		{"borders that descend", func(_ *scrubber, d *directory, _ [][]byte) { d.fresh[3], d.fresh[4] = d.fresh[4], d.fresh[3] }, true, true},
		{"another seed", func(_ *scrubber, d *directory, _ [][]byte) { d.freshSeed[0]++ }, true, true},
		{"another word", func(_ *scrubber, d *directory, _ [][]byte) { d.names[5].hash++ }, true, true},
		{"a name without a word", func(_ *scrubber, d *directory, _ [][]byte) { d.names[5].hash++; d.expected = true }, true, false},
		{"damage elsewhere", func(s *scrubber, d *directory, _ [][]byte) { d.names[5].hash++; s.damaged = true }, true, false},
		{"a name that is new", func(_ *scrubber, _ *directory, blocks [][]byte) { copy(blocks[7][8:], "news-1") }, true, false},
		{"a source out of order", func(_ *scrubber, d *directory, _ [][]byte) { d.names[5].hash++; d.crooked = true }, false, false},
	} {
		s, d, blocks := soundIndex(t)
		if d.crooked || d.unclear || d.expected {
			t.Fatalf("the directory is not sound: %+v", d)
		}
		c.spoil(s, d, blocks)
		dr := s.keys.get()
		ended := false
		for i, b := range blocks {
			dr.index = nil
			s.directoryBlock(dr, uint64(10+i), b)
			ended = ended || dr.index != nil
		}
		if got := s.index.unsound() > 0; got != c.found || ended != c.ends {
			t.Errorf("%s: unsound %v, ends the run %v, want %v, %v", c.name, got, ended, c.found, c.ends)
		}
	}
}

// TestSourceOutOfOrder has a name in a leaf that it does not belong to: then the
// index was not sound, and nothing is said.
func TestSourceOutOfOrder(t *testing.T) {
	x := NewIndex(Options{})
	v := visitorOf(t, x)
	v.Inode(12, indexedDir())
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("name-%03d", i))
	}
	blocks := leavesOf(v, names, 20)
	copy(blocks[1][8:16], blocks[3][8:16]) // the first name of each
	for i, b := range blocks {
		v.Directory(12, uint64(10+i), b)
	}
	if _, err := x.place(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	if !x.dirs[12].crooked {
		t.Error("the directory is taken for sound")
	}
}
