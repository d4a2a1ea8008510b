package ext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	ext4 "github.com/dsoprea/go-ext4"
)

// inodeImage holds a file of each kind that is told by its inode.
func inodeImage(t testing.TB, size int64, args ...string) (img *diskImage, files []string) {
	t.Helper()
	dir := t.TempDir()
	for _, n := range []int{59, 60, 61, 200} {
		name := fmt.Sprint("link", n)
		if err := os.Symlink(strings.Repeat("s", n), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("data "), 3000), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	sparse := filepath.Join(dir, "sparse")
	if err := os.WriteFile(sparse, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 5<<30); err != nil {
		t.Fatal(err)
	}
	img = newDiskImage(t, size, 1024, append([]string{"-d", dir}, args...)...)
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, bytes.Repeat([]byte("v"), 400), 0o600); err != nil {
		t.Fatal(err)
	}
	img.debugfs("mknod fifo p", "mknod char c 4 300", "mknod block b 8 1",
		"ea_set -f "+value+" file user.v", "ea_set -f "+value+" link59 user.v", "ea_set -f "+value+" link61 user.v")
	return img, append(files, "file", "empty", "folder", "sparse", "fifo", "char", "block", "<2>", "<7>", "<8>", "<11>")
}

var (
	reInodeMode  = regexp.MustCompile(`Type: (\S+(?: \w+)?)\s+Mode:\s+(\d+)\s+Flags: (0x\w+)`)
	reInodeSize  = regexp.MustCompile(`Size: (\d+)`)
	reInodeACL   = regexp.MustCompile(`File ACL: (\d+)`)
	reInodeLinks = regexp.MustCompile(`Links: (\d+)\s+Blockcount: (\d+)`)
	reInodeExtra = regexp.MustCompile(`Size of extra inode fields: (\d+)`)
	reInodeGen   = regexp.MustCompile(`Generation: (\d+)`)
	reInodeFast  = regexp.MustCompile(`Fast link dest`)
)

var inodeTypes = map[string]uint16{
	"FIFO": ModeFIFO, "character special": ModeChar, "directory": ModeDir, "block special": ModeBlock, "regular": ModeRegular, "symlink": ModeSymlink,
}

