package scrub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

const journalMagic = 0xC03B3998

// A rename stands for scrubbing: it puts words in the place of others of the
// same length, keeps the sums of directory blocks, and makes zeros of blocks
// that are no metadata.
type rename struct {
	from, to string
	data     func(block uint64) bool // whether a block is no metadata
}

func (r *rename) metadata(block uint64, b []byte) {
	if r.data(block) {
		clear(b)
		return
	}
	sum := func() uint32 { s, _, _ := ext.DirBlockChecksum(0, b); return s }
	before := sum()
	if n := copy(b, bytes.ReplaceAll(b, []byte(r.from), []byte(r.to))); n != len(b) {
		panic("the words differ in length")
	}
	if _, at, ok := ext.DirBlockChecksum(0, b); ok && before != sum() {
		binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])^before^sum())
	}
	// Blocks that need an escape before, after, or both.
	if bytes.HasPrefix(b, []byte("gain")) {
		binary.BigEndian.PutUint32(b, journalMagic)
	} else if len(b) > 8 && binary.BigEndian.Uint32(b) == journalMagic && string(b[4:8]) == "lose" {
		copy(b, "lost")
	}
}

func (r *rename) name(_ uint32, b []byte) {
	copy(b, bytes.ReplaceAll(b, []byte(r.from), []byte(r.to)))
}

func (r *rename) text(s string) string { return strings.ReplaceAll(s, r.from, r.to) }

// A journalled filesystem is the bytes of one, and where its journal lies.
type journalled struct {
	data      []byte
	blockSize int
	journal   []uint64
}

func openJournalled(t testing.TB, path string) *journalled {
	t.Helper()
	f := &journalled{}
	var err error
	if f.data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	ranges := testfs.Blocks(t, path, "<8>")
	f.blockSize = int(ranges[0].End - ranges[0].Start)
	for _, r := range ranges {
		f.journal = append(f.journal, uint64(r.Start)/uint64(f.blockSize))
	}
	return f
}

func (f *journalled) block(n uint64) []byte {
	return f.data[n*uint64(f.blockSize):][:f.blockSize]
}

func (f *journalled) readJournal(n uint32, buf []byte) error {
	if int(n) >= len(f.journal) {
		return errors.New("beyond the end of the journal")
	}
	copy(buf, f.block(f.journal[n]))
	return nil
}

func (f *journalled) superblock(t testing.TB) *ext.JournalSuperblock {
	t.Helper()
	jsb, err := ext.DecodeJournalSuperblock(f.block(f.journal[0]))
	if err != nil {
		t.Fatal(err)
	}
	return jsb
}

