package ext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// A groupDump is what dumpe2fs says of a group.
type groupDump struct {
	first, last              uint64 // blocks
	super                    uint64
	hasSuper                 bool
	descs                    [2]uint64 // first and last block of descriptors
	hasDescs                 bool
	blockBitmap, inodeBitmap uint64
	table                    [2]uint64
	flags                    string
	unused                   uint64
}

var (
	reGroup  = regexp.MustCompile(`^Group (\d+): \(Blocks (\d+)-(\d+)\)(?: csum 0x\w+)?(?: \[(.*)\])?`)
	reSuper  = regexp.MustCompile(`(?:Primary|Backup) superblock at (\d+)`)
	reDescs  = regexp.MustCompile(`Group descriptors? at (\d+)(?:-(\d+))?`)
	reBlockB = regexp.MustCompile(`Block bitmap at (\d+)`)
	reInodeB = regexp.MustCompile(`Inode bitmap at (\d+)`)
	reTable  = regexp.MustCompile(`Inode table at (\d+)-(\d+)`)
	reUnused = regexp.MustCompile(`(\d+) unused inodes`)
)

// groups returns what dumpe2fs says of all groups.
func (img *diskImage) groups() []groupDump {
	img.t.Helper()
	var groups []groupDump
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			img.t.Fatal(err)
		}
		return n
	}
	for line := range strings.Lines(testfs.Run(img.t, "dumpe2fs", img.path)) {
		if m := reGroup.FindStringSubmatch(line); m != nil {
			if number(m[1]) != uint64(len(groups)) {
				img.t.Fatalf("group %d follows %s", len(groups), line)
			}
			groups = append(groups, groupDump{first: number(m[2]), last: number(m[3]), flags: m[4]})
		}
		if len(groups) == 0 {
			continue
		}
		g := &groups[len(groups)-1]
		if m := reSuper.FindStringSubmatch(line); m != nil {
			g.super, g.hasSuper = number(m[1]), true
		}
		if m := reDescs.FindStringSubmatch(line); m != nil {
			g.descs, g.hasDescs = [2]uint64{number(m[1]), number(m[1])}, true
			if m[2] != "" {
				g.descs[1] = number(m[2])
			}
		}
		if m := reBlockB.FindStringSubmatch(line); m != nil {
			g.blockBitmap = number(m[1])
		}
		if m := reInodeB.FindStringSubmatch(line); m != nil {
			g.inodeBitmap = number(m[1])
		}
		if m := reTable.FindStringSubmatch(line); m != nil {
			g.table = [2]uint64{number(m[1]), number(m[2])}
		}
		if m := reUnused.FindStringSubmatch(line); m != nil {
			g.unused = number(m[1])
		}
	}
	return groups
}

