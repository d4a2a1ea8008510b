package scan

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
	"e2qcow/qcow2"
)

// fuzzSpecs are filesystems of each layout, small enough to be scanned in a
// millisecond.
var fuzzSpecs = []testfs.Spec{
	{Size: 2 << 20, Mke2fs: "-b 1024 -t ext4 -O ^has_journal,^metadata_csum -g 512 -N 128"},
	{Size: 2 << 20, Mke2fs: "-b 1024 -t ext2 -g 1024 -N 128"},
	{Size: 2 << 20, Mke2fs: "-b 1024 -t ext4 -O ^has_journal,^metadata_csum,inline_data,ea_inode,meta_bg,^resize_inode -g 256 -N 512 -I 512"},
	{Size: 4 << 20, Mke2fs: "-b 1024 -t ext4 -O ^metadata_csum,quota -g 1024 -N 256", Debugfs: []string{"jo", "jw -b 5,600 /dev/null", "jc"}},
	{Size: 4 << 20, Mke2fs: "-b 4096 -t ext4 -O ^has_journal,bigalloc,^resize_inode,^metadata_csum,project,quota -C 16384 -N 128"},
	{Size: 3 << 20, Mke2fs: "-b 2048 -t ext3 -O ^has_journal,^resize_inode,sparse_super2 -N 256"},
	{Size: 4 << 20, Mke2fs: "-b 1024 -t ext4 -O metadata_csum,mmp,orphan_file,encrypt,verity,^resize_inode -g 1024 -N 128"},
	{Size: 4 << 20, Mke2fs: "-b 1024 -t ext4 -O ^metadata_csum,^resize_inode,64bit,casefold -E encoding=utf8 -g 1024 -N 128",
		Debugfs: []string{"jo", "jw -b 5,600 -r 700 /dev/null", "jw -b 6 /dev/null", "jc"}},
}

// An edit changes a few bytes of an image, of structure where it can.
//
//	┌────┬───────┬────────┬───────┐
//	│ op │ place │ offset │ value │   1, 2, 2 and 4 bytes
//	└────┴───────┴────────┴───────┘
const editSize = 9

func applyEdits(image []byte, blockSize int, meta []uint64, edits []byte) {
	for ; len(edits) >= editSize; edits = edits[editSize:] {
		op, place, offset := edits[0], le.Uint16(edits[1:]), le.Uint16(edits[3:])
		block := uint64(place)
		if op&1 == 0 {
			block = meta[int(place)%len(meta)]
		}
		at := (int(block)*blockSize + int(offset)%blockSize) % len(image)
		switch value := edits[5:9]; op >> 1 % 8 {
		case 0:
			copy(image[at:], value[:1])
		case 1:
			copy(image[at:], value[:2])
		case 2:
			copy(image[at:], value)
		case 3: // a block number that exists
			if at+4 <= len(image) {
				le.PutUint32(image[at:], uint32(meta[int(le.Uint16(value))%len(meta)]))
			}
		case 4: // a whole block of one byte
			fill := image[at/blockSize*blockSize:][:blockSize]
			for i := range fill {
				fill[i] = value[0]
			}
		case 5: // a block in place of another
			from := int(meta[int(le.Uint16(value))%len(meta)]) * blockSize
			copy(image[at/blockSize*blockSize:][:blockSize], image[from:])
		case 6:
			image[at] ^= 1 << (value[0] % 8)
		case 7: // a field of the superblock
			copy(image[ext.SuperblockOffset+int(offset)%ext.SuperblockSize:], value)
		}
	}
}

// Bytes of any kind, or a filesystem with some of its bytes changed, are
// scanned, written as qcow2 and read again.
func FuzzDump(f *testing.F) {
	type base struct {
		image []byte
		bs    int
		meta  []uint64
	}
	var bases []base
	dir := tree(f, []byte("file data "))
	for _, spec := range fuzzSpecs {
		image := makeImage(f, spec, dir)
		res, err := Scan(context.Background(), bytes.NewReader(image), int64(len(image)), Options{})
		if err != nil {
			f.Fatal(err)
		}
		var meta []uint64
		for start, end := range res.Map.all().runs() {
			for ; start < end; start++ {
				meta = append(meta, start)
			}
		}
		bases = append(bases, base{image, blockSizeOf(image), meta})
	}
	for i := range bases {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), bytes.Repeat([]byte{6, 3, 0, 0x28, 0, 9, 0, 0, 0}, 5))
		f.Add(uint8(i), []byte{14, 0, 0, 0x18, 0, 7, 0, 0, 0, 8, 4, 0, 0, 0, 255, 0, 0, 0})
	}
	f.Add(uint8(255), bases[0].image[:4096])
	debug.FreeOSMemory() // what is left of other tests
	var buf []byte
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		if which < 128 {
			b := bases[int(which)%len(bases)]
			buf = append(buf[:0], b.image...)
			applyEdits(buf, b.bs, b.meta, edits)
		} else {
			buf = append(buf[:0], edits...) // bytes of any kind, with a magic number
			if len(buf) >= 2048 {
				buf[1024+0x38], buf[1024+0x39] = 0x53, 0xEF
			}
		}
		src := bytes.NewReader(buf)
		// A worker that hangs is no find to the fuzzer; one that dies is.
		hang := time.AfterFunc(mostTime*raceFactor, func() { panic("the dump hangs") })
		defer hang.Stop()
		res := fuzzScan(t, src, Options{Backups: Backups(which >> 2 % 3), Journal: JournalMode(which >> 4 % 3), Threads: 1 + int(which&1)})
		if res == nil {
			return
		}
		checkResult(t, src, src.Size(), res)
		fuzzWrite(t, res, qcow2.WriteOptions{Compression: qcow2.Compression(which % 5 % 3), BlockSize: int(res.BlockSize())})
		if lost := res.Unreadable(); len(lost) > 0 {
			t.Fatalf("%v listed of a device without faults", lost)
		}
		if n := ownMemory(); n > mostMemory {
			t.Fatalf("the process holds %d MiB", n>>20)
		}
	})
}

