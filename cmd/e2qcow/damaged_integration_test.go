package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/testfs"
)

// TestDamaged dumps the damaged filesystems of testdata/damaged and asks
// whether e2fsck is told the same story by the dump.
func TestDamaged(t *testing.T) {
	tool := testfs.Build(t)
	host := hostFiles(t)
	recipes := readRecipes(t, filepath.Join("..", "..", "testdata", "damaged"))
	if len(recipes) < 60 {
		t.Errorf("%d cases, want 60 at least", len(recipes))
	}
	if testing.Short() {
		var few []recipe
		for i := 0; i < len(recipes); i += 4 {
			few = append(few, recipes[i])
		}
		recipes = few
	}
	made := make(map[string]*base)
	for _, r := range recipes {
		outer := t
		t.Run(r.name, func(t *testing.T) {
			b := made[r.base]
			if b == nil { // made before the next case begins, and only if a case needs it
				b = makeBase(outer, host, r.base)
				made[r.base] = b
			}
			t.Parallel()
			source := r.make(t, b)
			keepDamaged(t, source)
			f := judgeDamaged(t, tool, b, source, r.fsck)
			r.checkShown(t, b, source, f)
			f.compare(t, "probes", len(f.probes) > 0, r.allow)
			f.compare(t, "clones", len(f.clones) > 0, r.allow)
			f.compare(t, "truncation", len(f.cut) > 0, r.allow)
			f.compare(t, "relocation", len(f.moved) > 0, r.allow)
			f.compare(t, "unstable", f.unstable, r.allow)
			if len(f.contents) != r.contents {
				t.Errorf("%d KiB of file contents in the dump, %d of them read by e2fsck, want %d: KiB %d",
					len(f.contents), f.parsed, r.contents, f.contents[:min(len(f.contents), 10)])
			}
		})
	}
}

// checkShown checks that the case has done damage: e2fsck or the tool says what
// the case expects, which neither says of the sound filesystem, or e2fsck exits
// with another status than 0 and than for the sound filesystem. Damage that shows
// nowhere has to be stated as harmless, and has to change the filesystem.
func (r *recipe) checkShown(t *testing.T, b *base, source string, f *findings) {
	t.Helper()
	sound := b.sound(t, r.fsck)
	shown := len(r.says) > 0
	for _, text := range r.says {
		if !strings.Contains(f.said, text) && !strings.Contains(f.reported, text) {
			t.Errorf("neither e2fsck nor e2qcow says %q of the damage:\n%.3000s\n%s", text, f.said, f.reported)
		}
		for _, v := range sound {
			if strings.Contains(v.Text, text) {
				t.Errorf("e2fsck says %q of the sound filesystem too", text)
			}
		}
	}
	for i, exit := range f.exits {
		shown = shown || exit != 0 && exit != sound[i].Exit
	}
	switch {
	case !shown && r.harmless == "":
		t.Errorf("no damage shows: e2fsck exits %d\n%.3000s\n%s", f.exits, f.said, f.reported)
	case shown && r.harmless != "":
		t.Errorf("stated as harmless, but e2fsck exits %d:\n%.3000s", f.exits, f.said)
	case testfs.Size(t, source) == testfs.Size(t, b.path) && testfs.Difference(t, source, b.path) < 0:
		t.Error("the case changes nothing")
	}
}

// keepDamaged copies a damaged filesystem to the folder that the environment
// variable DAMAGED names, under the test's name, for somebody to look at.
func keepDamaged(t *testing.T, source string) {
	t.Helper()
	dir := os.Getenv("DAMAGED")
	if dir == "" {
		return
	}
	to := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".img")
	if out, err := exec.Command("cp", "--sparse=always", "--", source, to).CombinedOutput(); err != nil {
		t.Fatalf("keeping the filesystem: %v\n%s", err, out)
	}
}

// Findings are what a dump has to be excused for.
type findings struct {
	said     string  // by e2fsck of the source
	exits    []int   // of e2fsck, for each of the options that it is asked with
	reported string  // by the tool when it dumped the source
	probes   []int64 // KiB read in search of a superblock, where none is
	clones   []int64 // KiB that e2fsck copies so that two files no longer share them
	cut      []int64 // KiB that e2fsck zeroes the end of, where a file is cut off
	slack    []int64 // KiB whose end is zero in the dump, for it is nobody's
	moved    []int64 // KiB where e2fsck makes new bitmaps and inode tables
	unstable bool    // e2fsck does not say the same of the same filesystem twice
	contents []int64 // KiB of file contents in the dump
	parsed   int     // how many of them e2fsck reads
}