func TestGeometryAgainstDumpe2fs(t *testing.T) {
	for _, c := range []struct {
		size      int64
		blockSize int
		args      string
	}{
		{20 << 20, 1024, "-t ext2"},
		{64 << 20, 1024, "-t ext2 -O ^sparse_super,^resize_inode"},
		{200 << 20, 2048, "-t ext3 -g 4096"},
		{300 << 20, 4096, "-t ext4"},
		{700 << 20, 1024, "-t ext4 -O ^resize_inode"},
		{100 << 20, 1024, "-t ext4 -O ^64bit"},
		{100 << 20, 1024, "-t ext4 -O ^64bit,^flex_bg -I 128"},
		{100 << 20, 1024, "-t ext4 -O meta_bg,^resize_inode"},
		{500 << 20, 1024, "-t ext4 -O meta_bg,^resize_inode,^sparse_super -g 2048 -N 16000"},
		{500 << 20, 1024, "-t ext3 -O meta_bg,^resize_inode -g 1024 -N 16000"},
		{200 << 20, 1024, "-t ext4 -O sparse_super2"},
		{200 << 20, 1024, "-t ext4 -O sparse_super2 -E num_backup_sb=0"},
		{200 << 20, 1024, "-t ext4 -O sparse_super2 -E num_backup_sb=1"},
		{200 << 20, 1024, "-t ext4 -O sparse_super2,^sparse_super,meta_bg,^resize_inode -g 512 -N 8000"},
		{300 << 20, 4096, "-t ext4 -O bigalloc -C 65536"},
		{300 << 20, 1024, "-t ext4 -O bigalloc -C 16384"},
		{900 << 20, 1024, "-t ext4 -O bigalloc,^resize_inode,meta_bg -C 2048"},
		{40 << 20, 1024, "-r 0 -O none"},
		{33000 << 10, 1024, "-t ext4"},                       // a short last group
		{8300 << 10, 1024, "-t ext2 -N 64 -O ^resize_inode"}, // one of a hundred blocks
		{300 << 20, 4096, "-t ext4 -G 4 -I 1024"},
		{300 << 20, 8192, "-t ext4"},
		{600 << 20, 65536, "-t ext4 -I 4096"},
		{60 << 20, 1024, "-t ext4 -g 256 -N 8192"},
	} {
		t.Run(fmt.Sprintf("%d %d %s", c.size, c.blockSize, c.args), func(t *testing.T) {
			img := newDiskImage(t, c.size, c.blockSize, append([]string{"-E", "nodiscard"}, strings.Fields(c.args)...)...)
			img.checkGeometry()
		})
	}
}

// A filesystem of more than 2³² blocks, where there is a filesystem that takes
// files of that size, as tmpfs does.
func TestGeometryBeyond32Bits(t *testing.T) {
	img := newDiskImage(t, 17<<40, 4096, "-t ext4 -O bigalloc,^resize_inode,^has_journal -C 262144 -E nodiscard -N 40000")
	geo := img.checkGeometry()
	if geo.BlocksCount>>32 == 0 {
		t.Errorf("%d blocks", geo.BlocksCount)
	}
}

// checkGeometry compares all that the geometry says with dumpe2fs.
func (img *diskImage) checkGeometry() *Geometry {
	t := img.t
	t.Helper()
	sb := img.super()
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Verify(geo); err != nil {
		t.Error(err)
	}
	for _, f := range []struct {
		field string
		got   uint64
		def   uint64
	}{
		{"Block count", geo.BlocksCount, 0},
		{"Block size", uint64(geo.BlockSize), 0},
		{"Cluster size", uint64(geo.ClusterSize), uint64(geo.BlockSize)},
		{"First block", uint64(geo.FirstDataBlock), 0},
		{"Blocks per group", uint64(geo.BlocksPerGroup), 0},
		{"Inode count", uint64(geo.InodesCount), 0},
		{"Inodes per group", uint64(geo.InodesPerGroup), 0},
		{"Inode size", uint64(geo.InodeSize), 128},
		{"First inode", uint64(geo.FirstInode), 11},
		{"Inode blocks per group", uint64(geo.TableBlocks), 0},
		{"Group descriptor size", uint64(geo.DescSize), 32},
	} {
		if want := img.headerNumber(f.field, f.def); f.got != want {
			t.Errorf("%s: %d, dumpe2fs says %d", f.field, f.got, want)
		}
	}
	groups := img.groups()
	if int(geo.GroupCount) != len(groups) {
		t.Fatalf("%d groups, dumpe2fs lists %d", geo.GroupCount, len(groups))
	}
	var supers []uint32
	for n, g := range groups {
		group := uint32(n)
		if got := geo.GroupFirstBlock(group); got != g.first {
			t.Errorf("group %d begins with %d, dumpe2fs says %d", n, got, g.first)
		}
		if a, b := geo.GroupOf(g.first), geo.GroupOf(g.last); a != group || b != group {
			t.Errorf("blocks %d and %d lie in groups %d and %d, want %d", g.first, g.last, a, b, n)
		}
		if got := geo.HasSuper(group); got != g.hasSuper {
			t.Errorf("group %d has a superblock: %v, dumpe2fs says %v", n, got, g.hasSuper)
		}
		if g.hasSuper {
			supers = append(supers, group)
			if got := geo.SuperBlock(group); got != g.super {
				t.Errorf("superblock of group %d at %d, dumpe2fs says %d", n, got, g.super)
			}
		}
		img.checkDesc(sb, geo, group, g)
	}
	if last := groups[len(groups)-1].last; last != geo.BlocksCount-1 || !geo.ValidBlock(last) || geo.ValidBlock(last+1) {
		t.Errorf("the last group ends with %d of %d blocks", last, geo.BlocksCount)
	}
	var next []uint32
	for g, ok := geo.NextSuper(0); ok; g, ok = geo.NextSuper(g + 1) {
		next = append(next, g)
	}
	if !slices.Equal(next, supers) {
		t.Errorf("NextSuper goes through %v, dumpe2fs has superblocks in %v", next, supers)
	}
	checkDescPlaces(t, geo, groups)
	return geo
}

