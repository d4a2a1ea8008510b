package scan

import (
	"context"
	"fmt"
	"testing"

	"e2qcow/ext"
)

// benchInodes fills an inode table of n bytes as a filesystem in use has it:
// files with one extent, some with a tree, a directory in each sixteen.
func benchInodes(n, size int) []byte {
	table := make([]byte, n)
	for i := 0; i*size < n; i++ {
		in := table[i*size : (i+1)*size]
		mode, root := uint16(modeRegular), extentNode(ext.IBlockSize, 0, entry{len: 8, block: 100000 + uint64(i)*8})
		switch {
		case i%16 == 1:
			mode = modeDir
		case i%16 == 2:
			root = extentNode(ext.IBlockSize, 1, entry{block: 100000 + uint64(i)})
		}
		le.PutUint16(in, mode)
		le.PutUint16(in[0x1A:], 1)
		le.PutUint32(in[0x20:], ext.FlagExtents)
		copy(in[0x28:], root)
		if size > 128 {
			le.PutUint16(in[128:], 32)
		}
	}
	return table
}

// benchScanner has a device large enough that all pointers are good.
func benchScanner(b *testing.B) *scanner {
	fs := newSynthetic(layout{blocks: 1 << 24, inodesPerGroup: 8192})
	return scannerOf(b, fs, fs.size)
}

// reset empties a batch, as merge does.
func (b *batch) reset() {
	*b = batch{items: b.items[:0], suspects: b.suspects[:0], marks: b.marks[:0], named: b.named[:0], revisits: b.revisits[:0], ends: b.ends[:0], problems: b.problems[:0]}
}

func BenchmarkVisitInodes(b *testing.B) {
	for _, c := range []struct {
		name  string
		table []byte
	}{{"in-use", benchInodes(1<<20, 256)}, {"empty", make([]byte, 1<<20)}} {
		b.Run(c.name, func(b *testing.B) {
			s := benchScanner(b)
			found := new(batch)
			b.SetBytes(int64(len(c.table)))
			b.ReportAllocs()
			for b.Loop() {
				found.reset()
				for i := 0; i < len(c.table); i += 256 {
					s.visitInode(found, uint32(100+i/256), ext.Inode(c.table[i:i+256:i+256]))
				}
			}
		})
	}
}

func BenchmarkVisitExtentNode(b *testing.B) {
	for _, depth := range []int{0, 1} {
		b.Run(fmt.Sprintf("depth-%d", depth), func(b *testing.B) {
			s := benchScanner(b)
			entries := make([]entry, 340)
			for i := range entries {
				entries[i] = entry{logical: uint32(i), len: 1, block: 100000 + uint64(i)*7}
			}
			node := extentNode(4096, depth, entries...)
			found := new(batch)
			b.SetBytes(int64(len(node)))
			b.ReportAllocs()
			for b.Loop() {
				found.reset()
				s.visitExtentBlock(found, &item{block: 9, ino: 12, count: 1, role: roleExtent}, 9, node)
			}
		})
	}
}

func BenchmarkVisitIndirectBlock(b *testing.B) {
	for _, r := range []role{roleInd1, roleInd2} {
		b.Run(fmt.Sprintf("level-%d", r-roleInd1+1), func(b *testing.B) {
			s := benchScanner(b)
			p := make([]uint32, 1024)
			for i := range p {
				p[i] = 100000 + uint32(i)*7
			}
			block := pointers(4096, p...)
			found := new(batch)
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				found.reset()
				s.visitIndirectBlock(found, &item{block: 9, ino: 12, count: 1, role: r}, 9, block)
			}
		})
	}
}

// benchDir is a directory block full of names.
func benchDir(size int) []byte {
	block := make([]byte, size)
	for at, ino := 0, uint32(12); at < size; ino++ {
		n := 24
		if size-at < 2*n {
			n = size - at
		}
		le.PutUint32(block[at:], ino)
		le.PutUint16(block[at+4:], uint16(n))
		block[at+6], block[at+7] = 14, 1
		copy(block[at+8:], fmt.Sprintf("file-%09d", ino))
		at += n
	}
	return block
}

func BenchmarkVisitDirBlock(b *testing.B) {
	s := benchScanner(b)
	s.limits[0] = 8192
	block := benchDir(4096)
	found := new(batch)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		found.reset()
		s.visitDirBlock(found, 12, 1000, block)
	}
	if len(found.problems) > 0 {
		b.Fatal(found.problems)
	}
}

