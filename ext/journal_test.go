package ext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// journalBlocks lists the blocks of the journal, which stays where it is.
func (img *diskImage) journalBlocks() []uint64 {
	if img.journal == nil {
		img.journal = img.blocks("<8>")
	}
	return img.journal
}

// journalOf returns the journal's superblock, its length, and a reader of its blocks.
func (img *diskImage) journalOf() (*JournalSuperblock, uint64, func(uint32, []byte) error) {
	img.t.Helper()
	blocks := img.journalBlocks()
	j, err := DecodeJournalSuperblock(img.block(blocks[0]))
	if err != nil {
		img.t.Fatal(err)
	}
	if uint64(j.MaxLen) != uint64(len(blocks)) {
		img.t.Fatalf("the journal has %d blocks, its superblock says %d", len(blocks), j.MaxLen)
	}
	whole, err := os.ReadFile(img.path)
	if err != nil {
		img.t.Fatal(err)
	}
	data := make([]byte, 0, len(blocks)*img.blockSize)
	for _, b := range blocks {
		data = append(data, whole[b*uint64(img.blockSize):][:img.blockSize]...)
	}
	return j, uint64(len(blocks)), journalBytes(data)
}

func journalBytes(data []byte) func(uint32, []byte) error {
	return func(n uint32, buf []byte) error {
		off := int(n) * len(buf)
		if off+len(buf) > len(data) {
			return fmt.Errorf("block %d is beyond the end", n)
		}
		copy(buf, data[off:])
		return nil
	}
}

// recovered replays the journal with e2fsck and returns the image's bytes.
func (img *diskImage) recovered() []byte {
	img.t.Helper()
	saved, err := os.ReadFile(img.path)
	if err != nil {
		img.t.Fatal(err)
	}
	out, err := exec.Command("e2fsck", "-y", "-E", "journal_only", img.path).CombinedOutput()
	if ee := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ee) {
		img.t.Fatalf("e2fsck: %v\n%s", err, out)
	}
	after := img.read(0, len(saved)) // a damaged tag may have led far beyond
	if err := os.Remove(img.path); err != nil {
		img.t.Fatal(err)
	}
	if err := os.WriteFile(img.path, saved, 0o600); err != nil {
		img.t.Fatal(err)
	}
	return after
}