// checkDesc compares the descriptor that the geometry leads to.
func (img *diskImage) checkDesc(sb *Superblock, geo *Geometry, group uint32, g groupDump) {
	per := geo.DescsPerBlock()
	at := int64(geo.DescBlock(0, group/per))*int64(geo.BlockSize) + int64(group%per*geo.DescSize)
	d := GroupDesc(img.read(at, int(geo.DescSize)))
	if d.BlockBitmap() != g.blockBitmap || d.InodeBitmap() != g.inodeBitmap || d.InodeTable() != g.table[0] {
		img.t.Errorf("group %d: bitmaps at %d and %d, table at %d, dumpe2fs says %d, %d, %d", group,
			d.BlockBitmap(), d.InodeBitmap(), d.InodeTable(), g.blockBitmap, g.inodeBitmap, g.table[0])
	}
	if got := g.table[0] + uint64(geo.TableBlocks) - 1; got != g.table[1] {
		img.t.Errorf("group %d: the table ends with %d, dumpe2fs says %d", group, got, g.table[1])
	}
	if uint64(d.ItableUnused()) != g.unused {
		img.t.Errorf("group %d: %d inodes unused, dumpe2fs says %d", group, d.ItableUnused(), g.unused)
	}
	if !sb.DescChecksumOK(group, d) {
		img.t.Errorf("group %d: the descriptor's checksum is refused", group)
	}
	if !sb.HasDescChecksums() {
		return // dumpe2fs shows no flags
	}
	for name, bit := range map[string]uint16{"INODE_UNINIT": BgInodeUninit, "BLOCK_UNINIT": BgBlockUninit, "ITABLE_ZEROED": BgInodeZeroed} {
		if strings.Contains(g.flags, name) != (d.Flags()&bit != 0) {
			img.t.Errorf("group %d: %s is %v, dumpe2fs says %q", group, name, d.Flags()&bit != 0, g.flags)
		}
	}
}

// checkDescPlaces compares where the copies of the descriptors lie.
func checkDescPlaces(t testing.TB, geo *Geometry, groups []groupDump) {
	t.Helper()
	want := make(map[uint64]bool)
	for _, g := range groups {
		if g.hasDescs {
			for b := g.descs[0]; b <= g.descs[1]; b++ {
				want[b] = true
			}
		}
	}
	got := make(map[uint64]bool)
	for g, ok := geo.NextSuper(0); ok; g, ok = geo.NextSuper(g + 1) {
		for i := range geo.LinearDescBlocks() {
			got[geo.DescBlock(g, i)] = true
		}
	}
	for i := geo.LinearDescBlocks(); i < geo.DescBlocks; i++ {
		copies := geo.MetaDescCopies(i)
		if copies[0] != geo.DescBlock(0, i) || len(copies) > 1 && copies[1] != geo.DescBlock(1, i) {
			t.Errorf("descriptor block %d lies at %v, but DescBlock has it at %d and %d", i, copies, geo.DescBlock(0, i), geo.DescBlock(1, i))
		}
		for _, b := range copies {
			got[b] = true
		}
	}
	for b := range want {
		if !got[b] {
			t.Errorf("dumpe2fs has descriptors in block %d, the geometry has not", b)
		}
	}
	for b := range got {
		if !want[b] {
			t.Errorf("the geometry has descriptors in block %d, dumpe2fs has not", b)
		}
	}
}

