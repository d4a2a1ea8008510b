package ext

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	ext4 "github.com/dsoprea/go-ext4"
)

// super decodes the primary superblock.
func (img *diskImage) super() *Superblock {
	img.t.Helper()
	sb, err := DecodeSuperblock(img.read(SuperblockOffset, SuperblockSize))
	if err != nil {
		img.t.Fatal(err)
	}
	return sb
}

func TestSuperblockAgainstDumpe2fs(t *testing.T) {
	for _, c := range []struct {
		blockSize int
		args      string
	}{
		{1024, "-t ext2"},
		{4096, "-t ext3 -L a-label -U 01234567-89ab-cdef-0123-456789abcdef"},
		{4096, "-t ext4 -O quota,project,mmp,orphan_file,metadata_csum_seed -E quotatype=usrquota:grpquota:prjquota -L sixteen-bytes-xx"},
		{2048, "-t ext4 -O ^64bit,^metadata_csum,uninit_bg"},
		{65536, "-t ext4 -O bigalloc -C 262144"},
		{1024, "-r 0 -O none"},
	} {
		t.Run(strconv.Itoa(c.blockSize)+" "+c.args, func(t *testing.T) {
			img := newDiskImage(t, 64<<20, c.blockSize, strings.Fields(c.args)...)
			sb := img.super()
			for _, f := range []struct {
				field string
				got   uint64
			}{
				{"Block count", sb.BlocksCount()},
				{"Block size", uint64(sb.BlockSize())},
				{"Journal inode", uint64(sb.JournalInode())},
				{"MMP block number", sb.MmpBlock()},
				{"User quota inode", uint64(sb.QuotaInodes()[0])},
				{"Group quota inode", uint64(sb.QuotaInodes()[1])},
				{"Project quota inode", uint64(sb.QuotaInodes()[2])},
				{"Orphan file inode", uint64(sb.OrphanFileInode())},
			} {
				if want := img.headerNumber(f.field, 0); f.got != want {
					t.Errorf("%s: %d, dumpe2fs says %d", f.field, f.got, want)
				}
			}
			uuid := sb.UUID()
			if want := strings.ReplaceAll(img.header("Filesystem UUID"), "-", ""); hex.EncodeToString(uuid[:]) != want {
				t.Errorf("UUID %x, dumpe2fs says %s", uuid, want)
			}
			if want := img.header("Filesystem volume name"); sb.Label() != want && (sb.Label() != "" || want != "<none>") {
				t.Errorf("label %q, dumpe2fs says %q", sb.Label(), want)
			}
			if rev, _, _ := strings.Cut(img.header("Filesystem revision #"), " "); strconv.Itoa(int(sb.Revision())) != rev {
				t.Errorf("revision %d, dumpe2fs says %s", sb.Revision(), rev)
			}
			if !sb.ChecksumOK() {
				t.Error("the checksum is refused")
			}
			if !bytes.Equal(sb.Bytes(), img.read(SuperblockOffset, SuperblockSize)) {
				t.Error("Bytes is not what stands on the disk")
			}
		})
	}
}

// The features are those that dumpe2fs names.
func TestSuperblockFeatures(t *testing.T) {
	named := map[string]func(*Superblock) bool{
		"has_journal": compat(CompatHasJournal), "ext_attr": compat(CompatExtAttr), "resize_inode": compat(CompatResizeInode),
		"dir_index": compat(CompatDirIndex), "sparse_super2": compat(CompatSparseSuper2), "fast_commit": compat(CompatFastCommit),
		"stable_inodes": compat(CompatStableInodes), "orphan_file": compat(CompatOrphanFile),
		"sparse_super": roCompat(RoCompatSparseSuper), "uninit_bg": roCompat(RoCompatGdtCsum), "quota": roCompat(RoCompatQuota),
		"bigalloc": roCompat(RoCompatBigalloc), "metadata_csum": roCompat(RoCompatMetadataCsum), "verity": roCompat(RoCompatVerity),
		"filetype": incompat(IncompatFiletype), "meta_bg": incompat(IncompatMetaBg), "extent": incompat(IncompatExtents),
		"64bit": incompat(Incompat64bit), "mmp": incompat(IncompatMmp), "flex_bg": incompat(IncompatFlexBg),
		"ea_inode": incompat(IncompatEaInode), "metadata_csum_seed": incompat(IncompatCsumSeed), "large_dir": incompat(IncompatLargeDir),
		"inline_data": incompat(IncompatInlineData), "encrypt": incompat(IncompatEncrypt), "casefold": incompat(IncompatCasefold),
	}
	for _, args := range []string{
		"-O none", "-t ext3", "-t ext4",
		"-O none,sparse_super2,stable_inodes,verity,extent,ea_inode,inline_data,encrypt,large_dir",
		"-t ext4 -O fast_commit,metadata_csum_seed,quota,mmp,casefold,orphan_file",
		"-t ext4 -O ^metadata_csum,uninit_bg,meta_bg,^resize_inode", "-t ext4 -O bigalloc",
	} {
		img := newDiskImage(t, 32<<20, 4096, strings.Fields(args)...)
		sb := img.super()
		on := strings.Fields(img.header("Filesystem features"))
		for name, has := range named {
			want := false
			for _, f := range on {
				want = want || f == name
			}
			if has(sb) != want {
				t.Errorf("mke2fs %s: %s is %v, dumpe2fs says %v", args, name, !want, want)
			}
		}
	}
}

