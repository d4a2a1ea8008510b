package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"e2qcow/ext"
)

const (
	modeDir     = ext.ModeDir | 0o755
	modeRegular = ext.ModeRegular | 0o644
	modeSymlink = ext.ModeSymlink | 0o777
)

// wantBlocks checks the blocks of a kind.
func wantBlocks(t *testing.T, m *Map, kind Kind, want ...uint64) {
	t.Helper()
	if got := runsOf(m, kind); !slices.Equal(got, sorted(want...)) {
		t.Errorf("%v: blocks %v, want %v", kind, got, sorted(want...))
	}
}

func TestCyclicExtentTree(t *testing.T) {
	fs := newSynthetic(layout{blocks: 2000})
	a, b := fs.free, fs.free+1
	fs.block(extentNode(4096, 3, entry{block: a}, entry{block: b}, entry{block: 1 << 40}))
	fs.block(extentNode(4096, 2, entry{block: a}, entry{block: b}))
	fs.inode(12, modeRegular, ext.FlagExtents, 1<<30, extentNode(ext.IBlockSize, 4, entry{block: a}))
	fs.inode(13, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 5, entry{block: b}))
	res := scanBounded(t, fs, fs.size, Options{})
	wantBlocks(t, res.Map, ExtentNode, a, b)
	wantBlocks(t, res.Map, Directory)
	if !hasProblem(res, BadBlockPointer) {
		t.Error("a pointer outside the filesystem is no problem")
	}
}

func hasProblem(res *Result, kind ProblemKind) bool {
	return slices.ContainsFunc(res.Problems(), func(p Problem) bool { return p.Kind == kind })
}

// Indirect blocks that point at each other and at themselves.
func TestCyclicIndirectBlocks(t *testing.T) {
	fs := newSynthetic(layout{blockSize: 1024, blocks: 5000})
	a, b := uint32(fs.free), uint32(fs.free+1)
	fs.block(pointers(1024, a, b, a, b))
	fs.block(pointers(1024, b, a))
	p := make([]uint32, ext.IBlockCount)
	p[12], p[13], p[14] = a, b, a
	fs.inode(12, modeRegular, 0, 1<<30, pointers(ext.IBlockSize, p...))
	fs.inode(13, modeDir, 0, 1<<20, pointers(ext.IBlockSize, p...))
	res := scanBounded(t, fs, fs.size, Options{})
	wantBlocks(t, res.Map, IndirectBlock, uint64(a), uint64(b))
}

// Nodes that point at the inode table, the bitmaps and the superblock do not
// keep these from being read as what they are.
func TestTreePointsAtMetadata(t *testing.T) {
	fs := newSynthetic(layout{blocks: 2000})
	dir := fs.block(make([]byte, 4096))
	node := fs.block(extentNode(4096, 1, entry{block: fs.table}, entry{block: fs.table - 1}, entry{block: 1}))
	fs.inode(12, modeRegular, ext.FlagExtents, 1<<30, extentNode(ext.IBlockSize, 2, entry{block: node}))
	fs.inode(13, modeDir, ext.FlagExtents, 8192, extentNode(ext.IBlockSize, 0, entry{len: 2, block: fs.table}))
	fs.inode(14, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 0, entry{len: 1, block: dir}))
	res := scanBounded(t, fs, fs.size, Options{})
	wantBlocks(t, res.Map, ExtentNode, node)
	if !res.Map.Contains(InodeTable, fs.table) || !res.Map.Contains(InodeBitmap, fs.table-1) || !res.Map.Contains(GroupDescs, 1) {
		t.Error("metadata that a tree points at is no longer taken in as itself")
	}
	if !res.Map.Contains(Directory, dir) && !res.Map.Contains(Claimed, dir) {
		t.Error("an inode in the table that a tree points at was not visited")
	}
}