// index makes the index of the journal, if it has a superblock.
func (f *journalled) index(t testing.TB, s journalScrub) *journalIndex {
	t.Helper()
	jsb, err := ext.DecodeJournalSuperblock(f.block(f.journal[0]))
	if err != nil {
		jsb = nil
	}
	x, err := newJournalIndex(context.Background(), jsb, f.blockSize, uint64(len(f.journal)), f.readJournal, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func (f *journalled) scrubWith(r *rename) journalScrub {
	return journalScrub{
		keys: newKeyring([KeySize]byte{9}), lim: &limits{blockSize: uint64(f.blockSize), blocks: uint64(len(f.data) / f.blockSize), inodes: 1 << 20},
		blocks:   uint64(len(f.data) / f.blockSize),
		metadata: r.metadata,
		name:     r.name,
		inode:    func(_ uint32, in ext.Inode) { r.name(0, in) },
	}
}

// scrubbed returns a scrubbed copy, of which several goroutines make the blocks.
func (f *journalled) scrubbed(t testing.TB, r *rename) *journalled {
	t.Helper()
	out := &journalled{bytes.Clone(f.data), f.blockSize, f.journal}
	x := f.index(t, f.scrubWith(r))
	place := make(map[uint64]uint32, len(f.journal))
	for i, n := range f.journal {
		place[n] = uint32(i)
	}
	blocks := uint64(len(f.data) / f.blockSize)
	var wg sync.WaitGroup
	for part := range uint64(2) {
		wg.Go(func() {
			for n := part; n < blocks; n += 2 {
				if i, ok := place[n]; ok {
					x.block(i, out.block(n))
				} else {
					r.metadata(n, out.block(n))
				}
			}
		})
	}
	wg.Wait()
	return out
}

func (f *journalled) write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(testfs.TempDir(t), "image")
	if err := os.WriteFile(path, f.data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// replayed returns the filesystem as e2fsck leaves it when it replays the
// journal and does nothing else.
func (f *journalled) replayed(t testing.TB) *journalled {
	t.Helper()
	path := f.write(t)
	testfs.Fsck(t, path, "-y", "-E", "journal_only")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &journalled{data, f.blockSize, f.journal}
}

// checkBothDirections checks that a replay of the scrubbed journal gives what
// scrubbing gives once the journal is replayed.
func (f *journalled) checkBothDirections(t *testing.T, r *rename) {
	t.Helper()
	after := f.scrubbed(t, r)
	f.checkWalk(t, after)
	one := after.replayed(t)
	other := f.replayed(t).scrubbed(t, r)
	if len(one.data) != len(other.data) {
		t.Errorf("after replay the images have %d and %d bytes", len(one.data), len(other.data))
	} else {
		for n := range uint64(len(one.data) / f.blockSize) {
			if i := slices.Index(f.journal, n); i <= 0 && !r.data(n) && !bytes.Equal(one.block(n), other.block(n)) {
				t.Errorf("block %d (%d of the journal) differs", n, i)
			}
		}
	}
}

// checkVerdict checks that e2fsck says the same but for the words.
func (f *journalled) checkVerdict(t *testing.T, r *rename) {
	t.Helper()
	want := testfs.Fsck(t, f.write(t), "-f", "-y")
	got := testfs.Fsck(t, f.scrubbed(t, r).write(t), "-f", "-y")
	if r.text(want.Text) != got.Text || want.Exit != got.Exit {
		t.Errorf("e2fsck said, exit %d:\n%s\nand says, exit %d:\n%s", want.Exit, want.Text, got.Exit, got.Text)
	}
}

// checkWalk checks that recovery goes through the scrubbed journal as it did
// through the other.
func (f *journalled) checkWalk(t *testing.T, after *journalled) {
	t.Helper()
	walk := func(f *journalled) *ext.JournalRecovery {
		w, err := ext.WalkJournal(f.superblock(t), uint64(len(f.journal)), f.readJournal, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	was, is := walk(f), walk(after)
	if fmt.Sprint(was.Err) != fmt.Sprint(is.Err) || was.First != is.First || was.End != is.End || was.FastCommits != is.FastCommits ||
		!slices.Equal(was.Log, is.Log) || was.Replay.Len() != is.Replay.Len() {
		t.Errorf("recovery was %d to %d of %d blocks, %d fast commits, %v\nand is %d to %d of %d blocks, %d fast commits, %v",
			was.First, was.End, was.Replay.Len(), was.FastCommits, was.Err, is.First, is.End, is.Replay.Len(), is.FastCommits, is.Err)
	}
}

func (f *journalled) checkWords(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if at := bytes.Index(f.data, []byte(w)); at >= 0 {
			t.Errorf("%q is left at block %d", w, at/f.blockSize)
		}
	}
}

// journalForms are the forms a journal has: what debugfs is told, and mke2fs.
var journalForms = []struct {
	name    string
	version int
	mke2fs  string
}{
	{"32bit", 0, "-t ext4 -O ^64bit,^metadata_csum"},
	{"64bit", 0, "-t ext4 -O 64bit,^metadata_csum"},
	{"32bit csum v1", 1, "-t ext4 -O ^64bit,^metadata_csum"},
	{"64bit csum v1", 1, "-t ext4 -O 64bit,^metadata_csum"},
	{"32bit csum v2", 2, "-t ext4 -O ^64bit,metadata_csum"},
	{"64bit csum v2", 2, "-t ext4 -O 64bit,metadata_csum"},
	{"32bit csum v3", 3, "-t ext4 -O ^64bit,metadata_csum"},
	{"64bit csum v3", 3, "-t ext4 -O 64bit,metadata_csum"},
}

// Blocks of the filesystem that nothing uses; contents of files lie from
// freeData on, structure before.
const (
	freeMetadata = 6000
	freeData     = 6100
	freeEnd      = 6200
)

var secret = &rename{"secret", "public", func(block uint64) bool { return block >= freeData && block < freeEnd }}

// pendingJournal has a journal that turns one tree into another, in three
// transactions that supersede, revoke and escape, and one without an end.
func pendingJournal(t testing.TB, version int, mke2fs string) *journalled {
	t.Helper()
	spec := testfs.Spec{Mke2fs: "-b 1024 -N 256 -J size=1 -E hash_seed=6d796a20-0000-4000-8000-000000000001 " + mke2fs, Size: 8 << 20,
		Debugfs: []string{"mkdir secret-folder", "mkdir secret-folder/secret-inside"}}
	before := openJournalled(t, testfs.Make(t, spec).Path)
	var trees []*journalled
	for range 2 {
		spec.Debugfs = append(spec.Debugfs, fmt.Sprint("mkdir secret-child-", len(trees)), "symlink secret-link"+fmt.Sprint(len(trees))+" "+strings.Repeat("secret/", 20))
		trees = append(trees, openJournalled(t, testfs.Make(t, spec).Path))
	}
	dir := testfs.TempDir(t)
	files := 0
	// write is the command that journals blocks.
	write := func(blocks map[uint64][]byte) string {
		var numbers []string
		var contents []byte
		for _, n := range slices.Sorted(mapKeys(blocks)) {
			numbers = append(numbers, fmt.Sprint(n))
			contents = append(contents, blocks[n]...)
		}
		path := filepath.Join(dir, fmt.Sprint(files))
		files++
		if err := os.WriteFile(path, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		return "jw -b " + strings.Join(numbers, ",") + " " + path
	}
	changed := func(from, to *journalled) map[uint64][]byte {
		blocks := map[uint64][]byte{}
		for n := range uint64(len(from.data) / 1024) {
			if !bytes.Equal(from.block(n), to.block(n)) {
				blocks[n] = to.block(n)
			}
		}
		if len(blocks) < 3 {
			t.Fatal("nothing changes")
		}
		return blocks
	}
	text := func(head string) []byte {
		b := bytes.Repeat([]byte("secret words "), 100)[:1024]
		copy(b, head)
		return b
	}
	magic := string(binary.BigEndian.AppendUint32(nil, journalMagic))
	first := changed(before, trees[0])
	first[freeMetadata] = text("gain")
	first[freeMetadata+1] = text(magic + "lose")
	first[freeMetadata+2] = text(magic + "keep")
	first[freeMetadata+3] = text("none")
	first[freeMetadata+4] = text("revoked")
	for i := range uint64(30) {
		first[freeData+i] = text("data")
	}
	first[freeData+7] = text(magic)
	open := "jo"
	if version > 0 {
		open = fmt.Sprint("jo -c -v ", version)
	}
	commands := []string{open, write(first)}
	if version != 1 { // debugfs leaves revoke blocks out of the sum, and recovery ends there
		commands = append(commands, fmt.Sprintf("jw -r %d,%d-%d", freeMetadata+4, freeData, freeData+9))
	}
	commands = append(commands, write(changed(before, trees[1])), write(map[uint64][]byte{freeMetadata + 3: text(magic + "superseding")}),
		strings.Replace(write(map[uint64][]byte{freeMetadata + 5: text("not committed")}), "jw ", "jw -c ", 1), "jc")
	spec.Debugfs = append(spec.Debugfs[:2:2], commands...)
	return openJournalled(t, testfs.Make(t, spec).Path)
}

func mapKeys[V any](m map[uint64]V) func(func(uint64) bool) {
	return func(yield func(uint64) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestJournalByDebugfs(t *testing.T) {
	t.Parallel()
	for _, c := range journalForms {
		t.Run(c.name, func(t *testing.T) {
			f := pendingJournal(t, c.version, c.mke2fs)
			jsb := f.superblock(t)
			w, err := ext.WalkJournal(jsb, uint64(len(f.journal)), f.readJournal, nil)
			if err != nil || w.Err != nil || w.End-w.First < 3 || w.Replay.Len() < 30 {
				t.Fatalf("recovery of %d to %d, %d blocks: %v, %v", w.First, w.End, w.Replay.Len(), err, w.Err)
			}
			f.checkBothDirections(t, secret)
			f.checkVerdict(t, secret)
			f.scrubbed(t, secret).checkWords(t, "secret")
		})
	}
}

// Where the journal is damaged, e2fsck says of it scrubbed what it says of it.
// RANDOM_DAMAGE says how many cases there are of each form.
func TestJournalDamaged(t *testing.T) {
	t.Parallel()
	cases := 3
	if s := os.Getenv("RANDOM_DAMAGE"); s != "" {
		var err error
		if cases, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range journalForms {
		t.Run(c.name, func(t *testing.T) {
			sound := pendingJournal(t, c.version, c.mke2fs)
			w, err := ext.WalkJournal(sound.superblock(t), uint64(len(sound.journal)), sound.readJournal, nil)
			if err != nil {
				t.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(uint64(i), 5))
			for range cases {
				f := &journalled{bytes.Clone(sound.data), sound.blockSize, sound.journal}
				var what []string
				for range 1 + rnd.IntN(2) {
					n, at := rnd.IntN(70), rnd.IntN(64)
					if rnd.IntN(2) == 0 {
						n = int(w.Log[rnd.IntN(len(w.Log))].Block)
					}
					if rnd.IntN(3) == 0 {
						at = rnd.IntN(1024)
					}
					bit := rnd.IntN(8)
					f.block(f.journal[n])[at] ^= 1 << bit
					what = append(what, fmt.Sprintf("block %d byte %d bit %d", n, at, bit))
				}
				f.checkVerdict(t, secret)
				f.scrubbed(t, secret).checkWords(t, "secret")
				if t.Failed() {
					t.Fatal(strings.Join(what, ", "))
				}
			}
		})
	}
}

// The kernel's journals, with fast commits too.
func TestJournalByKernel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mke2fs string
		fast   bool
	}{
		{"-t ext3 -O extents -b 1024 -J size=4", false},
		{"-t ext4 -b 4096", false},
		{"-t ext4 -b 1024 -J size=4 -O fast_commit", true},
	} {
		t.Run(c.mke2fs, func(t *testing.T) {
			f := openJournalled(t, testfs.Make(t, testfs.Spec{Mke2fs: c.mke2fs, Size: 64 << 20, Fill: testfs.Mounted, Dirty: true}).Path)
			res, err := scan.Scan(context.Background(), bytes.NewReader(f.data), int64(len(f.data)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			metadata := map[uint64]bool{}
			for run := range res.Map.Runs() {
				for n := range run.Count {
					metadata[run.Start+n] = true
				}
			}
			w, err := ext.WalkJournal(f.superblock(t), uint64(len(f.journal)), f.readJournal, nil)
			if err != nil || w.Err != nil || w.Replay.Len() < 10 || c.fast != (w.FastCommits > 0) {
				t.Fatalf("recovery of %d to %d, %d blocks, %d fast commits: %v, %v", w.First, w.End, w.Replay.Len(), w.FastCommits, err, w.Err)
			}
			r := &rename{"file-", "word-", func(n uint64) bool { return !metadata[n] }}
			f.checkBothDirections(t, r)
			f.scrubbed(t, r).checkWords(t, "file-")
		})
	}
}
