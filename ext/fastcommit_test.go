package ext

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fastCommitBlocks writes tags into blocks of 1 KiB as the kernel does: a
// block that has no room for the next tag is filled up with a PAD.
type fastCommitBlocks struct {
	blocks [][]byte
	off    int
	crc    uint32
}

func (f *fastCommitBlocks) put(typ FastCommitType, value []byte) {
	if len(f.blocks) == 0 || f.off+4+len(value)+4 > 1024 {
		if len(f.blocks) > 0 {
			f.raw(FastCommitPad, make([]byte, 1024-f.off-4))
		}
		f.blocks, f.off = append(f.blocks, make([]byte, 1024)), 0
	}
	f.raw(typ, value)
}

func (f *fastCommitBlocks) raw(typ FastCommitType, value []byte) {
	b := f.blocks[len(f.blocks)-1][f.off:]
	binary.LittleEndian.PutUint16(b, uint16(typ))
	binary.LittleEndian.PutUint16(b[2:], uint16(len(value)))
	copy(b[4:], value)
	f.off += 4 + len(value)
	f.crc = CRC32C(f.crc, b[:4+len(value)])
}

// tail ends a fast commit and its block.
func (f *fastCommitBlocks) tail(transaction uint32) {
	b := f.blocks[len(f.blocks)-1][f.off:]
	le := binary.LittleEndian
	le.PutUint16(b, uint16(FastCommitTail))
	le.PutUint16(b[2:], uint16(len(b)-4))
	le.PutUint32(b[4:], transaction)
	le.PutUint32(b[8:], CRC32C(f.crc, b[:8]))
	f.off, f.crc = 1024, 0
}

func words(w ...uint32) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func sampleFastCommits() *fastCommitBlocks {
	var f fastCommitBlocks
	f.put(FastCommitHead, words(0, 7))
	f.put(FastCommitInode, append(words(12), make([]byte, 160)...))
	f.put(FastCommitAddRange, words(12, 100, 8|1<<16, 5000))
	f.put(FastCommitAddRange, words(12, 200, 1<<15+3, 6000))
	f.put(FastCommitDelRange, words(12, 300, 4))
	f.put(FastCommitCreate, append(words(2, 13), "new"...))
	f.put(FastCommitLink, append(words(2, 12), "other"...))
	f.put(FastCommitUnlink, append(words(2, 12), "old"...))
	f.put(FastCommitInode, append(words(13), make([]byte, 252)...))
	f.put(FastCommitInode, append(words(14), make([]byte, 252)...))
	f.put(FastCommitInode, append(words(15), make([]byte, 252)...))
	f.tail(7)
	return &f
}

func TestFastCommitScan(t *testing.T) {
	f := sampleFastCommits()
	if len(f.blocks) != 2 {
		t.Fatalf("%d blocks", len(f.blocks))
	}
	var got []FastCommitTag
	s := NewFastCommitScan(7)
	for i, b := range f.blocks {
		if !s.Block(b, func(tag *FastCommitTag) {
			c := *tag
			c.Raw, c.Value = nil, nil
			got = append(got, c)
		}) {
			t.Fatalf("block %d ends it", i)
		}
	}
	crc := binary.LittleEndian.Uint32(f.blocks[1][f.tailAt()+8:])
	want := []FastCommitTag{
		{Type: FastCommitHead, Transaction: 7},
		{Type: FastCommitInode, Inode: 12},
		{Type: FastCommitAddRange, Inode: 12, Logical: 100, Count: 8, Physical: 1<<32 | 5000},
		{Type: FastCommitAddRange, Inode: 12, Logical: 200, Count: 3, Physical: 6000, Unwritten: true},
		{Type: FastCommitDelRange, Inode: 12, Logical: 300, Count: 4},
		{Type: FastCommitCreate, Parent: 2, Inode: 13, Name: []byte("new")},
		{Type: FastCommitLink, Parent: 2, Inode: 12, Name: []byte("other")},
		{Type: FastCommitUnlink, Parent: 2, Inode: 12, Name: []byte("old")},
		{Type: FastCommitInode, Inode: 13},
		{Type: FastCommitInode, Inode: 14},
		{Type: FastCommitPad},
		{Type: FastCommitInode, Inode: 15},
		{Type: FastCommitTail, Transaction: 7, Checksum: crc},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if s.Blocks() != 2 {
		t.Errorf("%d blocks", s.Blocks())
	}
	if s.Block(make([]byte, 1024), nil) || s.Blocks() != 2 {
		t.Error("a block of zeros goes on")
	}
}

// tailAt finds the tail of the last block.
func (f *fastCommitBlocks) tailAt() int {
	b, off := f.blocks[len(f.blocks)-1], 0
	for FastCommitType(binary.LittleEndian.Uint16(b[off:])) != FastCommitTail {
		off += 4 + int(binary.LittleEndian.Uint16(b[off+2:]))
	}
	return off
}

func TestFastCommitScanStops(t *testing.T) {
	for name, c := range map[string]struct {
		transaction uint32
		edit        func(*fastCommitBlocks)
	}{
		"transaction": {8, func(*fastCommitBlocks) {}},
		"checksum":    {7, func(f *fastCommitBlocks) { f.blocks[0][60]++ }},
		"no head":     {7, func(f *fastCommitBlocks) { f.blocks[0][0] = byte(FastCommitPad) }},
		"features":    {7, func(f *fastCommitBlocks) { f.blocks[0][4] = 1 }},
		"unknown tag": {7, func(f *fastCommitBlocks) { f.blocks[0][12] = 77 }},
		"length":      {7, func(f *fastCommitBlocks) { f.blocks[0][15] = 0xFF }},
		"short":       {7, func(f *fastCommitBlocks) { f.blocks[0][14] = 10 }},
	} {
		f := sampleFastCommits()
		c.edit(f)
		s := NewFastCommitScan(c.transaction)
		if s.Block(f.blocks[0], nil) && s.Block(f.blocks[1], nil) || s.Blocks() != 0 {
			t.Errorf("%s: %d blocks", name, s.Blocks())
		}
	}
}

func FuzzFastCommitScan(f *testing.F) {
	for _, b := range sampleFastCommits().blocks {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewFastCommitScan(7)
		tags := uint32(0)
		for range 4 {
			if !s.Block(b, func(*FastCommitTag) { tags++ }) {
				break
			}
		}
		if s.Blocks() > tags || s.Blocks() > 4 {
			t.Fatalf("%d tags in %d blocks", tags, s.Blocks())
		}
	})
}