// Tables, nodes, directories, attributes beyond 2³² blocks.
func TestBeyond32Bits(t *testing.T) {
	far := uint64(1)<<32 + 12345
	fs := newSynthetic(layout{blocks: 1<<33 + 77})
	// A table far away, in a group of its own.
	table := far + 100
	fs.setDesc(1, far, far+1, table)
	fs.at(far+50, extentNode(4096, 0, entry{len: 3, block: far + 60}, entry{logical: 3, len: 1, block: 1<<33 + 76}))
	fs.inode(12, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: far + 50}))
	dir := make([]byte, 4096)
	le.PutUint32(dir, 2)
	le.PutUint16(dir[4:], 4096)
	dir[6] = 1
	dir[8] = '.'
	for _, b := range []uint64{far + 60, far + 61, far + 62, 1<<33 + 76} {
		fs.at(b, dir)
	}
	in := make([]byte, 256)
	le.PutUint16(in, modeRegular)
	le.PutUint16(in[0x1A:], 1)
	le.PutUint32(in[0x68:], uint32(far+70))
	le.PutUint16(in[0x76:], uint16((far+70)>>32))
	fs.put(int64(table)*4096+256*7, in)
	xattr := make([]byte, 4096)
	copy(xattr, []byte{0, 0, 2, 0xEA, 1, 0, 0, 0, 1})
	fs.at(far+70, xattr)
	res := scanBounded(t, fs, fs.size, Options{})
	wantBlocks(t, res.Map, ExtentNode, far+50)
	wantBlocks(t, res.Map, Directory, far+60, far+61, far+62, 1<<33+76)
	wantBlocks(t, res.Map, Xattr, far+70)
	if !res.Map.Contains(InodeTable, table) || !res.Map.Contains(BlockBitmap, far) || !res.Map.Contains(InodeBitmap, far+1) {
		t.Error("a table beyond 2³² blocks is missing")
	}
	got := make([]byte, 4096)
	if _, err := res.View().ReadAt(got, int64(far+60)*4096); err != nil || !bytes.Equal(got, dir) {
		t.Errorf("the view beyond 2³² blocks: %v", err)
	}
}

// Claims that no device backs cost no more than the device.
func TestClaimsBeyondTheDevice(t *testing.T) {
	for _, c := range []struct {
		what   string
		blocks uint64
	}{
		{"more groups than fit", 1 << 24}, {"more than 2³² blocks", 1 << 40}, {"1 EiB", 1 << 48},
	} {
		fs := newSynthetic(layout{blocks: 40000})
		dir := fs.block(make([]byte, 4096))
		fs.inode(12, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 0, entry{len: 1, block: dir}, entry{logical: 1, len: 100, block: 1 << 36}))
		fs.super(sbBlocksCountLo, uint32(c.blocks))
		fs.super(sbBlocksCountHi, uint32(c.blocks>>32))
		groups := (c.blocks + 32767) / 32768
		fs.super(sbInodesCount, uint32(groups*512))
		res := scanBounded(t, fs, fs.size, Options{Backups: BackupsAll})
		if c.blocks < 1<<47 && !res.Map.Contains(InodeTable, fs.table) {
			t.Errorf("%s: the inode table is missing", c.what)
		}
		if most := int64(20 << 20); res.MetadataBytes() > most {
			t.Errorf("%s: %d bytes of metadata", c.what, res.MetadataBytes())
		}
	}
}

// Groups of eight blocks, more of them than any filesystem has. A table that
// lies in the first group describes no more than fit into it.
func TestTinyGroups(t *testing.T) {
	for _, ro := range []uint32{ext.RoCompatSparseSuper, 1 << 31} {
		fs := newSynthetic(layout{blocks: 1 << 28, perGroup: 8, inodesPerGroup: 16, roCompat: ro})
		res := scanBounded(t, fs, fs.size, Options{})
		if most := int64(8 << 20); res.MetadataBytes() > most {
			t.Errorf("ro_compat %#x: %d MiB of metadata", ro, res.MetadataBytes()>>20)
		}
	}
}

// Where the first data block lies beyond the device, nothing is on the device but
// the superblock, and that is a problem.
func TestFirstDataBlockBeyondDevice(t *testing.T) {
	for incompat, problems := range map[uint32][]ProblemKind{
		ext.IncompatJournalDev: {BadJournal},
		ext.IncompatExtents:    {SizeMismatch, BadDescriptor},
	} {
		fs := newSynthetic(layout{blockSize: 2048, blocks: 128, incompat: incompat})
		fs.super(sbFirstDataBlock, 50)
		fs.size = 2*2048 + 1
		res := scanBounded(t, fs, fs.size, Options{})
		if !res.Map.Contains(Superblock, 0) || res.Map.all().count() != 1 {
			t.Errorf("incompat %#x: %d blocks of metadata, want the superblock's alone", incompat, res.Map.all().count())
		}
		for _, kind := range problems {
			if !hasProblem(res, kind) {
				t.Errorf("incompat %#x: no problem of kind %v", incompat, kind)
			}
		}
	}
}