// What a merge costs for each block that is gathered: scattered, in order,
// and met before.
func BenchmarkMerge(b *testing.B) {
	const n = 1024
	for _, c := range []struct {
		name  string
		pitch uint64
	}{{"adjacent", 1}, {"scattered", 97}, {"again", 0}} {
		b.Run(c.name, func(b *testing.B) {
			s := benchScanner(b)
			found := new(batch)
			block := uint64(100000)
			b.ReportAllocs()
			for b.Loop() {
				for range n {
					found.items = append(found.items, item{block: block, ino: 12, count: 1, role: roleDir})
					found.mark(Directory, block, 1)
					block += c.pitch
				}
				s.merge(found)
				if len(s.pending) > 1<<20 {
					s.pending = s.pending[:0]
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/block")
		})
	}
}

// A synthetic filesystem of 16 GiB in use: 128 groups, each with its table, a
// directory for each sixteen inodes.
func BenchmarkScan(b *testing.B) {
	const groups, perGroup = 128, 32768
	fs := newSynthetic(layout{blocks: groups * perGroup, inodesPerGroup: 8192})
	table := benchInodes(8192*256, 256)
	dir := benchDir(4096)
	node := extentNode(4096, 0, entry{len: 100, block: 200000})
	for g := range uint64(groups) {
		first := g*perGroup + 1000
		fs.setDesc(g, first, first+1, first+2)
		base := first + 2 + 512
		for i := 0; i < 8192; i++ {
			in := table[i*256:]
			block := base + uint64(i)*3
			if le.Uint16(in[0x28+6:]) == 1 {
				le.PutUint32(in[0x28+12+4:], uint32(block))
			} else {
				le.PutUint32(in[0x28+12+8:], uint32(block))
				le.PutUint16(in[0x28+12+4:], 1)
			}
		}
		fs.put(int64(first+2)*4096, table)
		for i := 1; i < 8192; i += 16 {
			fs.put(int64(base+uint64(i)*3)*4096, dir)
			fs.put(int64(base+uint64(i+1)*3)*4096, node)
		}
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads-%d", threads), func(b *testing.B) {
			b.ReportAllocs()
			var res *Result
			for b.Loop() {
				var err error
				if res, err = Scan(context.Background(), fs, fs.size, Options{Threads: threads}); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(res.MetadataBytes())
			blocks := float64(res.MetadataBytes() / 4096)
			b.ReportMetric(blocks, "blocks")
		})
	}
}

// A block costs no allocation once buffers have grown.
func TestVisitsDoNotAllocate(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 24, inodesPerGroup: 8192})
	s := scannerOf(t, fs, fs.size)
	s.limits[0] = 8192
	table := benchInodes(1<<16, 256)
	leaf := extentNode(4096, 0, entry{len: 3, block: 200000}, entry{logical: 3, len: 9, block: 300000})
	index := extentNode(4096, 1, entry{block: 200000}, entry{logical: 3, block: 300000})
	ind := pointers(4096, 200000, 200001, 300000)
	dir := benchDir(4096)
	found := new(batch)
	for _, c := range []struct {
		what  string
		visit func()
	}{
		{"inodes", func() {
			for i := 0; i < len(table); i += 256 {
				s.visitInode(found, uint32(100+i/256), ext.Inode(table[i:i+256:i+256]))
			}
		}},
		{"extent leaves", func() {
			s.visitExtentBlock(found, &item{block: 9, ino: 12, count: 1, role: roleExtent, content: contentDir}, 9, leaf)
		}},
		{"extent indexes", func() {
			s.visitExtentBlock(found, &item{block: 9, ino: 12, count: 1, role: roleExtent}, 9, index)
		}},
		{"indirect blocks", func() {
			s.visitIndirectBlock(found, &item{block: 9, ino: 12, count: 1, role: roleInd2}, 9, ind)
		}},
		{"directory blocks", func() { s.visitDirBlock(found, 12, 1000, dir) }},
	} {
		if n := testing.AllocsPerRun(100, func() { c.visit(); found.reset() }); n > 0 {
			t.Errorf("%s: %v allocations", c.what, n)
		}
	}
}
