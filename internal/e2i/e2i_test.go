package e2i

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/testfs"
)

// small is a filesystem of a few groups, some of whose bitmaps were never
// written.
var small = testfs.Spec{Mke2fs: "-t ext4 -b 1024 -g 256 -N 256 -O ^has_journal,^resize_inode -m 0", Size: 1 << 20}

// read returns the bytes of a filesystem and its superblock.
func read(t testing.TB, spec testfs.Spec) ([]byte, *ext.Superblock) {
	t.Helper()
	b, err := os.ReadFile(testfs.Make(t, spec).Path)
	if err != nil {
		t.Fatal(err)
	}
	sb, err := ext.DecodeSuperblock(b[ext.SuperblockOffset:])
	if err != nil {
		t.Fatal(err)
	}
	return b, sb
}

// write returns the normal image of a filesystem.
func write(t testing.TB, disk []byte, sb *ext.Superblock, h Header) []byte {
	t.Helper()
	n, err := New(bytes.NewReader(disk), int64(len(disk)), sb, 0, h)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(n, 0, n.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRoundTrip reads back what was written: all runs are as on the disk, but
// for what e2image has in place of a bitmap that was never written.
func TestRoundTrip(t *testing.T) {
	disk, sb := read(t, small)
	from := Header{Hostname: "host", DeviceName: strings.Repeat("n", 80), Device: 0x801, Time: time.Unix(1<<31+5, 0).UTC(), Scrambled: true}
	m, err := Open(bytes.NewReader(write(t, disk, sb, from)), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	from.DeviceName = from.DeviceName[:63]
	if got := m.Origin(); got != from {
		t.Errorf("the header says %+v, want %+v", got, from)
	}
	known := int64(0)
	for off := int64(0); ; {
		start, end, err := m.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		b := make([]byte, end-start)
		if _, err := m.ReadAt(b, start); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, disk[start:end]) {
			t.Errorf("run [%d, %d) is not what was on the disk", start, end)
		}
		known, off = known+end-start, end
	}
	if geo, _ := sb.Geometry(); known < int64(geo.GroupCount)*int64(geo.TableBlocks)*1024 {
		t.Errorf("%d bytes in all runs are too few", known)
	}
}

// TestReadAt reads pieces of both images at any offset.
func TestReadAt(t *testing.T) {
	disk, sb := read(t, small)
	n, err := New(bytes.NewReader(disk), int64(len(disk)), sb, 0, Header{})
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, disk, sb, Header{})
	m, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]image.Image{"normal image": n, "disk": m} {
		whole := make([]byte, img.Size())
		if _, err := img.ReadAt(whole, 0); err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 2000 {
			off := rnd.Int64N(img.Size())
			b := bytes.Repeat([]byte{0xee}, rnd.IntN(5000))
			k, err := img.ReadAt(b, off)
			want := whole[off:min(off+int64(len(b)), img.Size())]
			if k != len(want) || !bytes.Equal(b[:k], want) || (err != nil) != (k < len(b)) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%s: %d bytes at %d: read %d, %v", name, len(b), off, k, err)
			}
		}
		if _, err := img.ReadAt(make([]byte, 1), img.Size()); !errors.Is(err, io.EOF) {
			t.Errorf("%s: behind the end: %v", name, err)
		}
	}
}

// TestShortDisk makes a normal image of a disk that ends before its filesystem.
func TestShortDisk(t *testing.T) {
	disk, sb := read(t, small)
	for _, size := range []int{0, 1500, 3 << 10, 100 << 10, len(disk) - 1} {
		if got, want := len(write(t, disk[:size], sb, Header{})), len(write(t, disk, sb, Header{})); got != want {
			t.Errorf("of %d bytes: an image of %d bytes, want %d", size, got, want)
		}
	}
}

// TestSplitCluster has groups that end within a cluster, which belongs to no
// bitmap: no filesystem has that, and its bitmaps would be a bit too short.
func TestSplitCluster(t *testing.T) {
	disk, _ := read(t, small)
	le := binary.LittleEndian
	b := disk[ext.SuperblockOffset:]
	le.PutUint32(b[28:], 1)                         // s_log_cluster_size: two blocks
	le.PutUint32(b[32:], 257)                       // s_blocks_per_group
	le.PutUint32(b[100:], le.Uint32(b[100:])|0x200) // s_feature_ro_compat: BIGALLOC
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	desc := disk[int64(geo.DescBlock(0, 0))*int64(geo.BlockSize)+int64(geo.DescSize):]
	le.PutUint32(desc, uint32(geo.GroupFirstBlock(2)-1)) // bg_block_bitmap of group 1
	le.PutUint16(desc[18:], ext.BgBlockUninit)
	n, err := New(bytes.NewReader(disk), int64(len(disk)), sb, 0, Header{})
	if err == nil {
		_, err = io.Copy(io.Discard, io.NewSectionReader(n, 0, n.Size()))
	}
	var damage *CorruptError
	if !errors.As(err, &damage) {
		t.Errorf("groups of 257 blocks in clusters of two: %v", err)
	}
}