func TestDescSizes(t *testing.T) {
	for _, c := range []struct {
		size     uint32
		readable bool
	}{{0, false}, {32, true}, {64, true}, {128, true}, {1024, true}, {48, false}, {2048, false}} {
		fs := newSynthetic(layout{descSize: max(c.size, 32), blocks: 300000})
		fs.setDesc(3, 120000, 120001, 120002)
		fs.put(ext.SuperblockOffset+sbDescSize, []byte{byte(c.size), byte(c.size >> 8)})
		res := scanBounded(t, fs, fs.size, Options{})
		if got := res.Map.Contains(InodeTable, 120002); got != c.readable {
			t.Errorf("s_desc_size %d: table of group 3 found: %v", c.size, got)
		}
		if !res.Map.Contains(Superblock, 0) && !res.Map.Contains(Superblock, 1) {
			t.Errorf("s_desc_size %d: no superblock", c.size)
		}
		if !c.readable && !hasProblem(res, BadSuperblock) {
			t.Errorf("s_desc_size %d is no problem", c.size)
		}
	}
}

func TestFirstMetaBg(t *testing.T) {
	for _, first := range []uint32{0, 1, 5, 1 << 31, 1<<32 - 1} {
		fs := newSynthetic(layout{blocks: 1 << 22, incompat: ext.IncompatFiletype | ext.IncompatExtents | ext.Incompat64bit | ext.IncompatFlexBg | ext.IncompatMetaBg})
		fs.super(sbFirstMetaBg, first)
		res := scanBounded(t, fs, fs.size, Options{Backups: BackupsAll})
		if !res.Map.Contains(GroupDescs, 1) || !res.Map.Contains(InodeTable, fs.table) {
			t.Errorf("s_first_meta_bg %d: the first descriptors are missing", first)
		}
	}
}

// A superblock of which nothing can be made is dumped all the same.
func TestHopelessSuperblock(t *testing.T) {
	for _, log := range []uint32{7, 31, 32, 1<<32 - 1} {
		fs := newSynthetic(layout{blocks: 1 << 16})
		fs.super(sbLogBlockSize, log)
		res := scanBounded(t, fs, fs.size, Options{})
		if !res.Map.Contains(Superblock, 1) || res.Super() != nil || !hasProblem(res, BadSuperblock) {
			t.Errorf("s_log_block_size %d: superblock %v, problems %v", log, runsOf(res.Map, Superblock), res.Problems())
		}
		got := make([]byte, ext.SuperblockSize)
		if _, err := res.View().ReadAt(got, ext.SuperblockOffset); err != nil || !ext.IsSuperblock(got) {
			t.Errorf("s_log_block_size %d: the superblock is not in the view", log)
		}
	}
}

func TestNoFilesystem(t *testing.T) {
	random := newDisk(1 << 22)
	random.fill(0, 1<<22, noise(1<<20+7, 1))
	for _, c := range []struct {
		what string
		d    *disk
	}{
		{"nothing", newDisk(0)}, {"one byte", newDisk(1)}, {"too short", newDisk(2047)}, {"zeros", newDisk(1 << 30)}, {"noise", random},
	} {
		if _, err := Scan(context.Background(), c.d, c.d.size, Options{}); !errors.Is(err, ErrNotExt) {
			t.Errorf("%s: %v", c.what, err)
		}
		if _, err := Scan(context.Background(), c.d, c.d.size, Options{Superblock: 32768}); !errors.Is(err, ErrNotExt) {
			t.Errorf("%s with a chosen superblock: %v", c.what, err)
		}
	}
}