func TestInodeAgainstDebugfs(t *testing.T) {
	for _, args := range []string{"-t ext2 -I 128", "-t ext3 -I 256", "-t ext4 -O ^64bit", "-t ext4 -I 512", "-t ext4 -O inline_data"} {
		img, files := inodeImage(t, 64<<20, strings.Fields(args)...)
		sb := img.super()
		geo, err := sb.Geometry()
		if err != nil {
			t.Fatal(err)
		}
		wide := sb.HasIncompat(Incompat64bit)
		for _, file := range files {
			if file == "<8>" && !sb.HasCompat(CompatHasJournal) {
				continue
			}
			in := Inode(img.read(img.inodeAt(file), int(geo.InodeSize)))
			stat := img.query("stat " + file)
			number := func(re *regexp.Regexp, n, base int) uint64 {
				m := re.FindStringSubmatch(stat)
				if m == nil {
					return 0
				}
				v, err := strconv.ParseUint(m[n], base, 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			m := reInodeMode.FindStringSubmatch(stat)
			if m == nil {
				t.Fatalf("no mode in %s", stat)
			}
			for _, f := range []struct {
				field     string
				got, want uint64
			}{
				{"type", uint64(in.Type()), uint64(inodeTypes[m[1]])},
				{"permissions", uint64(in.Mode() &^ ModeType), number(reInodeMode, 2, 8)},
				{"flags", uint64(in.Flags()), number(reInodeMode, 3, 0)},
				{"size", in.Size(), number(reInodeSize, 1, 10)},
				{"links", uint64(in.LinksCount()), number(reInodeLinks, 1, 10)},
				{"blocks", uint64(in.BlocksLo()), number(reInodeLinks, 2, 10)},
				{"xattr block", in.FileACL(wide), number(reInodeACL, 1, 10)},
				{"extra size", uint64(in.ExtraSize()), number(reInodeExtra, 1, 10)},
				{"generation", uint64(in.Generation()), number(reInodeGen, 1, 10)},
			} {
				if f.got != f.want && (f.field != "size" || in.Type() == ModeDir || in.Type() == ModeRegular || in.Type() == ModeSymlink) {
					t.Errorf("mke2fs %s: %s: %s %d, debugfs says %d", args, file, f.field, f.got, f.want)
				}
			}
			fast := reInodeFast.MatchString(stat)
			if in.Type() == ModeSymlink && in.Flags()&FlagInlineData == 0 && in.SymlinkTarget(wide, 4096)&map[bool]TargetPlace{true: TargetInInode, false: TargetInBlock}[fast] == 0 {
				t.Errorf("mke2fs %s: %s: debugfs says %v of a fast symlink", args, file, fast)
			}
			if !in.Used() {
				t.Errorf("mke2fs %s: %s is not used", args, file)
			}
		}
	}
}

func TestInodeAgainstGoExt4(t *testing.T) {
	img, files := inodeImage(t, 64<<20, "-t", "ext4")
	f, _, list := img.oracle()
	compared := 0
	for _, file := range append(files, "<12>") {
		at := img.inodeAt(file)
		in := Inode(img.read(at, 256))
		if in.Flags()&FlagExtents == 0 || in.Flags()&FlagIndex != 0 {
			continue // go-ext4 refuses it
		}
		fields := strings.Fields(img.query("imap " + file))
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
		d := inode.Data()
		if in.Mode() != d.IMode || in.LinksCount() != d.ILinksCount || in.Flags() != d.IFlags || in.Dtime() != d.IDtime || in.Size() != inode.Size() ||
			in.BlocksLo() != d.IBlocksLo || in.Generation() != d.IGeneration || !bytes.Equal(in.IBlock(), d.IBlock[:]) || uint32(in.FileACL(false)) != d.IFileAclLo {
			t.Errorf("%s: not what go-ext4 reads: %+v", file, d)
		}
		for n := range IBlockCount {
			if got := in.BlockNr(n); got != binary.LittleEndian.Uint32(d.IBlock[4*n:]) {
				t.Errorf("%s: i_block[%d] is %d", file, n, got)
			}
		}
		compared++
	}
	if compared < 6 {
		t.Errorf("only %d inodes compared", compared)
	}
}

func TestInodeFileACL(t *testing.T) {
	in := make(Inode, 128)
	binary.LittleEndian.PutUint32(in[0x68:], 0x11223344)
	binary.LittleEndian.PutUint16(in[0x76:], 0x5566)
	if got := in.FileACL(true); got != 0x556611223344 {
		t.Errorf("with 64bit %#x", got)
	}
	if got := in.FileACL(false); got != 0x11223344 {
		t.Errorf("without 64bit %#x", got)
	}
}

func TestInodeExtraSize(t *testing.T) {
	for _, c := range []struct {
		size  int
		extra uint16
		want  int
		xattr int // bytes of room for attributes
	}{
		{128, 32, 0, 0}, {256, 0, 0, 0}, {256, 32, 32, 96}, {256, 4, 4, 124}, {256, 2, 0, 0}, {256, 33, 0, 0}, {256, 124, 124, 4}, {256, 128, 128, 0},
		{256, 132, 0, 0}, {256, 0xFFFC, 0, 0}, {1024, 32, 32, 864},
	} {
		in := make(Inode, c.size)
		if c.size > 128 {
			binary.LittleEndian.PutUint16(in[128:], c.extra)
		}
		if got := in.ExtraSize(); got != c.want {
			t.Errorf("i_extra_isize %d of %d bytes: %d, want %d", c.extra, c.size, got, c.want)
		}
		if got := len(in.InBodyXattrs()); got != c.xattr {
			t.Errorf("i_extra_isize %d of %d bytes: %d bytes of attributes, want %d", c.extra, c.size, got, c.xattr)
		}
	}
}

func TestInodeUsed(t *testing.T) {
	if make(Inode, 128).Used() {
		t.Error("zeros are used")
	}
	for _, off := range []int{0x00, 0x14, 0x1A, 0x28} { // i_mode, i_dtime, i_links_count, i_block
		in := make(Inode, 128)
		in[off] = 1
		if !in.Used() {
			t.Errorf("a byte at %#x is not use", off)
		}
	}
}

func FuzzInode(f *testing.F) {
	img, files := inodeImage(f, 64<<20, "-t", "ext4")
	for _, file := range files {
		f.Add(img.read(img.inodeAt(file), 256))
	}
	f.Add(bytes.Repeat([]byte{0xFF}, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < goodOldInodeSize {
			return
		}
		size := goodOldInodeSize // the next power of two below, as Geometry allows
		for size*2 <= len(b) {
			size *= 2
		}
		in := Inode(b[:size])
		if n := in.ExtraSize(); n < 0 || n > len(in)-goodOldInodeSize {
			t.Fatalf("extra size %d of %d bytes", n, len(in))
		}
		if x := in.InBodyXattrs(); len(x) > len(in)-goodOldInodeSize {
			t.Fatalf("%d bytes of attributes", len(x))
		}
		if len(in.IBlock()) != IBlockSize {
			t.Fatalf("i_block of %d bytes", len(in.IBlock()))
		}
		if acl := in.FileACL(true); acl>>48 != 0 || uint64(uint32(acl)) != in.FileACL(false) {
			t.Fatalf("i_file_acl %#x and %#x", acl, in.FileACL(false))
		}
		if in.LinksCount() != 0 && !in.Used() {
			t.Fatal("linked but not used")
		}
		ExtentNode(in.IBlock()).Sound()
	})
}

// What a scan asks of each inode.
func BenchmarkInode(b *testing.B) {
	const size = 256
	table := make([]byte, 1<<20)
	for at := 0; at < len(table); at += size {
		copy(table[at:], []byte{0, 0x80})
		table[at+0x1A] = 1
	}
	b.SetBytes(int64(len(table)))
	b.ReportAllocs()
	used := 0
	for b.Loop() {
		for at := 0; at < len(table); at += size {
			in := Inode(table[at : at+size : at+size])
			if in.LinksCount() != 0 && in.Type() == ModeRegular && in.FileACL(true) == 0 && in.Flags()&FlagExtents == 0 {
				used++
			}
		}
	}
	if used == 0 {
		b.Fatal("no inode in use")
	}
}
