package scan

import (
	"bytes"
	"testing"

	"e2qcow/ext"
)

// directoryBlock makes a block of 4 KiB with one entry.
func directoryBlock() []byte {
	dir := make([]byte, 4096)
	le.PutUint32(dir, 2)
	le.PutUint16(dir[4:], 4096)
	dir[6], dir[8] = 1, '.'
	return dir
}

// tinyMetaGroups makes a filesystem of groups of eight blocks in metablock
// groups, with a directory in the only table that a descriptor names.
func tinyMetaGroups(blocks uint64, roCompat uint32) *synthetic {
	fs := newSynthetic(layout{blocks: blocks, perGroup: 8, inodesPerGroup: 16, roCompat: roCompat,
		incompat: ext.IncompatFiletype | ext.IncompatExtents | ext.Incompat64bit | ext.IncompatFlexBg | ext.IncompatMetaBg})
	dir := fs.block(directoryBlock())
	fs.inode(12, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 0, entry{len: 1, block: dir}))
	return fs
}

// checkTinyMetaGroups checks what is found in the filesystem of tinyMetaGroups:
// so many superblocks, the descriptors of each metablock group so many times,
// and what the first descriptor leads to. The others are zero, which is an error.
func checkTinyMetaGroups(t *testing.T, fs *synthetic, opt Options, supers, copies uint64) {
	t.Helper()
	res := scanBounded(t, fs, fs.size, opt)
	const descsPerBlock = 4096 / 64
	for kind, want := range map[Kind]uint64{
		Superblock: supers, GroupDescs: copies * fs.groups / descsPerBlock,
		BlockBitmap: 1, InodeBitmap: 1, InodeTable: 1, Directory: 1,
	} {
		if n := res.Map.Blocks(kind); n != want {
			t.Errorf("%d blocks of kind %v, want %d", n, kind, want)
		}
	}
	if !hasProblem(res, BadTableLocation) {
		t.Error("descriptors without tables are no problem")
	}
}

// Groups of eight blocks in metablock groups: 2²¹ groups that all fit. The first
// group of a metablock group has its descriptors, the second has a copy.
func TestTinyMetaGroups(t *testing.T) {
	const groups = 1 << 21 / raceShrink
	sparse := uint64(2) // groups 0 and 1, and the powers of 3, 5 and 7
	for _, base := range []uint64{3, 5, 7} {
		for power := base; power < groups; power *= base {
			sparse++
		}
	}
	checkTinyMetaGroups(t, tinyMetaGroups(8*groups, ext.RoCompatSparseSuper), Options{}, sparse, 2)
	checkTinyMetaGroups(t, tinyMetaGroups(8*groups, 1<<31), Options{}, groups, 2)
}

// graph makes n blocks from block first on of extent nodes each of which points
// at 340 others of them.
func graph(first uint64, n int, depth func(i int) int) []byte {
	slab := make([]byte, 0, n*4096)
	entries := make([]entry, 340)
	for i := range n {
		for j := range entries {
			entries[j] = entry{logical: uint32(i*340+j) * 2, len: 1, block: first + uint64(i*337+j*761)%uint64(n)}
		}
		slab = append(slab, extentNode(4096, depth(i), entries...)...)
	}
	return slab
}

// Every block of the device is an extent node that points at others: a tree as
// large as the device, in files and in the journal.
func TestDeviceFullOfNodes(t *testing.T) {
	const first, nodes = 4096, 1 << 15 / raceShrink
	slab := graph(first, nodes, func(i int) int { return (i + 1) % 2 })
	for _, journal := range []bool{false, true} {
		fs := newSynthetic(layout{blocks: first + nodes})
		fs.fill(first*4096, (first+nodes)*4096, slab)
		root := extentNode(ext.IBlockSize, 5, entry{block: first})
		fs.inode(12, modeRegular, ext.FlagExtents, 1<<40, root)
		if journal {
			fs.inode(8, modeRegular, ext.FlagExtents, 1<<40, root)
			fs.super(sbJournalInum, 8)
		}
		res := scanBounded(t, fs, fs.size, Options{})
		if n := res.Map.Blocks(ExtentNode); n < nodes*3/4 {
			t.Errorf("only %d nodes", n)
		}
	}
}

// Many attribute values, each in an inode whose tree is as large as the device.
func TestValuesWithHugeTrees(t *testing.T) {
	const first, nodes = 8192, 1 << 14
	fs := newSynthetic(layout{blocks: first + nodes, inodesPerGroup: 8192})
	fs.fill(first*4096, (first+nodes)*4096, graph(first, nodes, func(int) int { return 3 }))
	// Each inode names the next as the value of an attribute.
	for ino := uint32(12); ino < 1000; ino++ {
		fs.inode(ino, modeRegular, ext.FlagExtents|ext.FlagEaInode, 5000, extentNode(ext.IBlockSize, 5, entry{block: first + uint64(ino)}))
		nameValue(fs, ino, ino+1, 5000)
	}
	res := scanBounded(t, fs, fs.size, Options{})
	if n := res.Map.Blocks(ExtentNode); n < nodes*3/4 {
		t.Errorf("only %d nodes", n)
	}
}

// A directory that claims the whole of a large device.
func TestDirectoryClaimsEverything(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 22})
	var leaves []entry
	at := uint64(8192)
	for at < 1<<22 {
		var extents []entry
		for i := 0; i < 340 && at < 1<<22; i++ {
			extents = append(extents, entry{logical: uint32(at), len: 32768, block: at})
			at += 32768
		}
		leaves = append(leaves, entry{logical: extents[0].logical, block: fs.block(extentNode(4096, 0, extents...))})
	}
	fs.inode(12, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, leaves...))
	fs.fill(8192*4096, fs.size, bytes.Repeat([]byte("file data "), 410))
	counted := &countingDisk{ReaderAt: fs}
	res := scanBounded(t, counted, fs.size, Options{})
	if n := counted.bytes.Load(); n > 2<<30 {
		t.Errorf("%d MiB read", n>>20)
	}
	if res.MetadataBytes() > 2*maxClaimed {
		t.Errorf("%d MiB of metadata", res.MetadataBytes()>>20)
	}
	if !hasProblem(res, Unbounded) {
		t.Error("what was left out is not told")
	}
}

// Directories that claim the same blocks in long runs, each from another one on.
func TestDirectoriesOverlap(t *testing.T) {
	const first, end = 8192, 8192 + 1<<16
	fs := newSynthetic(layout{blocks: end, perGroup: 32768, inodesPerGroup: 2048})
	at := uint64(first)
	for ino := uint32(12); ino < 800; ino++ {
		var extents []entry
		for range 340 {
			at = first + (at-first+257)%(end-first-32768)
			extents = append(extents, entry{len: 32768, block: at})
		}
		leaf := fs.block(extentNode(4096, 0, extents...))
		fs.inode(ino, modeDir, ext.FlagExtents, 4096, extentNode(ext.IBlockSize, 1, entry{block: leaf}))
	}
	fs.fill(first*4096, fs.size, directoryBlock())
	res := scanBounded(t, fs, fs.size, Options{})
	if n := res.Map.Blocks(Directory); n < 1<<15 {
		t.Errorf("only %d blocks of directories", n)
	}
}

// A copy of the superblock in each of many tiny groups, and all descriptors in
// metablock groups, of which the last group has a second copy.
func TestManyCopiesOfMetaGroups(t *testing.T) {
	const groups = 1 << 18 / raceShrink
	checkTinyMetaGroups(t, tinyMetaGroups(8*groups, 1<<31), Options{Backups: BackupsAll}, groups, 3)
}
