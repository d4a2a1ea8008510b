package ext

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func xattrs(r XattrReader) ([]string, error) {
	var got []string
	for r.Next() {
		e := r.Entry()
		v, ok := r.Value()
		if !ok {
			v = fmt.Appendf(nil, "(%d bytes in inode %d)", e.ValueSize, e.ValueInode)
		}
		got = append(got, fmt.Sprintf("%d.%s=%s", e.NameIndex, e.Name, v))
	}
	return got, r.Err()
}

// xattrImage has a file f with attributes in its inode, in a block and, where
// the filesystem allows it, in an inode.
func xattrImage(t testing.TB, args ...string) *diskImage {
	t.Helper()
	img := newDiskImage(t, 4<<20, 4096, args...)
	dir := t.TempDir()
	for name, n := range map[string]int{"large": 1500, "huge": 9000, "empty": 0} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name[:1], n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	img.debugfs(
		"write "+filepath.Join(dir, "empty")+" f",
		"ea_set f user.small tiny",
		"ea_set f user.\xe9t\xe9 \xff\xfe",
		"ea_set -f "+filepath.Join(dir, "large")+" f user.large",
		"ea_set f trusted.t abcdefg",
		"ea_set f security.none \"\"",
	)
	if strings.Contains(strings.Join(args, " "), "ea_inode") {
		img.debugfs("ea_set -f " + filepath.Join(dir, "huge") + " f user.huge")
	}
	return img
}

func TestXattrReaderAgainstDebugfs(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-t", "ext2", "-I", "128"},
		{"-t", "ext4", "-I", "256"},
		{"-t", "ext4", "-I", "1024", "-O", "ea_inode"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			img := xattrImage(t, args...)
			inodeSize := map[string]int{"128": 128, "256": 256, "1024": 1024}[args[3]]
			inode := img.read(img.inodeAt("f"), inodeSize)
			got, err := xattrs(NewInodeXattrReader(inode))
			if err != nil {
				t.Fatal(err)
			}
			if inodeSize > 128 && len(got) == 0 {
				t.Error("nothing in the inode")
			}
			acl := uint64(binary.LittleEndian.Uint32(inode[0x68:]))
			if acl == 0 {
				t.Fatal("no attribute block")
			}
			block := img.block(acl)
			h, ok := DecodeXattrHeader(block)
			if !ok || !h.Valid() || h.Refcount != 1 {
				t.Errorf("header %+v", h)
			}
			inBlock, err := xattrs(NewXattrBlockReader(block))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, inBlock...)
			have := map[string]bool{}
			for _, g := range got {
				have[g] = true
			}
			for _, want := range []string{
				"1.small=tiny", "1.\xe9t\xe9=\xff\xfe", "1.large=" + strings.Repeat("l", 1500), "4.t=abcdefg", "6.none=",
			} {
				if !have[want] {
					t.Errorf("lacking %.40q in %.60q", want, got)
				}
			}
			r := NewXattrBlockReader(block)
			for r.Next() {
				e := r.Entry()
				v, _ := r.Value()
				signed, unsigned := XattrHash(e.Name, v, true), XattrHash(e.Name, v, false)
				if e.ValueInode != 0 {
					ea := img.read(img.inodeAt(fmt.Sprintf("<%d>", e.ValueInode)), inodeSize)
					vh := binary.LittleEndian.Uint32(XattrValueHashField(ea))
					value := img.query(fmt.Sprintf("cat <%d>", e.ValueInode))
					seed := seedOfUUID(img.read(1024+0x68, 16))
					if got := XattrValueHash(seed, []byte(value)); got != vh || len(value) != 9000 {
						t.Errorf("hash of a value of %d bytes is %#x, inode has %#x", len(value), got, vh)
					}
					signed, unsigned = XattrHashInode(signed, vh), XattrHashInode(unsigned, vh)
				}
				if e.Hash != signed && e.Hash != unsigned {
					t.Errorf("%s: hash %#x or %#x, on disk %#x", e.Name, signed, unsigned, e.Hash)
				}
			}
		})
	}
}