// compare checks that an excuse is needed exactly where the case says so.
func (f *findings) compare(t *testing.T, what string, got bool, allowed map[string]bool) {
	t.Helper()
	if got != allowed[what] {
		t.Errorf("%s: %t, and the case says %t (KiB probed %d, cloned %d)", what, got, allowed[what], f.probes, f.clones)
	}
}

// judgeDamaged dumps and restores the source and has everybody judge.
func judgeDamaged(t *testing.T, tool testfs.Tool, b *base, source string, options []string) *findings {
	t.Helper()
	dir := testfs.TempDir(t)
	image, restored := filepath.Join(dir, "meta.qcow2"), filepath.Join(dir, "restored.img")
	dumped := tool.Run(t, "-Q", source, image)
	if dumped.Exit != 0 {
		t.Fatalf("e2qcow -Q: exit %d\n%s", dumped.Exit, dumped.Stderr)
	}
	if v := testfs.QemuCheck(t, image); v.Exit != 0 {
		t.Errorf("qemu-img check: exit %d\n%s", v.Exit, v.Text)
	}
	tool.Restore(t, image, restored)
	testfs.QemuConvert(t, image, filepath.Join(dir, "qemu.img"))
	if at := testfs.Difference(t, restored, filepath.Join(dir, "qemu.img")); at >= 0 {
		t.Errorf("restored image and that of qemu-img convert differ at byte %d", at)
	}
	if got, want := testfs.Size(t, restored), testfs.Size(t, source)&^511; got != want {
		t.Errorf("restored image has %d bytes, want %d", got, want)
	}
	whole, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	slack := b.slackOf(t, "-fn", whole)
	for _, missing := range testfs.Missing(t, restored, source, 512) {
		if slack[missing/2] == 0 {
			t.Errorf("sector %d of the restored image is neither zero nor the source's", missing)
		}
	}

	f := &findings{reported: dumped.Stderr}
	read := make(map[int64]bool)
	for _, option := range options {
		v := f.sameStory(t, option, source, restored)
		f.said += v.Text
		f.exits = append(f.exits, v.Exit)
		traced := source
		if option != "-fn" {
			traced = testfs.Copy(t, source)
		}
		reads := inKiB(testfs.FsckReads(t, traced, option))
		for _, r := range reads {
			read[r.Start/1024] = true
		}
		f.excuse(t, option, whole, restored, b, withoutValues(t, source, option, testfs.Unlike(t, source, restored, reads)))
	}
	seen := make(map[int64]bool)
	for _, off := range testfs.Canaries(t, restored) {
		if !seen[off/1024] && read[off/1024] {
			f.parsed++
		}
		seen[off/1024] = true
	}
	f.contents = slices.Sorted(maps.Keys(seen))
	return f
}

// inKiB cuts ranges at every KiB.
func inKiB(ranges []testfs.Range) []testfs.Range {
	var cut []testfs.Range
	for _, r := range ranges {
		for at := r.Start; at < r.End; {
			next := min(r.End, (at/1024+1)*1024)
			cut = append(cut, testfs.Range{Start: at, End: next})
			at = next
		}
	}
	return cut
}

// sameStory checks that e2fsck says and does the same with source and restored
// image, and returns its verdict on the source. Where it is not of one mind
// about the source itself, only what it always says is compared.
func (f *findings) sameStory(t *testing.T, option, source, restored string) testfs.Verdict {
	t.Helper()
	ask := func(path string) testfs.Verdict {
		if option != "-fn" { // which writes nothing
			path = testfs.Copy(t, path)
		}
		v := testfs.Fsck(t, path, option)
		if strings.Contains(v.Text, "Signal (") { // e2fsck has crashed, and tells addresses of its own
			v.Text = addressRE.ReplaceAllString(v.Text, "ADDRESS")
		}
		return v
	}
	want, got := ask(source), ask(restored)
	if want == got {
		return want
	}
	lines := strings.Split(want.Text, "\n")
	stable := slices.Repeat([]bool{true}, len(lines))
	for range 4 {
		again := ask(source)
		other := strings.Split(again.Text, "\n")
		f.unstable = f.unstable || again != want
		for i := range lines {
			stable[i] = stable[i] && i < len(other) && lines[i] == other[i]
		}
	}
	if f.unstable {
		other := strings.Split(got.Text, "\n")
		for i, line := range lines {
			if stable[i] && (i >= len(other) || other[i] != line) {
				t.Errorf("e2fsck %s always says of the source %q, but not of the restored image", option, line)
			}
		}
		t.Logf("e2fsck %s is not of one mind about the source:\n%s", option, cmp.Diff(want, got))
		return want
	}
	same(t, "e2fsck "+option, want, got)
	return want
}

