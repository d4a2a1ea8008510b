package scan

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"e2qcow/ext"
)

// checkFileMap compares block with a plain table of where blocks lie.
func checkFileMap(t *testing.T, m FileMap, want map[uint32]uint64, length uint64) {
	t.Helper()
	if got := m.Blocks(); got != length {
		t.Errorf("%d blocks, want %d", got, length)
	}
	for logical := range uint32(length) + 3 {
		block, ok := m.Block(logical)
		w, found := want[logical]
		if ok != found || block != w {
			t.Fatalf("block %d lies at %d, %v, want %d, %v", logical, block, ok, w, found)
		}
	}
}

func TestMapFileExtents(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 30 {
		fs := newSynthetic(layout{blockSize: 1024, blocks: 1 << 20})
		want := make(map[uint32]uint64)
		logical := uint32(0)
		var leaves []entry
		for range 1 + r.IntN(8) {
			first := logical
			var entries []entry
			for range 1 + r.IntN(84) {
				x := entry{logical: logical, len: uint16(1 + r.IntN(5)), block: 10000 + r.Uint64N(1<<19)}
				for i := range uint32(x.len) {
					want[logical+i] = x.block + uint64(i)
				}
				entries = append(entries, x)
				logical += uint32(x.len)
				if r.IntN(4) == 0 {
					logical += r.Uint32N(3) // a hole
				}
			}
			leaves = append(leaves, entry{logical: first, block: fs.block(extentNode(1024, 0, entries...))})
		}
		// The tree's nodes are read in any order; the map is in the file's.
		r.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
		root := extentNode(ext.IBlockSize, 2, entry{block: fs.block(extentNode(1024, 1, leaves...))})
		length := uint64(0)
		for l := range want {
			length = max(length, uint64(l)+1)
		}
		m, _ := scannerOf(t, fs, fs.size).mapFile(root, true, maxJournalNodes)
		checkFileMap(t, m, want, length)
	}
}

func TestMapFileIndirect(t *testing.T) {
	const bs, per = 1024, 256
	fs := newSynthetic(layout{blockSize: bs, blocks: 1 << 20})
	want := make(map[uint32]uint64)
	at := func(logical uint32) uint32 { // scattered, with holes
		if logical%7 == 3 {
			return 0
		}
		block := 300000 + logical*3
		if logical%5 == 0 {
			block = 700000 + logical
		}
		want[logical] = uint64(block)
		return block
	}
	leaf := func(first uint32) uint32 {
		p := make([]uint32, per)
		for i := range p {
			p[i] = at(first + uint32(i))
		}
		return uint32(fs.block(pointers(bs, p...)))
	}
	root := make([]uint32, ext.IBlockCount)
	for i := range uint32(ext.NDirBlocks) {
		root[i] = at(i)
	}
	const single, double, triple = ext.NDirBlocks, ext.NDirBlocks + per, ext.NDirBlocks + per + per*per
	root[12] = leaf(single)
	root[13] = uint32(fs.block(pointers(bs, leaf(double), 0, leaf(double+2*per))))
	root[14] = uint32(fs.block(pointers(bs, 0, uint32(fs.block(pointers(bs, 0, 0, leaf(triple+per*per+2*per)))))))
	length := uint64(0)
	for l := range want {
		length = max(length, uint64(l)+1)
	}
	m, _ := scannerOf(t, fs, fs.size).mapFile(pointers(ext.IBlockSize, root...), false, maxJournalNodes)
	checkFileMap(t, m, want, length)
}

// Extents in the upper half of a file's logical blocks sort behind the rest.
func TestMapFileOrder(t *testing.T) {
	fs := newSynthetic(layout{})
	root := extentNode(ext.IBlockSize, 0,
		entry{logical: 0xFFFF0000, len: 2, block: 500}, entry{logical: 7, len: 1, block: 600}, entry{logical: 0x80000001, len: 1, block: 700})
	m, _ := scannerOf(t, fs, fs.size).mapFile(root, true, maxJournalNodes)
	var got []uint32
	for _, x := range m {
		got = append(got, x.Logical)
	}
	if want := []uint32{7, 0x80000001, 0xFFFF0000}; !slices.Equal(got, want) {
		t.Errorf("extents at %#x, want %#x", got, want)
	}
	if block, ok := m.Block(0xFFFF0001); !ok || block != 501 {
		t.Errorf("block 0xFFFF0001 lies at %d, %v", block, ok)
	}
}