// A crowd is the normal image of a filesystem of groups of eight blocks, each of
// which has its bitmaps and its table apart from one another.
type crowd struct {
	head   []byte
	descs  int64 // where the descriptors begin
	groups uint32
}

func (c *crowd) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(c.head)) {
		return copy(b, c.head[off:]), nil
	}
	g := uint32((off - c.descs) / 32)
	for i := 0; i+32 <= len(b) && off >= c.descs && g < c.groups; i += 32 {
		for k := range uint32(3) {
			binary.LittleEndian.PutUint32(b[i+4*int(k):], 2+8*g+2*k)
		}
		g++
	}
	return len(b), nil
}

// TestCrowd opens an image of as many pieces as its size allows for: what is
// allocated for each is little.
func TestCrowd(t *testing.T) {
	_, sb := read(t, small)
	b := bytes.Clone(sb.Bytes())
	le := binary.LittleEndian
	const groups = 100_000
	le.PutUint32(b[0:], 8*groups)   // s_inodes_count
	le.PutUint32(b[4:], 8*groups+1) // s_blocks_count_lo
	le.PutUint32(b[32:], 8)         // s_blocks_per_group
	le.PutUint32(b[36:], 8)         // s_clusters_per_group
	le.PutUint32(b[40:], 8)         // s_inodes_per_group
	le.PutUint16(b[88:], 128)       // s_inode_size
	le.PutUint32(b[96:], 2)         // s_feature_incompat: FILETYPE
	le.PutUint32(b[100:], 1)        // s_feature_ro_compat: SPARSE_SUPER
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLayout(geo)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 2*ext.MinBlockSize)
	copy(head, Header{}.encode(l, sb.UUID()))
	copy(head[ext.MinBlockSize:], b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := Open(&crowd{head, l.descs, groups}, l.size)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / uint64(len(m.pieces))
	if len(m.pieces) < 3*groups || each > 128 {
		t.Errorf("%d pieces, %d bytes allocated for each", len(m.pieces), each)
	}
}

// TestReadError has reads of the disk, and of the image, fail.
func TestReadError(t *testing.T) {
	disk, sb := read(t, small)
	file := write(t, disk, sb, Header{})
	for bad := int64(0); bad < int64(len(disk)); bad += 1024 {
		n, err := New(&badAt{disk, bad}, int64(len(disk)), sb, 0, Header{})
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(n, 0, n.Size()))
		}
		if err != nil && !errors.Is(err, errBad) {
			t.Fatal(err)
		}
	}
	found := 0
	for bad := int64(0); bad < int64(len(file)); bad += 512 {
		m, err := Open(&badAt{file, bad}, int64(len(file)))
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(m, 0, m.Size()))
		}
		if err != nil && !errors.Is(err, errBad) {
			t.Fatal(err)
		}
		if err != nil {
			found++
		}
	}
	if found < len(file)/2048 {
		t.Errorf("only %d failing reads are told of", found)
	}
}

// A badAt is bytes of which one cannot be read.
type badAt struct {
	data []byte
	bad  int64
}

var errBad = errors.New("bad sector")

func (b *badAt) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.bad && b.bad < off+int64(len(p)) {
		return 0, errBad
	}
	return bytes.NewReader(b.data).ReadAt(p, off)
}

func TestTooLarge(t *testing.T) {
	geo := ext.Geometry{BlockSize: 4096, ClusterSize: 4096, BlocksPerGroup: 32768, InodesPerGroup: 8192, TableBlocks: 512, DescBlocks: 32}
	for groups, want := range map[uint32]error{1: nil, 2043: nil, 2044: ErrTooLarge, 2048: ErrTooLarge, 1<<32 - 1: ErrTooLarge, 0: ErrNoTables} {
		geo.GroupCount = groups
		l, err := newLayout(&geo)
		if !errors.Is(err, want) {
			t.Errorf("%d groups: %v, want %v", groups, err, want)
		}
		if err == nil && l.inodeBitmaps >= 1<<32 {
			t.Errorf("%d groups: the inode bitmaps begin at %d", groups, l.inodeBitmaps)
		}
	}
}