// fuzzScan returns nil where there is no filesystem.
func fuzzScan(t *testing.T, r *bytes.Reader, opt Options) *Result {
	src := &countingDisk{ReaderAt: r}
	res, err := Scan(context.Background(), src, r.Size(), opt)
	if errors.Is(err, ErrNotExt) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	// Each role of a block reads it once; several readings, and the state
	// after replay, multiply that.
	if most := 400*r.Size() + 64<<20; src.bytes.Load() > most {
		t.Fatalf("%d bytes read of a device of %d", src.bytes.Load(), r.Size())
	}
	if res.MetadataBytes() > r.Size()+int64(res.BlockSize()) {
		t.Fatalf("%d bytes of metadata on a device of %d", res.MetadataBytes(), r.Size())
	}
	return res
}

// fuzzWrite makes a qcow2 image of a view, and checks that it is sound and
// reads as the view does.
func fuzzWrite(t *testing.T, res *Result, opt qcow2.WriteOptions) {
	ctx, view := context.Background(), res.View()
	var file bytes.Buffer
	if _, err := qcow2.WriteStream(ctx, &file, view, opt); err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(file.Bytes())
	report, err := qcow2.Check(ctx, r, r.Size(), nil)
	if err != nil || report.Status() != 0 {
		t.Fatalf("check: %+v, %v", report, err)
	}
	img, err := qcow2.Open(ctx, r, r.Size(), qcow2.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if img.Size() != view.Size() {
		t.Fatalf("an image of %d bytes of a view of %d", img.Size(), view.Size())
	}
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < img.Size(); off += int64(len(got)) {
		n, err := img.ReadAt(got, off)
		m, werr := view.ReadAt(want, off)
		if n != m || !bytes.Equal(got[:n], want[:m]) || err != nil && !errors.Is(err, io.EOF) || werr != nil && !errors.Is(werr, io.EOF) {
			t.Fatalf("the image and the view differ between %d and %d: %v, %v", off, off+int64(len(got)), err, werr)
		}
	}
}

// ownMemory returns how many bytes the process has mapped for itself and not
// given back.
func ownMemory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

func FuzzIndirect(f *testing.F) {
	f.Add(uint8(roleInd1), uint8(contentDir), pointers(1024, 5, 6, 7, 0, 9000, 1<<31))
	f.Add(uint8(roleInd3), uint8(contentData), bytes.Repeat([]byte{0xFF}, 1024))
	f.Add(uint8(roleInd2), uint8(contentSymlink), []byte("not a block of numbers"))
	const blocks = 8000
	fs := newSynthetic(layout{blockSize: 1024, blocks: blocks, incompat: ext.IncompatFiletype})
	f.Fuzz(func(t *testing.T, r, c uint8, raw []byte) {
		s := scannerOf(t, fs, fs.size)
		data := make([]byte, 1024)
		copy(data, raw)
		it := &item{block: 1000, ino: 12, count: 1, role: roleInd1 + role(r)%3, content: content(c) % contents}
		b := new(batch)
		s.visitIndirectBlock(b, it, it.block, data)
		items := slices.Concat(b.items, b.suspects)
		if len(items) > len(data)/4 {
			t.Fatalf("%d items of %d pointers", len(items), len(data)/4)
		}
		for _, i := range items {
			if i.block == 0 || i.block+uint64(i.count) > blocks || i.role >= it.role && i.role != roleDir && i.role != roleProbe {
				t.Fatalf("item %+v of a block of role %d", i, it.role)
			}
		}
		if len(b.marks) != 1 && it.content == contentData {
			t.Fatalf("marks %v", b.marks)
		}
		// As an i_block, in both of the ways that one is followed.
		s.visitBlockMap(b, 12, data[:ext.IBlockSize], it.content)
		s.visitTree(b, 12, data[:ext.IBlockSize], r&128 != 0, it.content)
		m, _ := s.mapFile(data[:ext.IBlockSize], r&128 != 0, maxJournalNodes)
		for _, x := range m {
			if _, _, ok := s.validRun(x.Start, uint64(x.Len)); !ok {
				t.Fatalf("extent %+v lies outside", x)
			}
		}
	})
}

// The edits that FuzzDump is made of reach what they are meant for.
func TestApplyEdits(t *testing.T) {
	image := make([]byte, 16*1024)
	copy(image[3*1024:], []byte("block three"))
	meta := []uint64{3, 5}
	edits := binary.LittleEndian.AppendUint32([]byte{4, 1, 0, 16, 0}, 0x01020304)         // four bytes at 16 of block 5
	edits = append(edits, 10, 1, 0, 0, 4, 0, 0, 0, 0)                                     // block 3 over block 5
	edits = append(edits, 15, 0, 0, 0x38, 0, 0x53, 0xEF, 0, 0, 1, 9, 0, 1, 0, 7, 0, 0, 0) // the magic number; a byte of block 9
	applyEdits(image, 1024, meta, edits)
	if !bytes.HasPrefix(image[5*1024:], []byte("block three")) || !ext.IsSuperblock(image[1024:]) || image[9*1024+1] != 7 {
		t.Error("edits went astray")
	}
	if _, err := Scan(context.Background(), io.NewSectionReader(bytes.NewReader(image), 0, 16*1024), 16*1024, Options{}); err != nil {
		t.Error(err)
	}
}