func TestXattrBlockHashAgainstKernel(t *testing.T) {
	t.Parallel()
	img := newDiskImage(t, 4<<20, 4096, "-t", "ext4", "-I", "128")
	img.mounted(func(dir string) {
		f := filepath.Join(dir, "f")
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"user.a", "user.\xe9t\xe9", "trusted.third"} {
			if err := unix.Setxattr(f, name, []byte("value of "+name), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	block := img.block(uint64(binary.LittleEndian.Uint32(img.read(img.inodeAt("f")+0x68, 4))))
	h, _ := DecodeXattrHeader(block)
	if got := XattrBlockHash(block); got != h.Hash || h.Hash == 0 {
		t.Errorf("block hash %#x, on disk %#x", got, h.Hash)
	}
	r := NewXattrBlockReader(block)
	n := 0
	for ; r.Next(); n++ {
		e := r.Entry()
		v, ok := r.Value()
		if signed, unsigned := XattrHash(e.Name, v, true), XattrHash(e.Name, v, false); !ok || e.Hash != signed && e.Hash != unsigned {
			t.Errorf("%q: hash %#x or %#x, on disk %#x", e.Name, signed, unsigned, e.Hash)
		}
	}
	if n != 3 {
		t.Errorf("%d entries", n)
	}
}

func TestXattrReaderStops(t *testing.T) {
	block := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint32(block, xattrMagic)
	le.PutUint32(block[8:], 1)
	put := func(at int, name string, off uint16, inum, size uint32) int {
		block[at], block[at+1] = uint8(len(name)), XattrUser
		le.PutUint16(block[at+2:], off)
		le.PutUint32(block[at+4:], inum)
		le.PutUint32(block[at+8:], size)
		copy(block[at+16:], name)
		return at + (16+len(name)+3)&^3
	}
	at := put(32, "in", 1000, 0, 24)
	at = put(at, "out", 1001, 0, 24)
	at = put(at, "far", 0xFFFF, 0, 0xFFFFFFFF)
	at = put(at, "else", 0, 77, 5)
	copy(block[1000:], "value")
	got, err := xattrs(NewXattrBlockReader(block))
	want := []string{
		"1.in=value" + strings.Repeat("\x00", 19), "1.out=(24 bytes in inode 0)",
		"1.far=(4294967295 bytes in inode 0)", "1.else=(5 bytes in inode 77)",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for at+16+4 <= 1020 {
		at = put(at, "fill", 0, 0, 0)
	}
	binary.LittleEndian.PutUint32(block[at:], 1)
	if _, err := xattrs(NewXattrBlockReader(block)); err == nil {
		t.Error("an entry that runs over the end passes")
	}
	if _, err := xattrs(NewXattrBlockReader(block[:31])); err == nil {
		t.Error("a short block passes")
	}

	inode := make([]byte, 256)
	le.PutUint16(inode[0x80:], 32)
	if got, err := xattrs(NewInodeXattrReader(inode)); len(got) != 0 || err != nil {
		t.Error("an inode without magic:", got, err)
	}
	for _, extra := range []uint16{2, 33, 132, 65535} {
		le.PutUint16(inode[0x80:], extra)
		if _, err := xattrs(NewInodeXattrReader(inode)); err == nil {
			t.Errorf("i_extra_isize %d passes", extra)
		}
	}
}

func FuzzXattrReader(f *testing.F) {
	block := make([]byte, 96)
	binary.LittleEndian.PutUint32(block, xattrMagic)
	block[32], block[33], block[34] = 3, 1, 80
	block[40] = 16
	f.Add(block)
	inode := make([]byte, 160)
	inode[0x80] = 4
	binary.LittleEndian.PutUint32(inode[132:], xattrMagic)
	inode[136], inode[137], inode[144] = 2, 7, 8
	f.Add(inode)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []XattrReader{NewXattrBlockReader(b), NewInodeXattrReader(b)} {
			last := 0
			for r.Next() {
				e := r.Entry()
				if e.Offset < last {
					t.Fatal("no progress")
				}
				last = e.Offset + 16 + len(e.Name)
				if v, ok := r.Value(); ok && (len(v) != int(e.ValueSize) || e.ValueInode != 0) {
					t.Fatalf("value of %d bytes for %+v", len(v), e)
				}
			}
		}
		XattrBlockHash(b)
		DecodeXattrHeader(b)
	})
}