// The backups hold the same descriptors as the primary, but for what changes
// while a filesystem is made.
func TestDescBackupsHoldTheTables(t *testing.T) {
	for _, args := range []string{"-t ext4", "-t ext4 -O meta_bg,^resize_inode", "-t ext2 -O ^sparse_super,^resize_inode", "-t ext4 -O sparse_super2"} {
		img := newDiskImage(t, 200<<20, 1024, strings.Fields(args)...)
		geo, err := img.super().Geometry()
		if err != nil {
			t.Fatal(err)
		}
		for g, ok := geo.NextSuper(1); ok; g, ok = geo.NextSuper(g + 1) {
			for i := range geo.DescBlocks {
				first, backup := img.block(geo.DescBlock(0, i)), img.block(geo.DescBlock(g, i))
				for at := uint32(0); at < geo.BlockSize; at += geo.DescSize {
					a, b := GroupDesc(first[at:at+geo.DescSize]), GroupDesc(backup[at:at+geo.DescSize])
					if a.InodeTable() != b.InodeTable() || a.BlockBitmap() != b.BlockBitmap() || a.InodeBitmap() != b.InodeBitmap() {
						t.Fatalf("mke2fs %s: descriptor block %d of group %d is not at %d", args, i, g, geo.DescBlock(g, i))
					}
				}
			}
		}
	}
}

// Metablock groups that begin behind a linear table, as an online resize
// leaves them (ext4_bg_num_gdb, descriptor_loc).
func TestGeometryFirstMetaBg(t *testing.T) {
	b := newDiskImage(t, 300<<20, 1024, "-t", "ext4", "-O", "meta_bg,^resize_inode").read(SuperblockOffset, SuperblockSize)
	binary.LittleEndian.PutUint32(b[0x104:], 2)
	sb, err := DecodeSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	if geo.DescBlocks != 3 || geo.LinearDescBlocks() != 2 {
		t.Fatalf("%d of %d descriptor blocks lie behind the superblock, want 2 of 3", geo.LinearDescBlocks(), geo.DescBlocks)
	}
	for _, c := range []struct {
		group, i uint32
		want     uint64
	}{
		{0, 0, 2}, {0, 1, 3}, {3, 0, 3*8192 + 2}, {3, 1, 3*8192 + 3},
		{0, 2, 32*8192 + 1}, {3, 2, 33*8192 + 1}, // groups 32 and 33 have no superblock
	} {
		if got := geo.DescBlock(c.group, c.i); got != c.want || geo.MetaBg(c.i) != (c.i >= 2) {
			t.Errorf("descriptor block %d of group %d at %d, want %d", c.i, c.group, got, c.want)
		}
	}
}

