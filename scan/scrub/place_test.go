package scrub

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"e2qcow/ext"
)

// TestPlace checks that each name of an indexed directory gets a word of its
// own whose hash lies between the same borders as its own did.
func TestPlace(t *testing.T) {
	for version := ext.DirHashLegacy; version <= ext.DirHashTEAUnsigned; version++ {
		d := &directory{ino: 12, indexed: true, version: version, seed: [4]uint32{1, 2, 3, 4}, freshSeed: [4]uint32{5, 6, 7, 8}}
		k := newKeyring([KeySize]byte{1})
		dr := k.get()
		var names []string
		for i := range 5000 {
			names = append(names, fmt.Sprintf("%0*d", 4+i%20, i))
		}
		old := map[uint64]uint32{}
		for i, name := range names {
			h, _, _ := version.Hash([]byte(name), d.seed)
			p := placedName{id: dr.nameID([]byte(name)), hash: h, length: uint8(len(name))}
			old[p.id] = p.hash
			d.names = append(d.names, p)
			if i%100 == 0 {
				d.bounds = append(d.bounds, h)
			}
		}
		placed, err := d.place(context.Background(), dr, newWords())
		if err != nil {
			t.Fatal(err)
		}
		if placed.Names != uint64(len(names)) || placed.Misplaced != 0 {
			t.Errorf("hash %d: %+v", version, placed)
		}
		seen := map[string]bool{}
		for _, name := range names {
			p := d.lookup(dr.nameID([]byte(name)))
			word := make([]byte, len(name))
			d.candidate(dr, word, p.hash)
			if seen[string(word)] {
				t.Fatalf("hash %d: %q is given twice", version, word)
			}
			seen[string(word)] = true
			h, _, _ := version.Hash(word, d.freshSeed)
			before := placedName{hash: old[p.id]}
			if got, want := d.freshCell(h), int(d.cell(&before)); got != want {
				t.Fatalf("hash %d: %q moved from cell %d to %d", version, name, want, got)
			}
		}
		for i, b := range d.bounds {
			if i > 0 && d.fresh[i] <= d.fresh[i-1] {
				t.Fatalf("hash %d: border %d is out of order", version, i)
			}
			if got := d.freshHash(dr, b|1); got != d.fresh[i]|1 {
				t.Fatalf("hash %d: border %#x became %#x", version, b|1, got)
			}
		}
	}
}

// crowded returns a directory with all names behind the last of many borders.
func crowded(dr *drawer) *directory {
	d := &directory{ino: 12, indexed: true, version: ext.DirHashHalfMD4}
	for i := range uint32(1 << 14) {
		d.bounds = append(d.bounds, 2*i)
	}
	for length := 10; length < 40; length++ {
		for i := range 300 {
			name := fmt.Appendf(nil, "%0*d", length, i)
			h, _, _ := d.version.Hash(name, d.seed)
			d.names = append(d.names, placedName{id: dr.nameID(name), hash: h, length: uint8(length)})
		}
	}
	return d
}

// Names between two of many borders take no more time than others: some of
// them are misplaced.
func TestPlaceCrowded(t *testing.T) {
	dr := newKeyring([KeySize]byte{1}).get()
	d := crowded(dr)
	n := uint64(len(d.names))
	placed, err := d.place(context.Background(), dr, newWords())
	if err != nil || placed.Names+placed.Misplaced != n || placed.Misplaced == 0 {
		t.Errorf("%+v of %d, %v", placed, n, err)
	}
}