func TestOrphanListLoops(t *testing.T) {
	for _, next := range []map[uint32]uint32{{12: 13, 13: 12}, {12: 12}, {12: 13, 13: 14, 14: 1 << 31}} {
		fs := newSynthetic(layout{lastOrphan: 12})
		var nodes []uint64
		for ino, n := range next {
			node := fs.block(extentNode(4096, 0))
			nodes = append(nodes, node)
			fs.inode(ino, modeRegular, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: node}))
			at := int64(fs.table)*4096 + int64(ino-1)*256
			fs.put(at+0x14, le.AppendUint32(nil, n)) // i_dtime
			fs.put(at+0x1A, []byte{0, 0})            // i_links_count
		}
		res := scanBounded(t, fs, fs.size, Options{})
		wantBlocks(t, res.Map, ExtentNode, nodes...)
	}
	fs := newSynthetic(layout{lastOrphan: 1 << 31})
	if res := scanBounded(t, fs, fs.size, Options{}); !hasProblem(res, BadOrphan) {
		t.Error("an orphan list that begins nowhere is no problem")
	}
}

// All inode tables in one place, all over each other, or each in the data of
// the next.
func TestTablesOnEachOther(t *testing.T) {
	const groups = 512
	for _, pitch := range []uint64{0, 1, 7} {
		fs := newSynthetic(layout{blocks: groups * 32768, inodesPerGroup: 8192})
		for g := range uint64(groups) {
			fs.setDesc(g, fs.table, fs.table, fs.table+g*pitch)
		}
		dir := fs.table + 100000
		for ino := uint32(12); ino < 500; ino++ {
			fs.inode(ino, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 0, entry{len: 1, block: dir + uint64(ino)}))
		}
		counted := &countingDisk{ReaderAt: fs}
		res := scanBounded(t, counted, fs.size, Options{})
		if !res.Map.Contains(Directory, dir+12) && !res.Map.Contains(Claimed, dir+12) {
			t.Errorf("pitch %d: a directory is missing", pitch)
		}
		t.Logf("pitch %d: %d reads, %d MiB", pitch, counted.reads.Load(), counted.bytes.Load()>>20)
	}
}

// Every inode has a mode of no known type, and a first block of its own.
func TestInodesOfNoType(t *testing.T) {
	const inodes = 32768
	fs := newSynthetic(layout{blocks: 1 << 20, inodesPerGroup: inodes})
	table := make([]byte, inodes*256)
	for i := range inodes {
		in := table[i*256:]
		le.PutUint16(in, 0x3000)
		le.PutUint16(in[0x1A:], 5)
		le.PutUint32(in[0x28:], uint32(fs.free)+uint32(i)*16)
	}
	fs.put(int64(fs.table)*4096, table)
	res := scanBounded(t, fs, fs.size, Options{})
	// The bad blocks inode and the resize inode are neither.
	if got := res.Map.Blocks(Claimed); got != inodes-2 {
		t.Errorf("%d first blocks looked at, want %d", got, inodes-2)
	}
}

// The map does not depend on how many workers make it.
func TestThreadsDoNotMatter(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 16, inodesPerGroup: 8192})
	for ino := uint32(12); ino < 4000; ino++ {
		switch ino % 4 {
		case 0:
			fs.inode(ino, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 0, entry{len: 2, block: 8000 + uint64(ino)}))
		case 1:
			fs.inode(ino, modeRegular, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: 20000 + uint64(ino)}))
		case 2:
			fs.inode(ino, modeSymlink, 0, 100, pointers(ext.IBlockSize, 40000+ino))
		case 3:
			fs.inode(ino, 0x3000, 0, 100, pointers(ext.IBlockSize, 50000+ino))
		}
	}
	first := ""
	for _, threads := range []int{1, 2, 7} {
		res := scanBounded(t, fs, fs.size, Options{Threads: threads})
		if n := res.Map.Blocks(Symlink); n != (4000-12)/4 {
			t.Errorf("%d targets of symlinks, want one of every fourth inode", n)
		}
		var b bytes.Buffer
		for run := range res.Map.Runs() {
			fmt.Fprintln(&b, run)
		}
		fmt.Fprintln(&b, res.AllProblems())
		if first == "" {
			first = b.String()
		} else if b.String() != first {
			t.Errorf("%d threads find something else than one", threads)
		}
	}
}