func TestGeometryRefuses(t *testing.T) {
	img := newDiskImage(t, 32<<20, 1024, "-t", "ext4")
	good := img.read(SuperblockOffset, SuperblockSize)
	const maxU32 = 0xFFFFFFFF
	for _, c := range []struct {
		what  string
		off   int
		size  int
		value uint64
	}{
		{"s_log_block_size", 0x18, 4, 7}, {"s_log_block_size", 0x18, 4, 32}, {"s_log_block_size", 0x18, 4, maxU32},
		{"s_inode_size", 0x58, 2, 0}, {"s_inode_size", 0x58, 2, 64}, {"s_inode_size", 0x58, 2, 192}, {"s_inode_size", 0x58, 2, 2048}, {"s_inode_size", 0x58, 2, 0xFFFF},
		{"s_desc_size", 0xFE, 2, 0}, {"s_desc_size", 0xFE, 2, 16}, {"s_desc_size", 0xFE, 2, 63}, {"s_desc_size", 0xFE, 2, 2048},
		{"s_blocks_per_group", 0x20, 4, 0}, {"s_blocks_per_group", 0x20, 4, 7}, {"s_blocks_per_group", 0x20, 4, 8193}, {"s_blocks_per_group", 0x20, 4, maxU32},
		{"s_inodes_per_group", 0x28, 4, 0}, {"s_inodes_per_group", 0x28, 4, 8193}, {"s_inodes_per_group", 0x28, 4, maxU32},
		{"s_blocks_count", 0x04, 4, 0}, {"s_blocks_count", 0x04, 4, 1}, {"s_blocks_count", 0x150, 4, maxU32},
		{"s_first_data_block", 0x14, 4, maxU32},
	} {
		b := slices.Clone(good)
		var v [8]byte
		binary.LittleEndian.PutUint64(v[:], c.value)
		copy(b[c.off:c.off+c.size], v[:])
		sb, err := DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if geo, err := sb.Geometry(); geo != nil || !errors.As(err, &corrupt) {
			t.Errorf("%s %#x: %v, %v", c.what, c.value, geo, err)
		}
	}
	// What can be worked with, but no filesystem has.
	for _, c := range []struct {
		what string
		off  int
		v    uint32
	}{
		{"s_inodes_count", 0x00, 17}, {"s_inodes_per_group", 0x28, 8}, {"s_blocks_count", 0x04, 1 << 20},
	} {
		b := slices.Clone(good)
		binary.LittleEndian.PutUint32(b[c.off:], c.v)
		sb, err := DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		geo, err := sb.Geometry()
		if err != nil {
			t.Errorf("%s %d: %v", c.what, c.v, err)
			continue
		}
		if sb.Verify(geo) == nil {
			t.Errorf("%s %d: believed", c.what, c.v)
		}
	}
}

// A group of every kind of backup is found from every group before it, and
// only those.
func TestNextSuper(t *testing.T) {
	for _, geo := range []*Geometry{
		{GroupCount: 20000, sparse: sparseSuper}, {GroupCount: 1, sparse: sparseSuper}, {GroupCount: 2, sparse: sparseSuper},
		{GroupCount: 50, sparse: everyGroup},
		{GroupCount: 300, sparse: sparseSuper2, backupGroups: [2]uint32{1, 299}}, {GroupCount: 300, sparse: sparseSuper2, backupGroups: [2]uint32{7, 3}},
		{GroupCount: 300, sparse: sparseSuper2}, {GroupCount: 300, sparse: sparseSuper2, backupGroups: [2]uint32{5, 1 << 31}},
	} {
		want, found := uint32(0), false
		for g := geo.GroupCount; ; g-- {
			if g < geo.GroupCount && geo.HasSuper(g) {
				want, found = g, true
			}
			if got, ok := geo.NextSuper(g); ok != found || ok && got != want {
				t.Fatalf("%+v: NextSuper(%d) = %d, %v, want %d, %v", geo, g, got, ok, want, found)
			}
			if g == 0 {
				break
			}
		}
	}
	// At the end of the numbers.
	geo := &Geometry{GroupCount: 1<<32 - 1, sparse: sparseSuper}
	if g, ok := geo.NextSuper(3486784401 + 1); ok {
		t.Errorf("NextSuper behind 3²⁰ = %d", g)
	}
	if g, ok := geo.NextSuper(3486784401); !ok || g != 3486784401 {
		t.Errorf("NextSuper at 3²⁰ = %d, %v", g, ok)
	}
}

func TestInodePlace(t *testing.T) {
	geo := &Geometry{GroupCount: 3, InodesPerGroup: 100}
	for _, c := range []struct{ ino, group, index uint32 }{{1, 0, 0}, {100, 0, 99}, {101, 1, 0}, {300, 2, 99}} {
		if g, i := geo.InodePlace(c.ino); g != c.group || i != c.index || !geo.ValidInode(c.ino) {
			t.Errorf("inode %d is %d of group %d", c.ino, i, g)
		}
	}
	if geo.ValidInode(0) || geo.ValidInode(301) {
		t.Error("an inode that no table holds is valid")
	}
}