func compat(m uint32) func(*Superblock) bool {
	return func(sb *Superblock) bool { return sb.HasCompat(m) }
}

func roCompat(m uint32) func(*Superblock) bool {
	return func(sb *Superblock) bool { return sb.HasRoCompat(m) }
}

func incompat(m uint32) func(*Superblock) bool {
	return func(sb *Superblock) bool { return sb.HasIncompat(m) }
}

func TestSuperblockJournalBackup(t *testing.T) {
	img := newDiskImage(t, 64<<20, 4096, "-t", "ext4")
	iblock, ok := img.super().JournalBackup()
	at := img.inodeAt("<8>")
	if in := Inode(img.read(at, 256)); !ok || !bytes.Equal(iblock[:], in.IBlock()) {
		t.Errorf("the backup %x, %v is not the journal's i_block %x", iblock, ok, in.IBlock())
	}
	if _, ok := newDiskImage(t, 8<<20, 1024, "-t", "ext2").super().JournalBackup(); ok {
		t.Error("a backup without a journal")
	}
}

// go-ext4 reads the same.
func TestSuperblockAgainstGoExt4(t *testing.T) {
	img := newDiskImage(t, 64<<20, 4096, "-t", "ext4", "-L", "oracle")
	sb := img.super()
	oracle, err := ext4.NewSuperblockWithReader(bytes.NewReader(img.read(SuperblockOffset, SuperblockSize)))
	if err != nil {
		t.Fatal(err)
	}
	if *oracle.Data() != sb.d {
		t.Error("the fields differ")
	}
	if oracle.BlockSize() != sb.BlockSize() || oracle.BlockCount() != sb.BlocksCount() || oracle.VolumeName() != sb.Label() || oracle.Is64Bit() != sb.HasIncompat(Incompat64bit) {
		t.Error("what is derived differs")
	}
}

func TestDecodeSuperblockRefuses(t *testing.T) {
	var corrupt *CorruptError
	for _, n := range []int{0, 57, 58, SuperblockSize - 1} {
		if _, err := DecodeSuperblock(make([]byte, n)); !errors.As(err, &corrupt) || corrupt.Offset != int64(n) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := DecodeSuperblock(make([]byte, SuperblockSize)); !errors.Is(err, ErrBadMagic) {
		t.Errorf("zeros: %v", err)
	}
	if IsSuperblock(make([]byte, 57)) || IsSuperblock(nil) {
		t.Error("a superblock too short for its magic")
	}
}

// A superblock without its magic number still says where groups begin.
func TestGeometryHint(t *testing.T) {
	b := newDiskImage(t, 32<<20, 2048, "-t", "ext4", "-g", "4096").read(SuperblockOffset, SuperblockSize)
	clear(b[0x38:0x3A])
	if h := GeometryHint(b); h != (Hint{2048, 0, 4096}) {
		t.Errorf("hint %+v", h)
	}
	for _, off := range []int{0x18, 0x20} {
		bad := bytes.Clone(b)
		copy(bad[off:], []byte{7, 0, 0, 0})
		if h := GeometryHint(bad); h != (Hint{}) {
			t.Errorf("7 at %#x: hint %+v", off, h)
		}
	}
	if h := GeometryHint(b[:100]); h != (Hint{}) {
		t.Errorf("a superblock cut short: hint %+v", h)
	}
}

// blankSuperblock has the magic number and nothing else.
func blankSuperblock() []byte {
	b := make([]byte, SuperblockSize)
	b[0x38], b[0x39] = 0x53, 0xEF
	return b
}

func FuzzSuperblock(f *testing.F) {
	f.Add(blankSuperblock())
	f.Add(bytes.Repeat([]byte{0xFF}, SuperblockSize))
	f.Add(newDiskImage(f, 8<<20, 1024, "-t", "ext4").read(SuperblockOffset, SuperblockSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		sb, err := DecodeSuperblock(b)
		if err != nil {
			if sb != nil {
				t.Fatal("a superblock with an error")
			}
			return
		}
		if !bytes.Equal(sb.Bytes(), b[:SuperblockSize]) {
			t.Fatal("Bytes differ")
		}
		if bs := sb.BlockSize(); bs != 0 && (bs < MinBlockSize || bs > MaxBlockSize || bs&(bs-1) != 0) {
			t.Fatalf("block size %d", bs)
		}
		if len(sb.Label()) > 16 || strings.ContainsRune(sb.Label(), 0) {
			t.Fatalf("label %q", sb.Label())
		}
		if h := GeometryHint(b); h != (Hint{}) && (h.BlockSize != sb.BlockSize() || h.BlocksPerGroup < 8) {
			t.Fatalf("hint %+v where the block size is %d", h, sb.BlockSize())
		}
		sb.ChecksumOK()
		sb.JournalBackup()
		sb.DescChecksumOK(1, make(GroupDesc, minDescSize))
	})
}

func BenchmarkDecodeSuperblock(b *testing.B) {
	sb := blankSuperblock()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeSuperblock(sb); err != nil {
			b.Fatal(err)
		}
	}
}