// TestManyGroups reads an image whose superblock has a group for each 8 blocks.
func TestManyGroups(t *testing.T) {
	disk, sb := read(t, small)
	for groups, want := range map[uint32]error{maxGroups: io.ErrUnexpectedEOF, maxGroups + 1: ErrGroups} {
		file := write(t, disk, sb, Header{})
		super := file[sb.BlockSize():][:ext.SuperblockSize]
		le := binary.LittleEndian
		le.PutUint32(super[0x00:], 8*groups)   // s_inodes_count
		le.PutUint32(super[0x04:], 8*groups+1) // s_blocks_count_lo
		le.PutUint32(super[0x14:], 1)          // s_first_data_block
		le.PutUint32(super[0x20:], 8)          // s_blocks_per_group
		le.PutUint32(super[0x24:], 8)          // s_clusters_per_group
		le.PutUint32(super[0x28:], 8)          // s_inodes_per_group
		le.PutUint16(super[0xCE:], 0)          // s_reserved_gdt_blocks
		if _, err := Open(bytes.NewReader(file), int64(len(file))); !errors.Is(err, want) {
			t.Errorf("%d groups: %v, want %v", groups, err, want)
		}
	}
}

// TestCut reads images that end too soon.
func TestCut(t *testing.T) {
	disk, sb := read(t, small)
	file := write(t, disk, sb, Header{})
	for n := 0; n < len(file); n += 100 {
		_, err := Open(bytes.NewReader(file[:n]), int64(n))
		if n < HeadSize && !errors.Is(err, ErrNotE2i) || n >= HeadSize && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// TestOverlay lays random pieces over one another: each byte has to come from
// the first that has it.
func TestOverlay(t *testing.T) {
	const size = 200
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var owner [size]int64
		list := func(file int64, block int64) []piece {
			var out []piece
			for range rnd.IntN(6) {
				p := piece{disk: rnd.Int64N(size - 40), n: 1 + rnd.Int64N(40), file: file}
				if block > 0 {
					p.disk, p.n, p.bits = p.disk/block*block, block, 8
				}
				file += 1000
				out = append(out, p)
			}
			return out
		}
		top, low := list(1000, 0), list(1000000, 0)
		result := overlay(settle(append([]piece(nil), top...)), settle(append([]piece(nil), low...)))
		end := int64(0)
		for _, p := range result {
			if p.n <= 0 || p.disk < end {
				t.Fatalf("pieces %v", result)
			}
			end = p.end()
			for i := range p.n {
				owner[p.disk+i] = p.file + i
			}
		}
		has := func(list []piece, off int64) bool {
			for _, p := range list {
				if off >= p.disk && off < p.end() {
					return true
				}
			}
			return false
		}
		for off := range int64(size) {
			inTop, inLow := has(top, off), has(low, off)
			switch got := owner[off]; {
			case inTop != (got >= 1000 && got < 1000000), inLow && !inTop && got < 1000000, !inLow && !inTop && got != 0:
				t.Fatalf("byte %d of %v over %v comes from %d", off, top, low, got)
			}
		}
	}
}

// FuzzOpen reads whatever claims to be a normal image.
func FuzzOpen(f *testing.F) {
	disk, sb := read(f, small)
	file := write(f, disk, sb, Header{Hostname: "host", DeviceName: "device"})
	f.Add(file)
	f.Add(file[:5000])
	meta, sb := read(f, testfs.Spec{Mke2fs: "-t ext4 -b 2048 -g 256 -N 64 -O meta_bg,^has_journal,^resize_inode -m 0", Size: 2 << 20})
	f.Add(write(f, meta, sb, Header{}))
	clusters, sb := read(f, testfs.Spec{Mke2fs: "-t ext4 -b 1024 -C 4096 -g 2048 -N 64 -O bigalloc,^has_journal,^resize_inode -m 0", Size: 4 << 20})
	f.Add(write(f, clusters, sb, Header{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) && !errors.Is(err, ErrNotE2i) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrGroups) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			return
		}
		buf := make([]byte, 64<<10)
		for off := int64(0); ; {
			start, end, err := m.NextRun(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || start < off || end <= start || end > m.Size() {
				t.Fatalf("run [%d, %d) after %d of %d: %v", start, end, off, m.Size(), err)
			}
			if _, err := m.ReadAt(buf[:min(end-start, int64(len(buf)))], start); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			off = end
		}
		n, err := New(m, m.Size(), m.Superblock(), 0, m.Origin())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyBuffer(io.Discard, io.NewSectionReader(n, 0, n.Size()), buf); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	})
}
