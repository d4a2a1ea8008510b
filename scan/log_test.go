package scan

import (
	"encoding/binary"
	"slices"
	"testing"

	"e2qcow/ext"
)

// logHeader makes a block of a log, of transaction 7.
func logHeader(size int, typ uint32) []byte {
	b := make([]byte, size)
	for i, v := range []uint32{0xC03B3998, typ, 7} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	return b
}

// logSuper makes the superblock of a journal of some blocks.
func logSuper(size int, blocks, compat uint32) []byte {
	b := logHeader(size, 4)
	for off, v := range map[int]uint32{0x0C: uint32(size), 0x10: blocks, 0x14: 1, 0x18: 7, 0x1C: 1, 0x24: compat} {
		binary.BigEndian.PutUint32(b[off:], v)
	}
	return b
}

// logDescriptor makes a descriptor that is full of tags, of the blocks from
// first on.
func logDescriptor(size int, first uint32) []byte {
	b := logHeader(size, 1)
	for tag := b[12:]; len(tag) >= 8; tag = tag[8:] {
		binary.BigEndian.PutUint32(tag, first)
		tag[7] = 2 // the same UUID
		first++
	}
	return b
}

// journalOf makes the extents the journal.
func journalOf(fs *synthetic, extents []entry) {
	depth, size := 0, int(fs.blockSize)
	for ; len(extents) > 4; depth++ {
		var nodes []entry
		for chunk := range slices.Chunk(extents, (size-12)/12) {
			nodes = append(nodes, entry{logical: chunk[0].logical, block: fs.block(extentNode(size, depth, chunk...))})
		}
		extents = nodes
	}
	fs.inode(8, modeRegular, ext.FlagExtents, 1<<40, extentNode(ext.IBlockSize, depth, extents...))
	fs.super(sbJournalInum, 8)
}

// A journal that maps the same 32,767 blocks, a log of descriptors without an
// end, thousands of times one behind the other.
func TestJournalMapsItsBlocksAgain(t *testing.T) {
	for bs, mode := range map[int]JournalMode{1024: JournalLive, 65536: JournalWhole} {
		const times = 6000 / raceShrink
		step := uint64(1 + (bs-12)/8)
		span := 32767 / step * step
		fs := newSynthetic(layout{blocks: times*32768 + 1<<18, blockSize: uint32(bs)})
		extents := []entry{{len: 1, block: fs.block(logSuper(bs, times*uint32(span)+1, 0))}}
		fs.free = 1 << 17
		for at := uint64(0); at < span; at += step {
			fs.at(fs.free+at, logDescriptor(bs, 100+uint32(at)))
		}
		for i := range uint32(times) {
			extents = append(extents, entry{logical: 1 + i*uint32(span), len: uint16(span), block: fs.free})
		}
		fs.free += 1 << 16
		journalOf(fs, extents)
		res := scanBounded(t, holesIn(fs), fs.size, Options{Journal: mode})
		if !hasProblem(res, Unbounded) || !res.Map.Contains(Journal, 1<<17) {
			t.Errorf("blocks of %d: %v", bs, res.Problems())
		}
	}
}

// A log of descriptors full of tags, whose copies lie in one hole, or all in
// another, with checksums over them or without.
func TestJournalFullOfTags(t *testing.T) {
	const bs, descriptors = 65536, 200
	const tags = (bs - 12) / 8
	for _, c := range []struct {
		name    string
		apart   bool
		compat  uint32
		bounded bool
	}{
		{"one hole", false, 0, false},
		{"apart", true, 0, false},
		{"summed", true, ext.JournalCompatChecksum, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := newSynthetic(layout{blocks: 1 << 22, blockSize: bs})
			extents := []entry{{len: 1, block: fs.block(logSuper(bs, descriptors*(tags+1)+2, c.compat))}}
			data := uint64(1 << 16)
			for i := range uint32(descriptors) {
				at := 1 + i*(tags+1)
				log := fs.block(logDescriptor(bs, 5000+i*tags))
				extents = append(extents, entry{logical: at, len: 1, block: log}, entry{logical: at + 1, len: tags, block: data})
				if c.apart {
					data += tags
				}
			}
			extents = append(extents, entry{logical: descriptors*(tags+1) + 1, len: 1, block: fs.block(logHeader(bs, 2))})
			journalOf(fs, extents)
			res := scanBounded(t, holesIn(fs), fs.size, Options{Journal: JournalLive})
			if got := hasProblem(res, Unbounded); got != c.bounded {
				t.Errorf("bounded: %v: %v", got, res.Problems())
			}
		})
	}
}

// A log without an end in sight: the journal maps one descriptor in a hundred
// thousand places, and holes for what it describes.
func TestJournalOfHoles(t *testing.T) {
	const descriptors, tags = 300 * 340, (4096 - 12) / 8
	fs := newSynthetic(layout{blocks: 8192})
	first, log := fs.block(logSuper(4096, descriptors*(tags+1)+2, 0)), fs.block(logDescriptor(4096, 100))
	commit := fs.block(logHeader(4096, 2))
	var index []entry
	for at := uint32(1); len(index) < 300; {
		var leaf []entry
		for range 340 {
			leaf = append(leaf, entry{logical: at, len: 1, block: log})
			at += tags + 1
		}
		index = append(index, entry{logical: leaf[0].logical, block: fs.block(extentNode(4096, 0, leaf...))})
	}
	ends := fs.block(extentNode(4096, 0, entry{len: 1, block: first}))
	last := fs.block(extentNode(4096, 0, entry{logical: descriptors*(tags+1) + 1, len: 1, block: commit}))
	index = append(append([]entry{{block: ends}}, index...), entry{logical: descriptors*(tags+1) + 1, block: last})
	fs.inode(8, modeRegular, ext.FlagExtents, 1<<40, extentNode(ext.IBlockSize, 2, entry{block: fs.block(extentNode(4096, 1, index...))}))
	fs.super(sbJournalInum, 8)
	res := scanBounded(t, fs, fs.size, Options{})
	if !hasProblem(res, BadJournal) || !res.Map.Contains(Journal, log) {
		t.Errorf("%v", res.Problems())
	}
}
