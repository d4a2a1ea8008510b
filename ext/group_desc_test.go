package ext

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	ext4 "github.com/dsoprea/go-ext4"
)

// Only descriptors of at least 64 bytes have high halves.
func TestGroupDescHighHalves(t *testing.T) {
	b := bytes.Repeat([]byte{0xFF}, 128)
	for _, off := range []int{0x20, 0x24, 0x28} {
		binary.LittleEndian.PutUint32(b[off:], 0x12)
	}
	binary.LittleEndian.PutUint16(b[0x32:], 0x34)
	for _, c := range []struct {
		size   int
		block  uint64
		unused uint32
	}{{32, 0xFFFFFFFF, 0xFFFF}, {64, 0x12FFFFFFFF, 0x34FFFF}, {128, 0x12FFFFFFFF, 0x34FFFF}} {
		d := GroupDesc(b[:c.size])
		if d.BlockBitmap() != c.block || d.InodeBitmap() != c.block || d.InodeTable() != c.block || d.ItableUnused() != c.unused || d.Flags() != 0xFFFF {
			t.Errorf("%d bytes: %#x %#x %#x %#x %#x", c.size, d.BlockBitmap(), d.InodeBitmap(), d.InodeTable(), d.ItableUnused(), d.Flags())
		}
	}
}

// oracle opens the image with go-ext4, which reads plain 64bit filesystems
// with flex_bg and extents.
func (img *diskImage) oracle() (*os.File, *ext4.Superblock, *ext4.BlockGroupDescriptorList) {
	img.t.Helper()
	f, err := os.Open(img.path)
	if err != nil {
		img.t.Fatal(err)
	}
	img.t.Cleanup(func() { f.Close() })
	if _, err := f.Seek(SuperblockOffset, 0); err != nil {
		img.t.Fatal(err)
	}
	sb, err := ext4.NewSuperblockWithReader(f)
	if err != nil {
		img.t.Fatal(err)
	}
	list, err := ext4.NewBlockGroupDescriptorListWithReadSeeker(f, sb)
	if err != nil {
		img.t.Fatal(err)
	}
	return f, sb, list
}

func TestGroupDescAgainstGoExt4(t *testing.T) {
	img := newDiskImage(t, 200<<20, 1024, "-t", "ext4")
	_, _, list := img.oracle()
	geo, err := img.super().Geometry()
	if err != nil {
		t.Fatal(err)
	}
	for g := range geo.GroupCount - 1 { // go-ext4 drops the last group
		want, err := list.GetWithAbsoluteInode(int(g*geo.InodesPerGroup + 1))
		if err != nil {
			t.Fatal(err)
		}
		per := geo.DescsPerBlock()
		at := g % per * geo.DescSize
		d := GroupDesc(img.block(geo.DescBlock(0, g/per))[at : at+geo.DescSize])
		if d.InodeTable() != want.InodeTableBlock() || d.InodeBitmap() != want.InodeBitmapBlock() || d.Flags() != want.Data().BgFlags ||
			d.Flags()&BgBlockUninit != 0 != want.IsBitmapNotInitialized() || d.Flags()&BgInodeUninit != 0 != want.IsInodeTableAndBitmapNotInitialized() {
			t.Errorf("group %d: %+v, go-ext4 has %+v", g, d, want.Data())
		}
	}
}

func FuzzGroupDesc(f *testing.F) {
	img := newDiskImage(f, 32<<20, 1024, "-t", "ext4")
	f.Add(img.block(2)[:64], uint32(0))
	f.Add(make([]byte, 32), uint32(1))
	sb := img.super()
	f.Fuzz(func(t *testing.T, b []byte, group uint32) {
		if len(b) < minDescSize {
			return
		}
		d := GroupDesc(b)
		narrow := len(b) < minDescSize64
		for _, block := range []uint64{d.BlockBitmap(), d.InodeBitmap(), d.InodeTable()} {
			if narrow && block>>32 != 0 {
				t.Fatalf("block %#x in a descriptor of %d bytes", block, len(b))
			}
		}
		if narrow && d.ItableUnused()>>16 != 0 {
			t.Fatalf("%d inodes unused in a descriptor of %d bytes", d.ItableUnused(), len(b))
		}
		sb.DescChecksumOK(group, d)
	})
}

func BenchmarkGroupDesc(b *testing.B) {
	block := make([]byte, 4096)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	var sum uint64
	for b.Loop() {
		for at := 0; at < len(block); at += 64 {
			d := GroupDesc(block[at : at+64])
			sum += d.BlockBitmap() + d.InodeBitmap() + d.InodeTable() + uint64(d.Flags()) + uint64(d.ItableUnused())
		}
	}
	if sum != 0 {
		b.Fatal("descriptors of zeros are not zero")
	}
}