// journalImage has a journal written by debugfs, with transactions that
// overwrite and revoke blocks between 3000 and 3100, one of them escaped.
func journalImage(t testing.TB, csum int, args ...string) *diskImage {
	t.Helper()
	img := newDiskImage(t, 4<<20, 1024, append([]string{"-t", "ext4", "-J", "size=1"}, args...)...)
	dir := t.TempDir()
	file := func(name string, blocks int, escaped bool) string {
		rnd := rand.New(rand.NewPCG(uint64(blocks), uint64(name[0])))
		b := make([]byte, blocks*1024)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if escaped {
			binary.BigEndian.PutUint32(b[1024:], journalMagic)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open := "jo"
	if csum > 0 {
		open = fmt.Sprintf("jo -c -v %d", csum)
	}
	// The last transaction has no commit block.
	img.debugfs(
		open,
		"jw -b 3000-3019 "+file("a", 20, true),
		"jw -r 3005-3009",
		"jw -b 3008,3030-3039 "+file("b", 11, false),
		"jw -b 3010 "+file("c", 1, false),
		"jw -r 3010,3031,3100",
		"jw -b 3050-3051 -c "+file("d", 2, false),
		"jc",
	)
	return img
}

var journalForms = []struct {
	name string
	csum int
	args []string
}{
	{"32bit", 0, []string{"-O", "^64bit,^metadata_csum"}},
	{"64bit", 0, []string{"-O", "64bit,^metadata_csum"}},
	{"32bit csum v1", 1, []string{"-O", "^64bit,^metadata_csum"}},
	{"32bit csum v2", 2, []string{"-O", "^64bit,metadata_csum"}},
	{"64bit csum v2", 2, []string{"-O", "64bit,metadata_csum"}},
	{"32bit csum v3", 3, []string{"-O", "^64bit,metadata_csum"}},
	{"64bit csum v3", 3, []string{"-O", "64bit,metadata_csum"}},
}

func TestWalkJournalAgainstDebugfs(t *testing.T) {
	t.Parallel()
	for _, c := range journalForms {
		t.Run(c.name, func(t *testing.T) {
			img := journalImage(t, c.csum, c.args...)
			j, n, read := img.journalOf()
			if got := j.BlockChecksums(); got != (c.csum > 1) {
				t.Fatalf("features %#x", j.Incompat)
			}
			kinds := map[JournalBlockKind]int{}
			r, err := WalkJournal(j, n, read, func(_ uint32, k JournalBlockKind) { kinds[k]++ })
			if err != nil {
				t.Fatal(err)
			}
			img.compareReplay(r)
			if c.csum == 1 {
				// debugfs leaves the revoke blocks out of the sum, and the log
				// ends there for e2fsck.
				if r.Err == nil || r.End != r.First+1 {
					t.Errorf("transactions %d to %d, %v", r.First, r.End, r.Err)
				}
				return
			}
			if r.Err != nil {
				t.Error(r.Err)
			}
			var want []uint64
			for b := uint64(3000); b < 3020; b++ {
				if b < 3005 || b > 3010 || b == 3008 {
					want = append(want, b)
				}
			}
			want = append(want, 3030)
			for b := uint64(3032); b < 3040; b++ {
				want = append(want, b)
			}
			got := slices.Sorted(maps.Keys(replayOf(r)))
			if !slices.Equal(got, want) {
				t.Errorf("replayed %d\nwant     %d", got, want)
			}
			if kinds[JournalCommit] != 5 || kinds[JournalEnd] != 1 || kinds[JournalDescriptor] != 4 || kinds[JournalRevoke] != 2 || kinds[JournalData] < 32 {
				t.Errorf("blocks read, by kind: %v", kinds)
			}
			if replay := replayOf(r); !replay[3001].Escaped || replay[3000].Escaped {
				t.Error("escapes are wrong")
			}
		})
	}
}

func replayOf(r *JournalRecovery) map[uint64]JournalCopy { return maps.Collect(r.Replay.From(0)) }

// compareReplay compares with what e2fsck makes of the image.
func (img *diskImage) compareReplay(r *JournalRecovery) {
	img.t.Helper()
	before, err := os.ReadFile(img.path)
	if err != nil {
		img.t.Fatal(err)
	}
	after := img.recovered()
	for n := range r.Replay.From(0) {
		if n >= 1<<63/uint64(img.blockSize) {
			return // e2fsck writes where the byte offset overflows to
		}
	}
	blocks := img.journalBlocks()
	bs := img.blockSize
	at := func(b []byte, n uint64) []byte { return b[n*uint64(bs):][:bs] }
	for n, c := range r.Replay.From(0) {
		if n >= uint64(len(after)/bs) || n*uint64(bs) <= 1024 {
			continue
		}
		want := bytes.Clone(at(before, blocks[c.Block]))
		if c.Escaped {
			Unescape(want)
		}
		if !bytes.Equal(at(after, n), want) {
			img.t.Errorf("block %d: e2fsck does not replay journal block %d", n, c.Block)
		}
	}
	replayed := map[uint64]bool{}
	for n := range r.Replay.From(0) {
		replayed[n] = true
	}
	for n := uint64(0); n*uint64(bs) < uint64(len(after)); n++ {
		ours := replayed[n]
		if !ours && n*uint64(bs) > 1024 && !slices.Contains(blocks, n) && !bytes.Equal(at(before, n), at(after, n)) && n >= 3000 {
			img.t.Errorf("block %d: e2fsck replays it, we do not", n)
		}
	}
}

// TestWalkJournalDamaged compares with e2fsck on journals damaged at random.
func TestWalkJournalDamaged(t *testing.T) {
	t.Parallel()
	for i, c := range journalForms {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			img := journalImage(t, c.csum, c.args...)
			sound, err := os.ReadFile(img.path)
			if err != nil {
				t.Fatal(err)
			}
			blocks := img.journalBlocks()
			rnd := rand.New(rand.NewPCG(7, uint64(c.csum)))
			for i := range 12 {
				if err := os.WriteFile(img.path, sound, 0o600); err != nil {
					t.Fatal(err)
				}
				var what []string
				for range 1 + rnd.IntN(2) {
					n := 1 + rnd.IntN(44)
					at := rnd.IntN(64)
					if rnd.IntN(3) == 0 {
						at = rnd.IntN(1024)
					}
					b := img.block(blocks[n])
					b[at] ^= 1 << rnd.IntN(8)
					what = append(what, fmt.Sprintf("block %d byte %d", n, at))
					img.write(int64(blocks[n])*1024+int64(at), b[at:at+1])
				}
				j, n, read := img.journalOf()
				r, err := WalkJournal(j, n, read, nil)
				if err != nil {
					t.Fatal(err)
				}
				img.compareReplay(r)
				if t.Failed() {
					t.Fatalf("case %d: %s; %v", i, strings.Join(what, ", "), r.Err)
				}
			}
		})
	}
}