// Nor does what the bounds on attribute values, and on what else is named by
// something, leave out.
func TestBoundsDoNotDependOnThreads(t *testing.T) {
	const first, nodes, inodes = 8192, 1 << 10, 3000
	fs := newSynthetic(layout{blocks: first + nodes, inodesPerGroup: 8192})
	fs.fill(first*4096, (first+nodes)*4096, graph(first, nodes, func(i int) int { return i % 2 }))
	for ino := uint32(12); ino < inodes; ino++ {
		fs.inode(ino, modeRegular, ext.FlagExtents|ext.FlagEaInode, 5000, extentNode(ext.IBlockSize, 5, entry{block: first + uint64(ino*7)%nodes}))
		nameValue(fs, ino, 12+(ino*331)%(inodes-12), 5000)
	}
	for _, c := range []struct {
		revisits int
		work     int64
	}{{inodes, 16 * 1000}, {100, maxValueWork}} {
		first := ""
		for round := range 12 {
			s := scannerOf(t, jitterDisk{fs}, fs.size)
			s.opt.XattrValues = true
			s.maxRevisits, s.maxValueWork, s.opt.Threads = c.revisits, c.work, 1+round%6
			if err := s.run(context.Background()); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			for run := range s.out.Runs() {
				fmt.Fprintln(&b, run)
			}
			fmt.Fprintln(&b, s.out.ends, s.problems.all())
			if !slices.ContainsFunc(s.problems.list(), func(p Problem) bool { return p.Kind == Unbounded }) {
				t.Fatalf("%+v: the bound was not reached", c)
			}
			if first == "" {
				first = b.String()
			} else if b.String() != first {
				t.Fatalf("%+v: %d threads leave something else out than one", c, s.opt.Threads)
			}
		}
	}
}

// nameValue gives an inode an attribute whose value is in another.
func nameValue(fs *synthetic, ino, value, size uint32) {
	x := make([]byte, 128)
	le.PutUint16(x, 32) // i_extra_isize
	le.PutUint32(x[32:], 0xEA020000)
	x[36], x[37] = 1, 1 // e_name_len, e_name_index
	le.PutUint32(x[40:], value)
	le.PutUint32(x[44:], size)
	x[52] = 'n'
	fs.put(int64(fs.table)*int64(fs.blockSize)+int64(ino-1)*256+128, x)
}

// A jitterDisk has the workers overtake each other.
type jitterDisk struct{ io.ReaderAt }

func (d jitterDisk) ReadAt(p []byte, off int64) (int, error) {
	if rand.IntN(8) == 0 {
		time.Sleep(time.Duration(rand.IntN(50)) * time.Microsecond)
	}
	return d.ReaderAt.ReadAt(p, off)
}

// A long orphan list is followed without a round of reads for each inode.
func TestOrphanListLong(t *testing.T) {
	const inodes = 8192
	fs := newSynthetic(layout{blocks: 1 << 16, inodesPerGroup: inodes, lastOrphan: inodes})
	var nodes []uint64
	for ino := uint32(12); ino <= inodes; ino++ {
		node := uint64(10000 + ino)
		nodes = append(nodes, node)
		fs.at(node, extentNode(4096, 0))
		fs.inode(ino, modeRegular, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: node}))
		at := int64(fs.table)*4096 + int64(ino-1)*256
		fs.put(at+0x1A, []byte{0, 0}) // i_links_count
		if ino > 12 {
			fs.put(at+0x14, le.AppendUint32(nil, ino-1)) // i_dtime
		}
	}
	counted := &countingDisk{ReaderAt: fs}
	wantBlocks(t, scanBounded(t, counted, fs.size, Options{}).Map, ExtentNode, nodes...)
	if n := counted.reads.Load(); n > inodes/32 {
		t.Errorf("%d reads", n)
	}
}

// However many numbers in a doubly indirect block cannot be, e2fsck -n follows
// the others.
func TestManyBadNumbers(t *testing.T) {
	fs := newSynthetic(layout{blockSize: 1024, blocks: 5000})
	ind := fs.block(pointers(1024, 7))
	numbers := slices.Repeat([]uint32{1 << 30}, 200)
	dind := fs.block(pointers(1024, append(numbers, uint32(ind))...))
	p := make([]uint32, ext.IBlockCount)
	p[13] = uint32(dind)
	fs.inode(12, modeRegular, 0, 1<<30, pointers(ext.IBlockSize, p...))
	res := scanBounded(t, fs, fs.size, Options{})
	wantBlocks(t, res.Map, IndirectBlock, ind)
	wantBlocks(t, res.Map, Claimed, dind)
}
