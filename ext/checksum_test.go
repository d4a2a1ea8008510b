package ext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// checksumImage has directories with and without an index, a file with an
// extent tree, and an attribute block. It ends with e2fsck's consent.
func checksumImage(t testing.TB, args ...string) *diskImage {
	t.Helper()
	dir := fillTree(t, 300)
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(200) {
		if _, err := f.WriteAt([]byte("x"), i*2048); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "small"), 0o755); err != nil {
		t.Fatal(err)
	}
	img := newDiskImage(t, 32<<20, 1024, append([]string{"-d", dir, "-t", "ext4", "-N", "2048"}, args...)...)
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, bytes.Repeat([]byte("v"), 900), 0o600); err != nil {
		t.Fatal(err)
	}
	img.debugfs("ea_set -f " + value + " holes user.a")
	out, err := exec.Command("e2fsck", "-fyD", img.path).CombinedOutput()
	if ee := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &ee) || ee.ExitCode() != 1) {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	return img
}

// header returns a field of dumpe2fs -h.
func (img *diskImage) header(field string) string {
	img.t.Helper()
	for line := range strings.Lines(testfs.Run(img.t, "dumpe2fs", "-h", img.path)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (img *diskImage) headerNumber(field string, def uint64) uint64 {
	img.t.Helper()
	v := img.header(field)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		img.t.Fatal(err)
	}
	return n
}

// judge checks that a verifier accepts b, and refuses it with any of some
// bytes changed.
func judge(t *testing.T, what string, b []byte, at []int, verify func([]byte) bool) {
	t.Helper()
	if !verify(b) {
		t.Errorf("%s: refused", what)
		return
	}
	for _, off := range at {
		c := bytes.Clone(b)
		c[off] ^= 0x10
		if verify(c) {
			t.Errorf("%s: accepted with byte %d changed", what, off)
		}
	}
}

func TestChecksumsAgainstMke2fs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
	}{
		{"64bit", []string{"-O", "metadata_csum,64bit,orphan_file", "-I", "256"}},
		{"desc_size 128", []string{"-O", "metadata_csum,64bit", "-E", "desc_size=128"}},
		{"32bit", []string{"-O", "metadata_csum,^64bit", "-I", "128"}},
		{"seed", []string{"-O", "metadata_csum,metadata_csum_seed", "-I", "1024"}},
		{"gdt_csum", []string{"-O", "^metadata_csum,uninit_bg,^64bit"}},
		{"gdt_csum 64bit", []string{"-O", "^metadata_csum,uninit_bg,64bit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := checksumImage(t, c.args...)
			le := binary.LittleEndian
			sb := img.read(1024, 1024)
			uuid := sb[0x68:0x78]
			seed := seedOfUUID(uuid)
			if c.name == "seed" {
				seed = le.Uint32(sb[0x270:])
			}
			descSize := 32
			if strings.Contains(c.name, "64bit") || c.name == "seed" {
				descSize = 64
			}
			if c.name == "desc_size 128" {
				descSize = 128
			}
			if n := int(le.Uint16(sb[0xFE:])); n != descSize && (n != 0 || descSize != 32) {
				t.Fatalf("descriptor size %d", n)
			}
			metadata := !strings.Contains(c.name, "gdt_csum")
			if metadata {
				judge(t, "superblock", sb, []int{0, 0x68, 0x3FB, 0x3FC}, VerifySuperblock)
			}
			groups := (le.Uint32(sb[4:]) - 1 + 8191) / 8192
			if groups < 4 {
				t.Fatalf("%d groups", groups)
			}
			perGroup := le.Uint32(sb[0x28:])
			for g := range groups {
				desc := img.read(2048+int64(g)*int64(descSize), descSize)
				if !metadata {
					judge(t, fmt.Sprint("descriptor ", g), desc, []int{0, 0x1E, descSize - 1}, func(b []byte) bool { return verifyGroupDesc16(uuid, g, b) })
					continue
				}
				judge(t, fmt.Sprint("descriptor ", g), desc, []int{0, 0x1E, descSize - 1}, func(b []byte) bool { return verifyGroupDesc(seed, g, b) })
				if flags := le.Uint16(desc[0x12:]); flags&3 == 0 {
					judge(t, fmt.Sprint("block bitmap ", g), img.block(uint64(le.Uint32(desc))), []int{0, 1023},
						func(b []byte) bool { return VerifyBlockBitmap(seed, b, desc) })
					judge(t, fmt.Sprint("inode bitmap ", g), img.block(uint64(le.Uint32(desc[4:])))[:perGroup/8], []int{0, int(perGroup/8) - 1},
						func(b []byte) bool { return VerifyInodeBitmap(seed, b, desc) })
				}
			}
			if !metadata {
				return
			}
			inodeSize := int(img.headerNumber("Inode size", 0))
			for _, ino := range []uint32{2, 7, 8, 11, 12, 100} {
				inode := img.read(img.inodeAt(fmt.Sprintf("<%d>", ino)), inodeSize)
				at := []int{0, 0x64, 0x7C, 127}
				if inodeSize > 128 {
					at = append(at, 0x82, inodeSize-1)
				}
				judge(t, fmt.Sprint("inode ", ino), inode, at, func(b []byte) bool { return VerifyInode(seed, ino, b) })
			}
			if !VerifyInode(seed, 77, make([]byte, inodeSize)) || VerifyInode(seed, 77, make([]byte, 127)) {
				t.Error("an inode of zeros is refused, or a short one accepted")
			}
			img.judgeTrees(t, seed)
			if strings.Contains(c.args[1], "orphan_file") {
				ino := le.Uint32(sb[0x280:])
				file := fmt.Sprintf("<%d>", ino)
				generation := le.Uint32(img.read(img.inodeAt(file)+0x64, 4))
				for _, n := range img.blocks(file) {
					judge(t, "orphan block", img.block(n), []int{0, 1015, 1023}, func(b []byte) bool {
						return VerifyOrphanBlock(InodeSeed(seed, ino, generation), n, b)
					})
				}
			}
		})
	}
}