var addressRE = regexp.MustCompile(`0x[0-9a-f]+`)

// excuse sorts out what e2fsck reads and the restored image lacks: places
// that hold no superblock, blocks that are copied for a second file, and those
// that are read only to be written over.
func (f *findings) excuse(t *testing.T, option string, image []byte, restored string, b *base, unlike []testfs.Range) {
	t.Helper()
	if len(unlike) == 0 {
		return
	}
	dumped, err := os.ReadFile(restored)
	if err != nil {
		t.Fatal(err)
	}
	slack := b.slackOf(t, option, image)
	probed, shared := probedPlaces(image), b.claimedTwice(t, f.said)
	moved := b.relocated(t, f.said)
	// Where e2fsck finds no filesystem at all, it asks libblkid what else it may be.
	lost := strings.Contains(f.said, noFilesystem)
	var missing []int64
	for _, r := range unlike {
		kib := r.Start / 1024
		switch {
		case (probed[kib] || lost) && !hasMagic(image[kib*1024:]):
			f.probes = append(f.probes, kib)
		case slack[kib] > 0 && endsAt(dumped, image, kib, slack[kib]):
			f.slack = append(f.slack, kib)
		case option == "-fy" && shared[kib]:
			f.clones = append(f.clones, kib)
		case option == "-fy" && moved[kib]:
			f.moved = append(f.moved, kib)
		case option == "-fy" && strings.Contains(f.said, "Truncating orphaned inode") && len(f.cut) < strings.Count(f.said, "Truncating orphaned inode"):
			f.cut = append(f.cut, kib)
		default:
			missing = append(missing, kib)
		}
	}
	if len(missing) > 0 {
		t.Errorf("e2fsck %s reads %d KiB that are not in the restored image: KiB %d", option, len(missing), missing[:min(len(missing), 20)])
	}
}

// noFilesystem is what e2fsck says where it finds no superblock.
const noFilesystem = "The superblock could not be read or does not describe a valid"

// The fields of a superblock that say where its copies are, its magic number and
// its revision.
const (
	sbFirstDataBlock = 0x14
	sbLogBlockSize   = 0x18
	sbBlocksPerGroup = 0x20
	sbMagic          = 0x38
	sbRevision       = 0x4C
)

func hasMagic(super []byte) bool {
	return len(super) > sbMagic+2 && binary.LittleEndian.Uint16(super[sbMagic:]) == 0xEF53
}

// anySuperblock tells whether an image has a superblock in any place where
// e2fsck would find one.
func anySuperblock(image []byte) bool {
	if hasMagic(image[1024:]) {
		return true
	}
	for kib := range probedPlaces(image) {
		if hasMagic(image[kib*1024:]) {
			return true
		}
	}
	return false
}

// probedPlaces returns the KiB of an image in which e2fsck may look for a
// superblock: where mke2fs puts the copies with each block size, and where
// the superblock, be it right or wrong, says that groups begin.
func probedPlaces(image []byte) map[int64]bool {
	places := make(map[int64]bool)
	add := func(blockSize, first, perGroup uint64) {
		for g := uint64(1); g*perGroup*blockSize < uint64(len(image)) && perGroup > 0; g++ {
			places[int64((first+g*perGroup)*blockSize/1024)] = true
		}
	}
	for bs := uint64(1024); bs <= 65536; bs *= 2 {
		add(bs, 1024/bs, 8*bs)
	}
	super := image[1024:]
	field := func(off int) uint64 { return uint64(binary.LittleEndian.Uint32(super[off:])) }
	if field(sbLogBlockSize) <= 6 {
		add(1024<<field(sbLogBlockSize), field(sbFirstDataBlock), field(sbBlocksPerGroup))
	}
	for place := range places {
		if (place+1)*1024 > int64(len(image)) {
			delete(places, place)
		}
	}
	return places
}