var preadLine = regexp.MustCompile(`pread64\(\d+, .*, (\d+), (\d+)\) += \d`)

// journalReads lists the blocks of the journal that e2fsck reads when it
// replays, and leaves the image replayed.
func (img *diskImage) journalReads() []uint32 {
	img.t.Helper()
	index := map[uint64]uint32{}
	for i, n := range img.journalBlocks() {
		index[n] = uint32(i)
	}
	trace := filepath.Join(img.t.TempDir(), "trace")
	out, err := exec.Command("strace", "-s", "1", "-e", "trace=pread64", "-o", trace, "e2fsck", "-y", "-E", "journal_only", img.path).CombinedOutput()
	if ee := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ee) {
		img.t.Fatalf("strace: %v\n%s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		img.t.Fatal(err)
	}
	var reads []uint32
	for _, m := range preadLine.FindAllSubmatch(b, -1) {
		size, err1 := strconv.ParseUint(string(m[1]), 10, 64)
		off, err2 := strconv.ParseUint(string(m[2]), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			img.t.Fatal(err)
		}
		for n := off / uint64(img.blockSize); n*uint64(img.blockSize) < off+size; n++ {
			if i, ok := index[n]; ok {
				reads = append(reads, i)
			}
		}
	}
	return reads
}

// TestWalkJournalLive holds what is called live to what e2fsck reads.
func TestWalkJournalLive(t *testing.T) {
	t.Parallel()
	for i, c := range journalForms {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			img := journalImage(t, c.csum, c.args...)
			sound, err := os.ReadFile(img.path)
			if err != nil {
				t.Fatal(err)
			}
			blocks := img.journalBlocks()
			for _, damaged := range []int{0, 1, 5, 22, 23, 24, 25, 30, 36, 37} {
				if err := os.WriteFile(img.path, sound, 0o600); err != nil {
					t.Fatal(err)
				}
				if damaged > 0 {
					at := int64(blocks[damaged])*1024 + 18
					b := img.read(at, 1)
					b[0] ^= 1
					img.write(at, b)
				}
				j, n, read := img.journalOf()
				live := map[uint32]bool{0: true}
				if _, err := WalkJournal(j, n, read, func(n uint32, _ JournalBlockKind) { live[n] = true }); err != nil {
					t.Fatal(err)
				}
				if len(live) > 50 {
					t.Errorf("%d live blocks", len(live))
				}
				reads := img.journalReads()
				if len(reads) < 2 {
					t.Errorf("e2fsck reads %d", reads)
				}
				for _, n := range reads {
					if !live[n] {
						t.Errorf("block %d damaged: e2fsck reads block %d", damaged, n)
					}
				}
			}
		})
	}
}