// Placing ends with its context.
func TestPlaceEnds(t *testing.T) {
	x := NewIndex(Options{})
	x.dirs[12] = crowded(x.keys.get())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.place(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestContinuedBorder checks that a name whose hash goes on from the block
// before stays in the block that it is in.
func TestContinuedBorder(t *testing.T) {
	d := &directory{bounds: []uint32{0, 1001, 2000}}
	for _, c := range []struct {
		name placedName
		want uint32
	}{
		{placedName{hash: 998}, 0},
		{placedName{hash: 1000}, 1},
		{placedName{hash: 1000, lower: true}, 0},
		{placedName{hash: 2000, lower: true}, 2},
		{placedName{hash: 1 << 31}, 2},
	} {
		if got := d.cell(&c.name); got != c.want {
			t.Errorf("%+v: cell %d, want %d", c.name, got, c.want)
		}
	}
}

// TestShortNames has every name of one byte that there can be in a directory
// stay a name of its own.
func TestShortNames(t *testing.T) {
	x := NewIndex(Options{})
	dr := x.keys.get()
	var names [][]byte
	for c := range 256 {
		if b := byte(c); b != 0 && b != '/' && b != '.' && b < 0x80 {
			names = append(names, []byte{b})
		}
	}
	for _, name := range names {
		s := shortName{id: dr.nameID(name), ino: 12, length: 1}
		s.word[0] = name[0]
		dr.word(s.word[:1], lettersAndDigits, s.id, 0)
		x.shorts = append(x.shorts, s)
	}
	x.spread()
	s := &scrubber{keys: x.keys, words: x.words, index: x}
	seen := map[byte]bool{}
	for _, name := range names {
		word := []byte{name[0]}
		s.replacer(dr, 12).entry(word, 100)
		if seen[word[0]] || word[0] == 0 || word[0] == '/' || word[0] == '.' {
			t.Fatalf("%q became %q", name, word)
		}
		seen[word[0]] = true
	}
}

// What a root has between its parameters and its entries, which begin where it
// says, is nobody's.
func TestIndexRootGap(t *testing.T) {
	const start = 32 + 40
	block := make([]byte, 1024)
	copy(block, "\x02\x00\x00\x00\x0c\x00\x01\x02.\x00\x00\x00\x02\x00\x00\x00\xf4\x03\x02\x02..\x00\x00")
	block[29] = start - 24
	copy(block[32:start], "what was in this block before, a name ...")
	le.PutUint16(block[start:], (1024-start)/8)
	le.PutUint16(block[start+2:], 1)
	x := NewIndex(Options{})
	x.dirs[0] = &directory{indexed: true, fresh: []uint32{0}, bounds: []uint32{0}}
	s := &scrubber{shape: shape{blockSize: 1024, inodes: 1000}, keys: x.keys, words: x.words, index: x}
	s.directoryBlock(x.keys.get(), 7, block)
	if left := block[32:start]; !allZero(left) {
		t.Errorf("%q is left", left)
	}
}

// FuzzWalkBlock has directory blocks of any bytes walked and scrubbed.
func FuzzWalkBlock(f *testing.F) {
	f.Add(make([]byte, 1024), true)
	f.Fuzz(func(t *testing.T, b []byte, indexed bool) {
		block := make([]byte, 1024)
		copy(block, b)
		x := NewIndex(Options{})
		x.dirs[0] = &directory{indexed: indexed, fresh: []uint32{0}, bounds: []uint32{0}}
		s := &scrubber{shape: shape{blockSize: 1024, inodes: 1000}, keys: x.keys, words: x.words, index: x, sums: true}
		again := append([]byte(nil), block...)
		s.directoryBlock(x.keys.get(), 7, block)
		s.directoryBlock(x.keys.get(), 7, again)
		if string(block) != string(again) {
			t.Error("not the same twice")
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	k := newKeyring([KeySize]byte{1})
	dr := k.get()
	const names = 100_000
	for b.Loop() {
		d := &directory{ino: 12, indexed: true, version: ext.DirHashHalfMD4}
		for i := range names {
			name := fmt.Appendf(nil, "file-%06d.dat", i)
			h, _, _ := d.version.Hash(name, d.seed)
			d.names = append(d.names, placedName{id: dr.nameID(name), hash: h, length: uint8(len(name))})
			if i%100 == 0 {
				d.bounds = append(d.bounds, h)
			}
		}
		if _, err := d.place(context.Background(), dr, newWords()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/names, "ns/name")
}
