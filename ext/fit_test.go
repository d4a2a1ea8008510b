package ext

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// A structure that fills its block to the last byte is read, and one that is a
// byte shorter is not.
func TestStructuresThatJustFit(t *testing.T) {
	le := binary.LittleEndian

	mmp := make([]byte, MMPSize)
	le.PutUint32(mmp, 0x004D4D50)
	if !IsMMP(mmp) || IsMMP(mmp[:MMPSize-1]) {
		t.Errorf("MMP block of %d bytes: %t, of a byte less: %t", MMPSize, IsMMP(mmp), IsMMP(mmp[:MMPSize-1]))
	}

	tail := make([]byte, OrphanTailLen)
	le.PutUint32(tail, orphanBlockMagic)
	le.PutUint32(tail[4:], OrphanBlockChecksum(1, 2, tail))
	if !IsOrphanBlock(tail) || !VerifyOrphanBlock(1, 2, tail) || VerifyOrphanBlock(1, 2, tail[1:]) {
		t.Error("a block of an orphan file that is only a tail is not taken for one, or less than a tail is")
	}

	header := make([]byte, 32)
	for magic, want := range map[uint32]bool{0xEA010000: true, 0xEA020000: true, 0xEA010001: false, 0xEA030000: false} {
		le.PutUint32(header, magic)
		le.PutUint32(header[8:], 1)
		if h, ok := DecodeXattrHeader(header); !ok || h.Valid() != want {
			t.Errorf("attribute block of 32 bytes with magic %#x: decoded %t, valid %t, want %t", magic, ok, h.Valid(), want)
		}
	}
	if _, ok := DecodeXattrHeader(header[:31]); ok {
		t.Error("an attribute header of 31 bytes is decoded")
	}
}

// The attributes in an inode begin behind i_extra_isize, and are there if their
// magic number has room.
func TestInBodyXattrsBegin(t *testing.T) {
	for _, size := range []int{128, 160, 256, 512} {
		for extra := 0; extra <= size; extra++ {
			in := make(Inode, size)
			want := max(0, size-128-extra)
			if size > 128 {
				binary.LittleEndian.PutUint16(in[128:], uint16(extra))
			}
			if extra < 4 || extra%4 != 0 || want < 4 {
				want = 0
			}
			if got := len(in.InBodyXattrs()); got != want {
				t.Errorf("inode of %d bytes, i_extra_isize %d: %d bytes for attributes, want %d", size, extra, got, want)
			}
		}
	}
}

// The checksums of blocks that hold their own number are over all eight bytes of
// it, as the kernel's: le64.
func TestChecksumsOfBlockNumbers(t *testing.T) {
	block := make([]byte, 1024)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for _, n := range []uint64{0, 1, 1<<32 - 1, 1 << 32, 1<<47 + 12345, 1 << 63} {
		number := binary.LittleEndian.AppendUint64(nil, n)
		hole := slices.Clone(block)
		clear(hole[0x10:0x14]) // h_checksum
		if got, want := XattrBlockChecksum(9, n, block), CRC32C(CRC32C(9, number), hole); got != want {
			t.Errorf("attribute block %#x: %#x, want %#x", n, got, want)
		}
		if got, want := OrphanBlockChecksum(9, n, block), CRC32C(CRC32C(9, number), block[:len(block)-OrphanTailLen]); got != want {
			t.Errorf("block %#x of an orphan file: %#x, want %#x", n, got, want)
		}
	}
}

// The entries of the root of an index begin behind its information, of whatever
// length it says that it is.
func TestIndexRootLength(t *testing.T) {
	le := binary.LittleEndian
	for _, length := range []int{4, 8, 12, 40, 41} {
		block := make([]byte, 1024)
		copy(block[direntHeaderLen:], ".")
		copy(block[direntMinLen+direntHeaderLen:], "..")
		block[24+4], block[24+5] = byte(DirHashHalfMD4), byte(length) // hash_version, info_length
		start := 24 + length
		limit := (len(block) - start) / 8
		le.PutUint16(block[start:], uint16(limit))
		le.PutUint16(block[start+2:], 3)
		le.PutUint32(block[start+4:], 11)
		le.PutUint32(block[start+8:], 0xABCDEF00)
		le.PutUint32(block[start+12:], 12)
		x, ok := DecodeIndexRoot(block)
		if want := length >= 8 && length%4 == 0; ok != want {
			t.Errorf("information of %d bytes: an index is %t, want %t", length, ok, want)
		}
		if !ok {
			continue
		}
		if x.Limit() != limit || x.Count() != 3 || le.Uint32(x.Block(0)) != 11 || le.Uint32(x.Hash(1)) != 0xABCDEF00 || le.Uint32(x.Block(1)) != 12 {
			t.Errorf("information of %d bytes: limit %d, count %d, blocks %d and %d", length, x.Limit(), x.Count(), x.Block(0), x.Block(1))
		}
	}
}

// Fast commits take the end of the journal: as many blocks as the superblock
// says, or 256 if it says none. The first of them is not used.
func TestFastCommitArea(t *testing.T) {
	for _, c := range []struct{ blocks, ring, first uint32 }{{0, 768, 769}, {1, 1023, 1024}, {2, 1022, 1023}, {256, 768, 769}, {1023, 1, 2}, {1024, 0, 1}, {5000, 0, 1}} {
		j := &JournalSuperblock{MaxLen: 1024, First: 1, Incompat: JournalIncompatFastCommit, FastCommitBlocks: c.blocks}
		_, ring := j.ring()
		first, end := j.FastCommitArea()
		if ring != c.ring || first != c.first || end != 1024 {
			t.Errorf("%d blocks: the ring ends at %d, want %d; fast commits are in [%d, %d), want [%d, 1024)", c.blocks, ring, c.ring, first, end, c.first)
		}
		j.Incompat = 0
		if first, end := j.FastCommitArea(); first != end {
			t.Errorf("without the feature fast commits are in [%d, %d)", first, end)
		}
	}
}

// A short symlink with an attribute block is in its inode to e2fsprogs if its size
// fits one pointer, or if more than one pointer is set.
func TestShortSymlinkTarget(t *testing.T) {
	le := binary.LittleEndian
	for size := uint32(1); size < 8; size++ {
		for _, target := range []string{"abcd", "abcdefgh"} {
			in := make(Inode, 128)
			le.PutUint16(in[unsafe.Offsetof(ext4.InodeData{}.IMode):], ModeSymlink|0o777)
			le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.ISizeLo):], size)
			le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.IBlocksLo):], 2)
			le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.IFileAclLo):], 77)
			copy(in.IBlock(), target)
			want := TargetInInode
			if size > 4 && len(target) == 4 {
				want |= TargetInBlock
			}
			if got := in.SymlinkTarget(true, 1024); got != want {
				t.Errorf("%q of %d bytes: target in %b, want %b", target, size, got, want)
			}
		}
	}
}