func TestJournalSuperblockCheck(t *testing.T) {
	t.Parallel()
	img := journalImage(t, 3, "-O", "metadata_csum")
	first := img.block(img.journalBlocks()[0])
	be := binary.BigEndian
	for name, edit := range map[string]func([]byte){
		"checksum":    func(b []byte) { b[0x20]++ },
		"incompat":    func(b []byte) { be.PutUint32(b[0x28:], 0x100) },
		"ro_compat":   func(b []byte) { be.PutUint32(b[0x2C:], 1) },
		"two kinds":   func(b []byte) { be.PutUint32(b[0x28:], 0x18) },
		"users":       func(b []byte) { be.PutUint32(b[0x40:], 2) },
		"block size":  func(b []byte) { be.PutUint32(b[0x28:], 0); be.PutUint32(b[0x0C:], 4096) },
		"length":      func(b []byte) { be.PutUint32(b[0x28:], 0); be.PutUint32(b[0x10:], 4096) },
		"first":       func(b []byte) { be.PutUint32(b[0x28:], 0); be.PutUint32(b[0x14:], 1024) },
		"fast commit": func(b []byte) { be.PutUint32(b[0x28:], 0x20); be.PutUint32(b[0x54:], 2000) },
	} {
		b := bytes.Clone(first)
		edit(b)
		j, err := DecodeJournalSuperblock(b)
		if err != nil {
			t.Fatal(name, err)
		}
		var je *JournalError
		if err := j.Check(1024, 1024); !errors.As(err, &je) || je.Unsupported != slices.Contains([]string{"incompat", "ro_compat", "users"}, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	j, err := DecodeJournalSuperblock(first)
	if err != nil || j.Check(1024, 1024) != nil {
		t.Error(err, j.Check(1024, 1024))
	}
	for name, edit := range map[string]func([]byte){
		"magic": func(b []byte) { b[0]++ }, "type": func(b []byte) { b[7] = 9 }, "commit": func(b []byte) { b[7] = 2 },
	} {
		b := bytes.Clone(first)
		edit(b)
		if _, err := DecodeJournalSuperblock(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := DecodeJournalSuperblock(first[:1023]); err == nil {
		t.Error("a short one is accepted")
	}
}

// TestWalkJournalAgainstKernel takes an image while it is mounted.
func TestWalkJournalAgainstKernel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		fast bool
	}{
		{"ext3", []string{"-t", "ext3", "-O", "extents"}, false},
		{"ext4", []string{"-t", "ext4"}, false},
		{"fast commit", []string{"-t", "ext4", "-O", "fast_commit"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := newDiskImage(t, 16<<20, 1024, append([]string{"-J", "size=4"}, c.args...)...)
			img.mounted(func(dir string) {
				for i := range 60 {
					sub := filepath.Join(dir, fmt.Sprint("d", i%7))
					if err := os.MkdirAll(sub, 0o755); err != nil {
						t.Fatal(err)
					}
					name := filepath.Join(sub, fmt.Sprint("f", i))
					if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
						t.Fatal(err)
					}
					if i%10 == 3 {
						if err := os.RemoveAll(filepath.Join(dir, fmt.Sprint("d", (i+1)%7))); err != nil {
							t.Fatal(err)
						}
						testfs.Run(t, "sync", "-f", dir)
					}
				}
				testfs.Run(t, "sync", "-f", dir)
				for i := range 3 { // fast commits, where there are any
					f, err := os.Create(filepath.Join(dir, fmt.Sprint("fast", i)))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := f.WriteString("data"); err != nil {
						t.Fatal(err)
					}
					if err := f.Sync(); err != nil {
						t.Fatal(err)
					}
					if err := f.Close(); err != nil {
						t.Fatal(err)
					}
				}
				// A copy that umount does not see, and that no tool rewrites.
				b, err := os.ReadFile(img.path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(img.path+".dirty", b, 0o600); err != nil {
					t.Fatal(err)
				}
			})
			dirty := &diskImage{t: t, path: img.path + ".dirty", blockSize: 1024}
			j, n, read := dirty.journalOf()
			if j.Start == 0 {
				t.Fatal("the journal is clean")
			}
			live := map[uint32]bool{0: true}
			r, err := WalkJournal(j, n, read, func(n uint32, _ JournalBlockKind) { live[n] = true })
			if err != nil {
				t.Fatal(err)
			}
			if r.Err != nil || r.First == r.End || r.Replay.Len() < 10 {
				t.Errorf("transactions %d to %d, %d blocks: %v", r.First, r.End, r.Replay.Len(), r.Err)
			}
			if c.fast {
				dirty.checkFastCommits(j, r, read)
			} else {
				dirty.compareReplay(r)
			}
			for _, n := range dirty.journalReads() {
				if !live[n] {
					t.Errorf("e2fsck reads block %d", n)
				}
			}
		})
	}
}

func (img *diskImage) checkFastCommits(j *JournalSuperblock, r *JournalRecovery, read func(uint32, []byte) error) {
	t := img.t
	t.Helper()
	if r.FastCommits == 0 {
		t.Fatal("no fast commits")
	}
	var names []string
	inodes := 0
	s := NewFastCommitScan(r.End)
	first, end := j.FastCommitArea()
	buf := make([]byte, j.BlockSize)
	for n := first; n < end; n++ {
		if err := read(n, buf); err != nil {
			t.Fatal(err)
		}
		if !s.Block(buf, func(tag *FastCommitTag) {
			switch tag.Type {
			case FastCommitCreate:
				names = append(names, string(tag.Name))
			case FastCommitInode:
				inodes++
				if len(tag.Raw) < 128 || tag.Inode < 11 {
					t.Errorf("inode %d, %d bytes", tag.Inode, len(tag.Raw))
				}
			}
		}) {
			break
		}
	}
	if s.Blocks() != r.FastCommits {
		t.Errorf("%d blocks, the walk found %d", s.Blocks(), r.FastCommits)
	}
	if !slices.Contains(names, "fast2") || inodes == 0 {
		t.Errorf("created %q, %d inodes", names, inodes)
	}
	// The last of them is there only if e2fsck replays the fast commits, too.
	after := filepath.Join(t.TempDir(), "after")
	if err := os.WriteFile(after, img.recovered(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := (&diskImage{t: t, path: after, blockSize: 1024}).query("cat /fast2"); out != "data" {
		t.Errorf("after recovery fast2 has %q", out)
	}
}

// ring makes a journal of n blocks without checksums that begins at block 1.
func ring(n uint32) []byte {
	b := make([]byte, n*1024)
	be := binary.BigEndian
	be.PutUint32(b, journalMagic)
	be.PutUint32(b[4:], journalTypeSuperblockV2)
	be.PutUint32(b[0x0C:], 1024)
	be.PutUint32(b[0x10:], n)
	be.PutUint32(b[0x14:], 1)
	be.PutUint32(b[0x18:], 5)
	be.PutUint32(b[0x1C:], 1)
	return b
}

func putJournalBlock(b []byte, n, typ, sequence uint32) []byte {
	p := b[n*1024:][:1024]
	binary.BigEndian.PutUint32(p, journalMagic)
	binary.BigEndian.PutUint32(p[4:], typ)
	binary.BigEndian.PutUint32(p[8:], sequence)
	return p
}

func TestWalkJournalWraps(t *testing.T) {
	b := ring(16)
	binary.BigEndian.PutUint32(b[0x1C:], 13)
	d := putJournalBlock(b, 13, journalTypeDescriptor, 5)
	for i := range uint32(4) { // at 14, 15, 1, 2
		p := d[12+8*i:]
		binary.BigEndian.PutUint32(p, 100+i)
		binary.BigEndian.PutUint16(p[6:], journalTagSameUUID)
	}
	binary.BigEndian.PutUint16(d[12+8*3+6:], journalTagSameUUID|journalTagLast)
	putJournalBlock(b, 3, journalTypeCommit, 5)
	j, err := DecodeJournalSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := WalkJournal(j, 16, journalBytes(b), nil)
	if err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	want := map[uint64]JournalCopy{100: {Block: 14}, 101: {Block: 15}, 102: {Block: 1}, 103: {Block: 2}}
	if !maps.Equal(replayOf(r), want) || r.End != 6 {
		t.Errorf("replay %v to %d", replayOf(r), r.End)
	}
}

func TestWalkJournalEnds(t *testing.T) {
	b := ring(64)
	for n := uint32(1); n < 64; n++ {
		putJournalBlock(b, n, journalTypeRevoke, 5)
	}
	j, err := DecodeJournalSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	r, err := WalkJournal(j, 64, func(n uint32, buf []byte) error {
		reads++
		return journalBytes(b)(n, buf)
	}, nil)
	if err != nil || !errors.Is(r.Err, ErrJournalLoop) || reads > 100 {
		t.Errorf("%v, %v after %d reads", err, r.Err, reads)
	}
	broken := errors.New("unreadable")
	r, err = WalkJournal(j, 64, func(uint32, []byte) error { return broken }, nil)
	if err != nil || !errors.Is(r.Err, broken) {
		t.Errorf("%v, %v", err, r.Err)
	}
	j.Start = 64
	if r, err = WalkJournal(j, 64, journalBytes(b), nil); err != nil || r.Err == nil {
		t.Errorf("a start beyond the end: %v", err)
	}
	j.Start = 0
	if r, err = WalkJournal(j, 64, func(uint32, []byte) error { return broken }, nil); err != nil || r.Err != nil || r.Replay.Len() != 0 {
		t.Errorf("a clean journal: %v, %v", err, r.Err)
	}
	j.BlockSize = 1 << 31
	if _, err = WalkJournal(j, 64, journalBytes(b), nil); err == nil {
		t.Error("blocks of 2 GiB pass")
	}
}

// A log that names more blocks than are followed ends there, and so does what
// is kept of it.
func TestWalkJournalTooManyTags(t *testing.T) {
	const size, tags = 1 << 16, (1<<16 - 12) / 8
	descriptor := make([]byte, size)
	be := binary.BigEndian
	for i, v := range []uint32{journalMagic, journalTypeDescriptor, 5} {
		be.PutUint32(descriptor[4*i:], v)
	}
	for i := range uint32(tags) {
		be.PutUint32(descriptor[12+8*i:], i)
		be.PutUint16(descriptor[12+8*i+6:], journalTagSameUUID)
	}
	j := &JournalSuperblock{Version: 2, BlockSize: size, MaxLen: 1 << 31, First: 1, Sequence: 5, Start: 1}
	reads := 0
	r, err := WalkJournal(j, 1<<31, func(n uint32, buf []byte) error {
		reads++
		copy(buf, descriptor)
		return nil
	}, nil)
	if err != nil || !errors.Is(r.Err, ErrJournalTags) || reads > maxJournalTags/tags+2 {
		t.Errorf("%v, %v after %d reads", err, r.Err, reads)
	}
}

func FuzzWalkJournal(f *testing.F) {
	for _, c := range journalForms {
		img := journalImage(f, c.csum, c.args...)
		var b []byte
		for _, n := range img.journalBlocks()[:64] {
			b = append(b, img.block(n)...)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := DecodeJournalSuperblock(b)
		if err != nil {
			return
		}
		// Let the mutations reach the log.
		j.BlockSize, j.MaxLen, j.checksumOK = 1024, uint32(len(b)/1024), true
		j.Incompat &= journalIncompatKnown &^ JournalIncompatFastCommit
		n, reads := uint64(j.MaxLen), uint64(0)
		r, err := WalkJournal(j, n, func(n uint32, buf []byte) error {
			reads++
			return journalBytes(b)(n, buf)
		}, func(n uint32, _ JournalBlockKind) {
			if n >= j.MaxLen {
				t.Fatalf("block %d of %d is live", n, j.MaxLen)
			}
		})
		if err != nil {
			return
		}
		if reads > 600*(n+1) {
			t.Fatalf("%d reads for %d blocks", reads, n)
		}
		for _, c := range r.Replay.From(0) {
			if c.Block >= j.MaxLen {
				t.Fatalf("replay from block %d of %d", c.Block, j.MaxLen)
			}
		}
	})
}