// judgeTrees checks the blocks that belong to inodes.
func (img *diskImage) judgeTrees(t *testing.T, seed uint32) {
	t.Helper()
	le := binary.LittleEndian
	inodeSeed := func(file string) (uint32, []byte) {
		inode := img.read(img.inodeAt(file), 128)
		// "Inode 12 is part of block group 0"
		n, err := strconv.ParseUint(strings.Fields(img.query("imap " + file))[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return InodeSeed(seed, uint32(n), le.Uint32(inode[0x64:])), inode
	}
	dirSeed, _ := inodeSeed("/d")
	blocks := img.blocks("/d")
	if flags := le.Uint32(img.read(img.inodeAt("/d")+0x20, 4)); flags&0x1000 == 0 || len(blocks) < 5 {
		t.Fatalf("/d has flags %#x, %d blocks", flags, len(blocks))
	}
	for i, n := range blocks {
		judge(t, fmt.Sprint("directory block ", i), img.block(n), []int{0, 32}, func(b []byte) bool { return VerifyDirBlock(dirSeed, b) })
	}
	smallSeed, _ := inodeSeed("/small")
	judge(t, "small directory", img.block(img.blocks("/small")[0]), []int{0, 500, 1020, 1023}, func(b []byte) bool { return VerifyDirBlock(smallSeed, b) })

	holesSeed, inode := inodeSeed("/holes")
	leaf := uint64(le.Uint32(inode[0x28+12+4:]))
	if depth := le.Uint16(inode[0x28+6:]); depth != 1 {
		t.Fatalf("an extent tree of depth %d", depth)
	}
	judge(t, "extent block", img.block(leaf), []int{0, 4, 12, 1020, 1023}, func(b []byte) bool { return VerifyExtentBlock(holesSeed, b) })
	if sum, ok := ExtentBlockChecksum(holesSeed, img.block(leaf)); !ok || sum != le.Uint32(img.block(leaf)[1020:]) {
		t.Errorf("extent block checksum %#x, %v", sum, ok)
	}
	acl := uint64(le.Uint32(inode[0x68:]))
	judge(t, "attribute block", img.block(acl), []int{0, 0x10, 1023}, func(b []byte) bool { return VerifyXattrBlock(seed, acl, b) })
	if VerifyXattrBlock(seed, acl+1, img.block(acl)) {
		t.Error("attribute block: accepted elsewhere")
	}
}

// TestMMPChecksum leaves the image as mke2fs made it: every tool that opens it
// waits for ten seconds.
func TestMMPChecksum(t *testing.T) {
	t.Parallel()
	img := newDiskImage(t, 4<<20, 1024, "-t", "ext4", "-O", "metadata_csum,mmp")
	sb := img.read(1024, 1024)
	seed := seedOfUUID(sb[0x68:0x78])
	block := img.block(binary.LittleEndian.Uint64(sb[0x168:]))
	judge(t, "MMP block", block, []int{0, 0x3FB, 0x3FC}, func(b []byte) bool { return VerifyMMP(seed, b) })
}

// TestDxNodeChecksum needs a hash tree of two levels, which only the kernel makes.
func TestDxNodeChecksum(t *testing.T) {
	t.Parallel()
	img := newDiskImage(t, 16<<20, 1024, "-t", "ext4", "-O", "metadata_csum", "-N", "8192")
	img.mounted(func(dir string) {
		for i := range 6000 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d%s", i, strings.Repeat("y", 130))), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	le := binary.LittleEndian
	root := img.read(img.inodeAt("/"), 128)
	seed := InodeSeed(seedOfUUID(img.read(1024+0x68, 16)), 2, le.Uint32(root[0x64:]))
	nodes := 0
	for i, n := range img.blocks("/") {
		b := img.block(n)
		if bytes.Equal(b[:8], []byte{0, 0, 0, 0, 0, 4, 0, 0}) {
			nodes++
		} else if i > 300 {
			continue
		}
		judge(t, fmt.Sprint("directory block ", i), b, []int{0, 9}, func(b []byte) bool { return VerifyDirBlock(seed, b) })
	}
	if nodes == 0 {
		t.Error("no node in the tree")
	}
}

func TestCRC(t *testing.T) {
	check := []byte("123456789")
	if got := crc16(0, check); got != 0xBB3D {
		t.Errorf("crc16 = %#x", got)
	}
	if got := crc32be(^uint32(0), check); got != 0x0376E6E7 {
		t.Errorf("crc32be = %#x", got)
	}
	if got := ^CRC32C(^uint32(0), check); got != 0xE3069283 {
		t.Errorf("crc32c = %#x", got)
	}
}

func FuzzChecksums(f *testing.F) {
	block := make([]byte, 1024)
	rest := putDirent(block, 11, 12, 2, ".")
	putDirent(rest, 2, 1000, 2, "..")
	putDirent(block[1012:], 0, 12, 0xDE, "")
	f.Add(block)
	node := make([]byte, 1024)
	node[5], node[8], node[10] = 4, 126, 2
	f.Add(node)
	f.Fuzz(func(t *testing.T, b []byte) {
		VerifySuperblock(b)
		verifyGroupDesc(1, 2, b)
		verifyGroupDesc16(b, 2, b)
		VerifyBlockBitmap(1, b, b)
		VerifyInodeBitmap(1, b, b)
		VerifyInode(1, 2, b)
		VerifyExtentBlock(1, b)
		VerifyXattrBlock(1, 2, b)
		VerifyMMP(1, b)
		VerifyOrphanBlock(1, 2, b)
		sum, off, ok := DirBlockChecksum(1, b)
		if !ok {
			return
		}
		binary.LittleEndian.PutUint32(b[off:], sum)
		if again, at, ok := DirBlockChecksum(1, b); ok && at == off && again != sum {
			return // an index with more entries than fit: they include the checksum
		}
		if len(b) > 40 && !VerifyDirBlock(1, b) {
			t.Fatalf("checksum %#x at %d is not believed", sum, off)
		}
	})
}

func BenchmarkVerifyInode(b *testing.B) {
	for _, size := range []int{128, 256} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			inode := bytes.Repeat([]byte{1}, size)
			binary.LittleEndian.PutUint16(inode[0x80&(size-1):], 32)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				VerifyInode(1, 2, inode)
			}
		})
	}
}

func BenchmarkVerifyGroupDesc(b *testing.B) {
	desc, uuid := make([]byte, 64), make([]byte, 16)
	b.Run("crc32c", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			verifyGroupDesc(1, 2, desc)
		}
	})
	b.Run("crc16", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			verifyGroupDesc16(uuid, 2, desc)
		}
	})
}

func BenchmarkVerifyDirBlock(b *testing.B) {
	block := make([]byte, 4096)
	rest := block
	for len(rest) > 64 {
		rest = putDirent(rest, 12, 32, 1, "a name of twenty-one.")
	}
	rest = putDirent(rest, 12, len(rest)-12, 1, "last")
	putDirent(rest, 0, 12, direntTailType, "")
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		VerifyDirBlock(1, block)
	}
}
