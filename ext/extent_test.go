package ext

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	ext4 "github.com/dsoprea/go-ext4"
)

// extentImage holds a file of several hundred extents: a tree of two levels.
func extentImage(t testing.TB) *diskImage {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(400) {
		if _, err := f.WriteAt([]byte("block "+strconv.FormatInt(i, 10)), i*2048); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return newDiskImage(t, 64<<20, 1024, "-t", "ext4", "-d", dir)
}

// walkExtents calls visit for each node, and yields the extents of a tree.
func (img *diskImage) walkExtents(root []byte) (nodes int, extents []Extent) {
	for todo := []ExtentNode{root}; len(todo) > 0; nodes++ {
		node := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !node.Valid() || !node.Sound() {
			img.t.Errorf("a node is refused: %x", []byte(node[:12]))
			return nodes, extents
		}
		claimed, count := node.Count()
		if claimed != count {
			img.t.Errorf("%d entries of which %d fit", claimed, count)
		}
		for i := range count {
			if node.Depth() == 0 {
				extents = append(extents, node.Extent(i))
				continue
			}
			child, _ := node.Index(i)
			todo = append(todo, img.block(child))
		}
	}
	return nodes, extents
}

// " 1/ 1   3/ 84     4 -     4  8200 -  8200      1 Uninit"
var reExtent = regexp.MustCompile(`(?m)^\s*(\d+)/\s*(\d+)\s+\d+/\s*\d+\s+(\d+) -\s*(\d+)\s+(\d+) -\s*(\d+)\s+(\d+)(?: (Uninit))?`)

func TestExtentsAgainstDebugfs(t *testing.T) {
	img := extentImage(t)
	img.debugfs("fallocate holes 1000 1300")
	_, extents := img.walkExtents(Inode(img.read(img.inodeAt("holes"), 256)).IBlock())
	want := make(map[Extent]bool)
	for _, m := range reExtent.FindAllStringSubmatch(img.query("dump_extents -l holes"), -1) {
		var n [8]uint64
		for i := 1; i < 8; i++ {
			v, err := strconv.ParseUint(m[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = v
		}
		want[Extent{Logical: uint32(n[3]), Start: n[5], Len: uint32(n[7]), Unwritten: m[8] != ""}] = true
	}
	uninit := 0
	for _, x := range extents {
		if !want[x] {
			t.Errorf("extent %+v, which debugfs does not know", x)
		}
		if x.Unwritten {
			uninit++
		}
	}
	if len(extents) != len(want) || uninit == 0 {
		t.Errorf("%d extents, %d of them uninitialised; debugfs lists %d", len(extents), uninit, len(want))
	}
}

// go-ext4 finds the same bytes at the same places of the file.
func TestExtentsAgainstGoExt4(t *testing.T) {
	img := extentImage(t)
	f, _, list := img.oracle()
	fields := strings.Fields(img.query("imap holes"))
	ino, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	group, err := list.GetWithAbsoluteInode(ino)
	if err != nil {
		t.Fatal(err)
	}
	inode, err := ext4.NewInodeWithReadSeeker(group, f, ino)
	if err != nil {
		t.Fatal(err)
	}
	oracle := ext4.NewExtentNavigatorWithReadSeeker(f, inode)
	nodes, extents := img.walkExtents(Inode(img.read(img.inodeAt("holes"), 256)).IBlock())
	if nodes < 4 || len(extents) != 400 {
		t.Fatalf("%d nodes, %d extents", nodes, len(extents))
	}
	for _, x := range extents {
		want, err := oracle.Read(uint64(x.Logical) * 1024)
		if err != nil {
			t.Fatal(err)
		}
		if got := img.block(x.Start); !bytes.Equal(got[:len(want)], want) || !bytes.HasPrefix(got, []byte("block "+strconv.Itoa(int(x.Logical/2)))) {
			t.Errorf("extent %+v does not hold what go-ext4 reads", x)
		}
	}
}

// node makes an extent node of a size with a header.
func node(size int, entries, limit, depth uint16) ExtentNode {
	b := make([]byte, size)
	binary.LittleEndian.PutUint16(b, extentMagic)
	binary.LittleEndian.PutUint16(b[2:], entries)
	binary.LittleEndian.PutUint16(b[4:], limit)
	binary.LittleEndian.PutUint16(b[6:], depth)
	return b
}

func TestExtentNodeHeader(t *testing.T) {
	for _, c := range []struct {
		node         ExtentNode
		valid, sound bool
		count        int
	}{
		{node(IBlockSize, 0, 4, 0), true, true, 0},
		{node(IBlockSize, 4, 4, 5), true, true, 4},
		{node(IBlockSize, 4, 4, 6), true, false, 4},
		{node(IBlockSize, 5, 4, 0), true, false, 4},
		{node(IBlockSize, 4, 5, 0), true, false, 4},
		{node(IBlockSize, 3, 2, 0), true, false, 3},
		{node(IBlockSize, 1, 1, 0), true, false, 1},
		{node(1024, 84, 84, 1), true, true, 84},
		{node(1024, 84, 82, 1), true, false, 84},
		{node(1024, 80, 82, 1), true, true, 80},
		{node(1024, 0xFFFF, 0xFFFF, 0xFFFF), true, false, 84},
		{node(65536, 0xFFFF, 5460, 1), true, false, 5460},
		{make(ExtentNode, IBlockSize), false, false, 0},
		{make(ExtentNode, 11), false, false, 0},
		{nil, false, false, 0},
	} {
		if c.node.Valid() != c.valid || c.node.Sound() != c.sound {
			t.Errorf("%x: valid %v, sound %v", c.node[:min(12, len(c.node))], c.node.Valid(), c.node.Sound())
		}
		if c.valid {
			if _, count := c.node.Count(); count != c.count {
				t.Errorf("%x: %d entries fit, want %d", c.node[:12], count, c.count)
			}
		}
	}
}

func TestExtentEntries(t *testing.T) {
	n := node(IBlockSize, 4, 4, 0)
	copy(n[12:], []byte{1, 0, 0, 0x80, 0x00, 0x80, 0x34, 0x12, 0x78, 0x56, 0x00, 0x90})
	copy(n[24:], []byte{2, 0, 0, 0, 0x01, 0x80, 0, 0, 9, 0, 0, 0})
	copy(n[36:], []byte{3, 0, 0, 0, 0xFF, 0xFF, 0, 0, 9, 0, 0, 0})
	for i, want := range []Extent{
		{Logical: 0x80000001, Start: 0x123490005678, Len: 32768},
		{Logical: 2, Start: 9, Len: 1, Unwritten: true},
		{Logical: 3, Start: 9, Len: 32767, Unwritten: true},
		{},
	} {
		if got := n.Extent(i); got != want {
			t.Errorf("entry %d is %+v, want %+v", i, got, want)
		}
	}
	copy(n[12:], []byte{7, 0, 0, 0x80, 0x78, 0x56, 0x00, 0x90, 0x34, 0x12, 0xFF, 0xFF})
	if child, logical := n.Index(0); child != 0x123490005678 || logical != 0x80000007 {
		t.Errorf("index %#x at %#x", child, logical)
	}
}

func FuzzExtentNode(f *testing.F) {
	img := extentImage(f)
	root := Inode(img.read(img.inodeAt("holes"), 256)).IBlock()
	f.Add(root)
	child, _ := ExtentNode(root).Index(0)
	f.Add(img.block(child))
	f.Add([]byte(node(IBlockSize, 0xFFFF, 0xFFFF, 0xFFFF)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := ExtentNode(b)
		if !n.Valid() {
			if n.Sound() {
				t.Fatal("sound but not valid")
			}
			return
		}
		claimed, count := n.Count()
		if count > n.capacity() || count > claimed || n.Sound() && count != claimed {
			t.Fatalf("%d of %d entries, capacity %d", count, claimed, n.capacity())
		}
		for i := range count {
			if x := n.Extent(i); x.Len > maxInitExtent || x.Start>>48 != 0 || x.Unwritten && x.Len == maxInitExtent {
				t.Fatalf("extent %+v", x)
			}
			if child, _ := n.Index(i); child>>48 != 0 {
				t.Fatalf("child %#x", child)
			}
		}
	})
}

func BenchmarkExtentNode(b *testing.B) {
	n := node(4096, 340, 340, 0)
	b.SetBytes(int64(len(n)))
	b.ReportAllocs()
	var sum uint64
	for b.Loop() {
		_, count := n.Count()
		for i := range count {
			sum += n.Extent(i).Start
		}
	}
	if sum != 0 {
		b.Fatal("empty extents have a start")
	}
}