// claimedTwice returns the KiB that e2fsck finds to belong to several files.
func (b *base) claimedTwice(t *testing.T, said string) map[int64]bool {
	t.Helper()
	l, err := b.layout()
	if err != nil {
		t.Fatal(err)
	}
	shared := make(map[int64]bool)
	for _, m := range sharedRE.FindAllStringSubmatch(said, -1) {
		for _, word := range strings.Fields(m[1]) {
			first, last, isRange := strings.Cut(word, "--")
			if !isRange {
				last = first
			}
			lo, err1 := strconv.ParseInt(first, 10, 64)
			hi, err2 := strconv.ParseInt(last, 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			// What is copied are whole clusters.
			lo, hi = lo*l.blockSize/l.clusterSize*l.clusterSize, hi*l.blockSize/l.clusterSize*l.clusterSize+l.clusterSize
			for at := lo; at < hi; at += 1024 {
				shared[at/1024] = true
			}
		}
	}
	return shared
}

var sharedRE = regexp.MustCompile(`Multiply-claimed block\(s\) in inode \d+:([ 0-9-]*)`)

// slackOf returns the KiB of an image of which an end is nobody's, with the
// byte at which it begins: what lies behind the target of the slow symlink,
// and behind the last inode that a descriptor of the image says was ever used:
// to the end of its block and, where e2fsck repairs and may make inodes, to the
// end of the next.
func (b *base) slackOf(t *testing.T, option string, image []byte) map[int64]int64 {
	t.Helper()
	slack := make(map[int64]int64)
	if strings.HasPrefix(b.name, "journal-dev") {
		return slack
	}
	l, err := b.layout()
	if err != nil {
		t.Fatal(err)
	}
	add := func(from, end int64) {
		end = min(end, int64(len(image)))
		for kib := from / 1024; kib*1024 < end; kib++ {
			slack[kib] = from
		}
	}
	start := b.number(t, "bmap /slow 0", `(?m)^(\d+)`, 0) * l.blockSize
	if end := start + l.blockSize; end <= int64(len(image)) {
		if n := bytes.IndexByte(image[start:end], 0); n >= 0 {
			add(start+int64(n), end)
		}
	}
	const itableUnused = 0x1C
	inodeSize := l.inodeSize
	if binary.LittleEndian.Uint32(image[1024+sbRevision:]) == 0 {
		inodeSize = 128
	}
	for g := range l.groups {
		desc, table := l.desc(int64(g), 0), l.groups[g].table*l.blockSize
		if desc+l.descSize > int64(len(image)) {
			continue
		}
		unused := int64(binary.LittleEndian.Uint16(image[desc+itableUnused:]))
		used := max(0, l.inodesPerGroup-unused) * inodeSize
		end := (used + l.blockSize - 1) / l.blockSize * l.blockSize
		if option == "-fy" {
			end += l.blockSize
		}
		add(table+used, table+min(end, l.tableBlocks*l.blockSize))
	}
	return slack
}

// endsAt tells whether a KiB of dumped is that of the image up to the byte at
// end, and zero from there.
func endsAt(dumped, image []byte, kib, end int64) bool {
	want := bytes.Clone(image[kib*1024 : (kib+1)*1024])
	clear(want[max(0, end-kib*1024):])
	return bytes.Equal(dumped[kib*1024:(kib+1)*1024], want)
}

// relocated returns the KiB to which e2fsck moves bitmaps and inode tables.
func (b *base) relocated(t *testing.T, said string) map[int64]bool {
	t.Helper()
	l, err := b.layout()
	if err != nil {
		t.Fatal(err)
	}
	moved := make(map[int64]bool)
	for _, m := range movedRE.FindAllStringSubmatch(said, -1) {
		block, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(1)
		if m[1] == "inode table" {
			n = l.tableBlocks
		}
		for at := block * l.blockSize; at < (block+n)*l.blockSize; at += 1024 {
			moved[at/1024] = true
		}
	}
	return moved
}

var movedRE = regexp.MustCompile(`Relocating group \d+'s ([a-z ]*) (?:from \d+ )?to (\d+)`)