func FuzzGeometry(f *testing.F) {
	for _, args := range []string{"-t ext4", "-t ext2", "-t ext4 -O bigalloc", "-t ext4 -O meta_bg,^resize_inode", "-t ext4 -O sparse_super2"} {
		f.Add(newDiskImage(f, 8<<20, 1024, strings.Fields(args)...).read(SuperblockOffset, SuperblockSize))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < SuperblockSize {
			return
		}
		b[0x38], b[0x39] = 0x53, 0xEF
		sb, err := DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		geo, err := sb.Geometry()
		if err != nil {
			return
		}
		if sb.HasIncompat(IncompatJournalDev) {
			if _, ok := geo.NextSuper(0); ok || geo.GroupCount != 0 || geo.ValidInode(1) {
				t.Fatalf("a journal device has groups: %+v", geo)
			}
			return
		}
		checkBounds(t, geo)
		if err := sb.Verify(geo); err != nil {
			if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) {
				t.Fatal(err)
			}
		}
	})
}

// checkBounds checks what all that works with a geometry relies on.
func checkBounds(t *testing.T, geo *Geometry) {
	t.Helper()
	switch {
	case geo.BlockSize < MinBlockSize || geo.BlockSize > MaxBlockSize || geo.BlockSize&(geo.BlockSize-1) != 0,
		geo.ClusterSize < geo.BlockSize || geo.ClusterSize%geo.BlockSize != 0,
		geo.InodeSize < 128 || geo.InodeSize > geo.BlockSize || geo.BlockSize%geo.InodeSize != 0,
		geo.DescSize < 32 || geo.DescSize > geo.BlockSize || geo.BlockSize%geo.DescSize != 0,
		geo.BlocksPerGroup < 8, geo.InodesPerGroup == 0, geo.GroupCount == 0, geo.TableBlocks == 0, geo.DescBlocks == 0,
		uint64(geo.FirstDataBlock) >= geo.BlocksCount,
		geo.LinearDescBlocks() > geo.DescBlocks,
		uint64(geo.TableBlocks)*uint64(geo.InodesPerBlock()) < uint64(geo.InodesPerGroup),
		uint64(geo.DescBlocks)*uint64(geo.DescsPerBlock()) < uint64(geo.GroupCount),
		geo.GroupFirstBlock(geo.GroupCount-1) >= geo.BlocksCount,
		geo.GroupOf(geo.BlocksCount-1) != geo.GroupCount-1:
		t.Fatalf("impossible geometry %+v", geo)
	}
	at := uint32(0)
	for range 100 {
		g, ok := geo.NextSuper(at)
		if !ok {
			break
		}
		if g < at || g >= geo.GroupCount || !geo.HasSuper(g) {
			t.Fatalf("NextSuper(%d) = %d in %+v", at, g, geo)
		}
		at = g + 1
	}
	for _, i := range []uint32{0, geo.LinearDescBlocks(), geo.DescBlocks - 1} {
		if i >= geo.DescBlocks {
			continue
		}
		geo.DescBlock(0, i)
		geo.DescBlock(geo.GroupCount-1, i)
		if geo.MetaBg(i) {
			if n := len(geo.MetaDescCopies(i)); n < 1 || n > 3 {
				t.Fatalf("descriptor block %d has %d copies in %+v", i, n, geo)
			}
		}
	}
	for _, ino := range []uint32{1, geo.InodesPerGroup, geo.InodesCount, 1<<32 - 1} {
		if geo.ValidInode(ino) {
			if g, index := geo.InodePlace(ino); g >= geo.GroupCount || index >= geo.InodesPerGroup {
				t.Fatalf("inode %d is %d of group %d in %+v", ino, index, g, geo)
			}
		}
	}
}