func TestMapFileDamaged(t *testing.T) {
	fs := newSynthetic(layout{blockSize: 1024, blocks: 1 << 20})
	s := scannerOf(t, fs, fs.size)
	loop := fs.free
	fs.block(extentNode(1024, 1, entry{block: loop}, entry{block: loop + 1}, entry{block: 1 << 40}))
	fs.block(extentNode(1024, 3, entry{block: loop}, entry{block: loop + 2}))
	fs.block(extentNode(1024, 0, entry{logical: 5, len: 1, block: 1000}, entry{logical: 6, len: 1, block: 1 << 21}))
	root := extentNode(ext.IBlockSize, 5, entry{block: loop})
	m, _ := s.mapFile(root, true, maxJournalNodes)
	checkFileMap(t, m, map[uint32]uint64{5: 1000}, 6)

	// Indirect blocks that point at themselves.
	self := uint32(fs.free)
	ring := make([]uint32, 256)
	for i := range ring {
		ring[i] = self
	}
	fs.block(pointers(1024, ring...))
	p := make([]uint32, ext.IBlockCount)
	p[14] = self
	if m, _ := s.mapFile(pointers(ext.IBlockSize, p...), false, maxJournalNodes); m.Blocks() > 1<<32 {
		t.Errorf("a file of %d blocks", m.Blocks())
	}
	if m, _ := s.mapFile(make([]byte, ext.IBlockSize), true, maxJournalNodes); len(m) != 0 || m.Blocks() != 0 {
		t.Errorf("no tree at all is mapped to %v", m)
	} else if _, ok := m.Block(0); ok {
		t.Error("an empty map has a block")
	}
}

// A copyMap is a replay.
type copyMap map[uint64]ext.JournalCopy

func (m copyMap) From(first uint64) iter.Seq2[uint64, ext.JournalCopy] {
	return func(yield func(uint64, ext.JournalCopy) bool) {
		for _, block := range slices.Sorted(maps.Keys(m)) {
			if block >= first && !yield(block, m[block]) {
				return
			}
		}
	}
}

// Reads of any alignment see the journal's copies in place of the blocks.
func TestOverlay(t *testing.T) {
	const bs, blocks = 1024, 80
	data := noise(blocks*bs, 1)
	r := rand.New(rand.NewPCG(33, 34))
	magic := []byte{0xC0, 0x3B, 0x39, 0x98}
	for range 60 {
		want := slices.Clone(data)
		copies := copyMap{50: {Block: 1}} // not in the filesystem
		o := &overlay{base: &device{r: bytes.NewReader(data), size: int64(len(data))}, blockSize: bs, replay: copies, journal: FileMap{{Len: blocks}}, end: 40}
		for block := range uint64(40) {
			if r.IntN(3) != 0 {
				continue
			}
			c := ext.JournalCopy{Block: 40 + r.Uint32N(40), Escaped: r.IntN(3) == 0}
			copies[block] = c
			copy(want[block*bs:(block+1)*bs], data[c.Block*bs:])
			if c.Escaped {
				copy(want[block*bs:], magic)
			}
		}
		for range 80 {
			off := r.IntN(len(data))
			p := make([]byte, r.IntN(len(data)-off+1))
			n, err := o.ReadAt(p, int64(off))
			if n != len(p) || err != nil && off+n < len(data) {
				t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
			}
			if !bytes.Equal(p, want[off:off+n]) {
				t.Fatalf("%d bytes at %d: not what replay leaves there", len(p), off)
			}
		}
	}
}

// A copy that cannot be read costs the block it replaces, and no more.
func TestOverlayBadSectors(t *testing.T) {
	const bs, blocks = 1024, 32
	data := noise(blocks*bs, 1)
	for bad := int64(0); bad < blocks*bs; bad += sector {
		src := &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{bad}}
		base := &device{r: src, size: int64(len(data))}
		o := &overlay{base: base, blockSize: bs, replay: copyMap{3: {Block: 20}, 4: {Block: 22}, 9: {Block: 21}}, journal: FileMap{{Len: blocks}}, end: blocks}
		d := &device{r: o, size: base.size}
		got := make([]byte, 16*bs)
		d.read(got, 0)
		want := slices.Clone(data[:16*bs])
		copy(want[3*bs:], data[20*bs:21*bs])
		copy(want[4*bs:], data[22*bs:23*bs])
		copy(want[9*bs:], data[21*bs:22*bs])
		differ := 0
		for block := 0; block < 16; block++ {
			if !bytes.Equal(got[block*bs:][:bs], want[block*bs:][:bs]) {
				differ++
			}
		}
		if differ > 1 {
			t.Errorf("a bad sector at %d costs %d blocks", bad, differ)
		}
	}
}

// What is contiguous lies one behind the other, also where damage has extents
// begin before others end.
func TestFileMapContiguous(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	for range 200 {
		var m FileMap
		for range 1 + r.IntN(8) {
			m = append(m, ext.Extent{Logical: r.Uint32N(40), Start: r.Uint64N(1000), Len: 1 + r.Uint32N(20)})
		}
		slices.SortStableFunc(m, func(a, b ext.Extent) int { return cmp.Compare(a.Logical, b.Logical) })
		for logical := range uint32(m.Blocks()) {
			start, ok := m.Block(logical)
			if !ok {
				continue
			}
			n := m.contiguous(logical)
			if n == 0 {
				t.Fatalf("%v: block %d is not even one", m, logical)
			}
			for i := range uint32(n) {
				if block, ok := m.Block(logical + i); !ok || block != start+uint64(i) {
					t.Fatalf("%v: %d blocks from %d, but %d is at %d", m, n, logical, logical+i, block)
				}
			}
		}
	}
}
