package scrub

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"e2qcow/ext"
)

// TestManyOddNames has an indexed directory of nothing but names that are
// invalid as a whole, so that all words for them are alike: each costs a few
// words. It would take minutes without a bound for all of them.
func TestManyOddNames(t *testing.T) {
	x := NewIndex(Options{Key: [KeySize]byte{1}})
	d := &directory{ino: 12, indexed: true, version: ext.DirHashHalfMD4, bounds: []uint32{2, 1 << 20, 1 << 28, 1 << 30}}
	dr := x.keys.get()
	for i := range 1 << 14 {
		name := make([]byte, 14)
		for k := range name {
			if i>>k&1 != 0 {
				name[k] = '/'
			}
		}
		h, _, _ := d.version.Hash(name, d.seed)
		d.odds = append(d.odds, oddName{placedName{id: dr.nameID(name), hash: h, length: uint8(len(name))}, name})
	}
	x.dirs[12] = d
	placed, err := x.place(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if placed.Misplaced == 0 {
		t.Error("all of them found a place")
	}
}

// TestManyValues bounds the nodes that a value may have by its size.
func TestManyValues(t *testing.T) {
	for _, c := range []struct {
		size      uint64
		blockSize int
		most      int
	}{{0, 1024, 8}, {5000, 65536, 8}, {65536, 1024, 16}, {maxValue, 1024, 1 << 9}, {maxValue, 65536, 16}} {
		if got := valueNodes(c.size, c.blockSize); got > c.most || got < 8 {
			t.Errorf("%d bytes in blocks of %d: %d nodes", c.size, c.blockSize, got)
		}
	}
}

// TestManyKeptWords has words all over a block of numbers: what is kept of the
// block is found once, and none is a leak.
func TestManyKeptWords(t *testing.T) {
	s := newScrubber(false)
	s.blockSize = 1 << 16
	s.words.add([]byte("someword"))
	s.words.freeze(1)
	for _, r := range []struct {
		kept bool
		word string
	}{{true, "lost+found"}, {false, "some-lost+foun"}} {
		block := bytes.Repeat([]byte(r.word), 4)
		at := bytes.Index(block, []byte("ost+foun"))
		if got := !slices.Contains(s.explain(1, block)[at:at+8], false); got != r.kept {
			t.Errorf("%q is explained: %v", block[at:at+8], got)
		}
	}
	v := &View{s: s, blockSize: 1 << 16}
	p := bytes.Repeat([]byte("someword"), 1<<16)
	if err := v.search(p, 0); err != nil || len(v.suspects.list) != len(p)/8 {
		t.Errorf("%d suspects in a block of no kind, %v", len(v.suspects.list), err)
	}
}

// TestManyDirectories shows more indexed directories than are remembered, and
// more inodes that damage makes such.
func TestManyDirectories(t *testing.T) {
	for mode, most := range map[uint16]int{ext.ModeDir: maxSpecial, ext.ModeRegular: maxClaimed} {
		x := NewIndex(Options{Key: [KeySize]byte{1}})
		super := make([]byte, ext.SuperblockSize)
		binary.LittleEndian.PutUint16(super[0x38:], 0xEF53)
		sb, err := ext.DecodeSuperblock(super)
		if err != nil {
			t.Fatal(err)
		}
		v := &visitor{x: x, sb: sb, shape: shape{inodes: 1 << 30, blockSize: 4096}}
		in := make(ext.Inode, 128)
		binary.LittleEndian.PutUint16(in[0x00:], mode)
		binary.LittleEndian.PutUint16(in[0x1A:], 1) // i_links_count
		binary.LittleEndian.PutUint32(in[0x20:], ext.FlagIndex)
		for ino := range uint32(most + 10) {
			v.Inode(ino+1, in)
		}
		if len(x.dirs) != most || x.crowded != (mode == ext.ModeDir) {
			t.Errorf("mode %#x: %d are remembered, want %d; crowded %v", mode, len(x.dirs), most, x.crowded)
		}
	}
}
