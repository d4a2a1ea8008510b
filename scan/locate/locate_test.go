package locate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/ext"
)

// A disk is bytes, all known.
type disk []byte

func (d disk) Size() int64 { return int64(len(d)) }

func (d disk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(d).ReadAt(p, off) }

func (d disk) NextRun(off int64) (start, end int64, err error) {
	if off >= d.Size() {
		return 0, 0, io.EOF
	}
	return off, d.Size(), nil
}

// make returns a filesystem that mke2fs makes, and where dumpe2fs says that its
// superblocks are, in blocks.
func makeFS(t *testing.T, size int64, options string) (fs []byte, blockSize int64, supers []int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{"-qF", "-L", "lost"}, strings.Fields(options)...), path)
	if out, err := exec.Command("mke2fs", args...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	out, err := exec.Command("dumpe2fs", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	number := func(re string) (list []int64) {
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(string(out), -1) {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
		return list
	}
	if fs, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return fs, number(`(?m)^Block size: +(\d+)$`)[0], number(`(?:Primary|Backup) superblock at (\d+)`)
}

func find(t *testing.T, img disk, everywhere bool) *Result {
	t.Helper()
	var last, total int64
	r, err := Find(t.Context(), img, Options{Everywhere: everywhere, Progress: func(done, all int64) {
		if done < last {
			t.Errorf("progress went back from %d to %d", last, done)
		}
		last, total = done, all
	}})
	if err != nil {
		t.Fatal(err)
	}
	if everywhere && (last != total || total != img.Size()) {
		t.Errorf("looked at %d of %d", last, total)
	}
	return r
}

// TestFind finds the superblocks that dumpe2fs lists, of filesystems of all kinds
// at places of all kinds, with the primary and without it.
func TestFind(t *testing.T) {
	for _, options := range []string{
		"-t ext4 -b 1024", "-t ext4 -b 1024 -g 1024", "-t ext4 -b 1024 -g 1024 -O ^sparse_super,^resize_inode", "-t ext4 -b 2048 -g 2048 -O meta_bg,^resize_inode",
		"-t ext4 -b 1024 -g 1024 -O sparse_super2", "-t ext2 -b 4096 -g 1024", "-t ext4 -b 4096 -g 2048 -O ^metadata_csum,^64bit", "-t ext4 -b 1024 -O bigalloc -C 16384 -N 64",
	} {
		fs, blockSize, supers := makeFS(t, 12<<20, options)
		for _, start := range []int{0, 63 * 512, 1<<20 - 512} {
			for _, damaged := range []bool{false, true} {
				img := make(disk, start+len(fs)+5000)
				copy(img[start:], fs)
				want := slices.Clone(supers)
				if damaged {
					clear(img[start:][:2048])
					want = want[1:]
				}
				r := find(t, img, true)
				name := fmt.Sprintf("%s at %d, damaged %v", options, start, damaged)
				if len(want) == 0 {
					if len(r.Filesystems) != 0 {
						t.Errorf("%s: found %+v", name, r.Filesystems)
					}
					continue
				}
				if len(r.Filesystems) != 1 {
					t.Errorf("%s: %d filesystems: %+v", name, len(r.Filesystems), r.Filesystems)
					continue
				}
				f := r.Filesystems[0]
				var got []int64
				for _, p := range f.Places {
					got = append(got, int64(p.Block))
					at := int64(start) + int64(p.Block)*blockSize
					if p.Group == 0 {
						at = int64(start) + ext.SuperblockOffset
					}
					if p.Offset != at {
						t.Errorf("%s: group %d at byte %d, want %d", name, p.Group, p.Offset, at)
					}
				}
				if !slices.Equal(got, want[:min(len(want), MaxPlaces)]) || f.MorePlaces != uint64(len(want)-len(got)) {
					t.Errorf("%s: blocks %v and %d more, want %v", name, got, f.MorePlaces, want)
				}
				if f.Start != int64(start) || !f.Root || f.Super.Label() != "lost" || len(f.Strays) > 0 {
					t.Errorf("%s: from %d, root %v, label %q, strays %v", name, f.Start, f.Root, f.Super.Label(), f.Strays)
				}
			}
		}
	}
}

// TestUsual finds the copies where mke2fs puts them, for each block size.
func TestUsual(t *testing.T) {
	for _, blockSize := range []int{1024, 2048} {
		fs, _, supers := makeFS(t, 130<<20, fmt.Sprint("-t ext4 -b ", blockSize))
		clear(fs[:4096])
		r := find(t, fs, false)
		if len(r.Filesystems) != 1 || len(r.Filesystems[0].Places) != len(supers)-1 || r.Filesystems[0].Start != 0 {
			t.Errorf("blocks of %d: %+v", blockSize, r.Filesystems)
		}
		// What begins later says so itself.
		if r = find(t, append(make(disk, 1<<20), fs...), false); len(r.Filesystems) > 0 {
			t.Errorf("blocks of %d: %+v at the wrong place", blockSize, r.Filesystems)
		}
	}
	fs, _, _ := makeFS(t, 8<<20, "-t ext4 -b 1024")
	r := find(t, append(make(disk, 8<<20), fs...), false)
	if len(r.Filesystems) != 1 || r.Filesystems[0].Start != 8<<20 || r.Filesystems[0].Places[0].Group != 0 {
		t.Errorf("one that begins where a copy would be: %+v", r.Filesystems)
	}
}

// TestStrays tells the superblocks of a filesystem from those in its journal and
// in files, and a filesystem in a file from both.
func TestStrays(t *testing.T) {
	fs, _, supers := makeFS(t, 24<<20, "-t ext4 -b 1024")
	inner, _, _ := makeFS(t, 1<<20, "-t ext2 -b 1024")
	img := append(make(disk, 1<<20), fs...)
	const journal, file, copied, vm = 20<<20 + 1024, 21<<20 + 512, 22 << 20, 23 << 20
	super := img[1<<20+1024:][:1024]
	copy(img[journal:], super)
	copy(img[file:], super)
	copy(img[copied:], img[1<<20+8193*1024:][:1024]) // of group 1
	copy(img[vm:], inner)
	r := find(t, img, true)
	if len(r.Filesystems) != 2 {
		t.Fatalf("%+v", r.Filesystems)
	}
	f := r.Filesystems[0]
	if f.Start != 1<<20 || len(f.Places) != len(supers) || !slices.Equal(f.Strays, []int64{journal, file, copied}) {
		t.Errorf("from %d, %d places, strays %v", f.Start, len(f.Places), f.Strays)
	}
	if in := r.Filesystems[1]; in.Start != vm || !in.Root || !f.Holds(in.Start) {
		t.Errorf("inside: %+v", in)
	}

	// The start is in another place than the image's: that of a copy is enough.
	cut := img[1<<20+8192*1024:]
	r = find(t, cut, true)
	if len(r.Filesystems) == 0 || r.Filesystems[0].Start != -8192*1024 {
		t.Errorf("cut: %+v", r.Filesystems)
	}
}

// A cycle is a disk that comes again and again.
type cycle struct {
	disk
	size int64
}

func (c cycle) Size() int64 { return c.size }

func (c cycle) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], c.disk[(off+int64(n))%int64(len(c.disk)):])
	}
	return n, nil
}

func (c cycle) NextRun(off int64) (start, end int64, err error) { return off, c.size, nil }

// TestBounds has no more kept than the bounds say.
func TestBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	fs, _, _ := makeFS(t, 1<<20, "-t ext2 -b 1024")
	super := fs[1024:2048]
	img := make(disk, 4<<20)
	for at := 0; at < len(img); at += 1024 {
		copy(img[at:], super)
	}
	r := find(t, img, true)
	total := r.LeftOut
	for _, f := range r.Filesystems {
		total += uint64(len(f.Places)) + f.MorePlaces + uint64(len(f.Strays)) + f.MoreStrays
	}
	if len(r.Filesystems) > maxLone || r.LeftOut == 0 || total != 4<<10 {
		t.Errorf("%d filesystems, %d left out, %d in all", len(r.Filesystems), r.LeftOut, total)
	}
	// More than are decoded.
	r, err := Find(t.Context(), cycle{img, 2 * maxDecoded * 1024}, Options{Everywhere: true})
	if err != nil {
		t.Fatal(err)
	}
	total = 0
	for _, f := range r.Filesystems {
		total += uint64(len(f.Places)) + f.MorePlaces + uint64(len(f.Strays)) + f.MoreStrays
	}
	if total+r.LeftOut != 2*maxDecoded || r.LeftOut < maxDecoded {
		t.Errorf("%d left out, %d in all", r.LeftOut, total)
	}
	// Each of another UUID.
	for at := 0; at < len(img); at += 1024 {
		copy(img[at+0x68:], fmt.Sprintf("%016d", at))
	}
	if r = find(t, img, true); len(r.Filesystems) != maxFilesystems || r.LeftOut != 4<<10-maxFilesystems {
		t.Errorf("%d filesystems, %d left out", len(r.Filesystems), r.LeftOut)
	}
}

// bad is a disk of which a part cannot be read.
type bad struct {
	disk
	start, end int64
}

func (b bad) ReadAt(p []byte, off int64) (int, error) {
	if off < b.end && off+int64(len(p)) > b.start {
		return 0, errors.New("bad sector")
	}
	return b.disk.ReadAt(p, off)
}

// TestUnreadable skips what cannot be read, and says how much that was.
func TestUnreadable(t *testing.T) {
	fs, _, supers := makeFS(t, 24<<20, "-t ext4 -b 1024")
	r, err := Find(t.Context(), bad{fs, 0, 4096}, Options{Everywhere: true})
	if err != nil || r.Unreadable != small || len(r.Filesystems) != 1 || len(r.Filesystems[0].Places) != len(supers)-1 {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, disk(fs), Options{Everywhere: true}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// holes is a disk of which only some runs are known.
type holes struct {
	disk
	runs [][2]int64
}

func (h holes) NextRun(off int64) (start, end int64, err error) {
	for _, r := range h.runs {
		if off < r[1] {
			return max(off, r[0]), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

// TestHoles looks at what is known, wherever a run of it begins and ends.
func TestHoles(t *testing.T) {
	fs, _, _ := makeFS(t, 1<<20, "-t ext2 -b 1024")
	const start = 1<<20 - 1536 // so that the superblock is on both sides of a piece, and of a page
	img := append(make(disk, start), fs...)
	for _, runs := range [][][2]int64{
		{{start, start + int64(len(fs))}},
		{{start + 1024, start + 1024 + 600}, {1 << 20, 1<<20 + 4096}},
		{{start + 1024, start + 1024 + 100}},
	} {
		r, err := Find(t.Context(), holes{img, runs}, Options{Everywhere: true})
		if err != nil || len(r.Filesystems) != 1 || r.Filesystems[0].Start != start {
			t.Errorf("%v: %+v, %v", runs, r, err)
		}
	}
}

// A counted counts how often it is asked for a run: a file answers slowly.
type counted struct {
	disk
	asked *int
}

func (c counted) NextRun(off int64) (start, end int64, err error) {
	*c.asked++
	return c.disk.NextRun(off)
}

// TestRunsAreAskedOnce asks once for a run of many pieces.
func TestRunsAreAskedOnce(t *testing.T) {
	asked := 0
	if _, err := Find(t.Context(), counted{make(disk, 20*piece), &asked}, Options{Everywhere: true}); err != nil || asked > 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// FuzzFind looks for what is not bounded or does not lie on the disk.
// lossy is a disk of 4 EiB with a filesystem at its start, of which ranges are lost.
type lossy struct {
	disk
	lost [][2]int64
	t    *testing.T
}

func (l lossy) Size() int64 { return 4 << 60 }

func (l lossy) NextRun(off int64) (start, end int64, err error) {
	if off >= l.Size() {
		return 0, 0, io.EOF
	}
	return off, l.Size(), nil
}

func (l lossy) NextLost(off int64) (start, end int64, err error) {
	for _, r := range l.lost {
		if off < r[1] {
			return max(off, r[0]), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

func (l lossy) ReadAt(p []byte, off int64) (int, error) {
	if start, _, err := l.NextLost(off); err == nil && start < off+int64(len(p)) {
		l.t.Errorf("%d bytes at %d are read, though what begins at %d is lost", len(p), off, start)
	}
	return l.disk.ReadAt(p, off)
}

// TestLost looks at a disk of which almost all is known to be lost: that is not
// read, and hides no superblock beside it.
func TestLost(t *testing.T) {
	fs, blockSize, supers := makeFS(t, 32<<20, "-t ext4 -b 1024")
	img := lossy{disk: fs, t: t}
	var unreadable int64
	for _, b := range supers[1:] {
		at := b * blockSize
		img.lost = append(img.lost, [2]int64{at - 512, at}, [2]int64{at + ext.SuperblockSize, at + ext.SuperblockSize + 100})
		unreadable += 512 + 512
	}
	img.lost = append(img.lost, [2]int64{int64(len(fs)), img.Size()})
	unreadable += img.Size() - int64(len(fs))
	r, err := Find(t.Context(), img, Options{Everywhere: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Filesystems) != 1 || len(r.Filesystems[0].Places) != len(supers) {
		t.Errorf("found %+v, want a filesystem with %d superblocks", r.Filesystems, len(supers))
	}
	if r.Unreadable != unreadable {
		t.Errorf("%d bytes are unreadable, want %d", r.Unreadable, unreadable)
	}
}

func FuzzFind(f *testing.F) {
	path := filepath.Join(f.TempDir(), "fs")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		f.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-qF", "-t", "ext2", "-b", "1024", "-N", "16", path).CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	fs, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fs)
	f.Add(append(make([]byte, 512), fs...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, everywhere := range []bool{false, true} {
			r := find(t, b, everywhere)
			for _, fs := range r.Filesystems {
				if fs.Size() < 0 || len(fs.Places) == 0 || len(fs.Places) > MaxPlaces {
					t.Fatalf("%+v", fs)
				}
				for _, p := range fs.Places {
					if p.Offset < 0 || p.Offset > int64(len(b))-ext.SuperblockSize || fs.Start > p.Offset {
						t.Fatalf("%+v", fs)
					}
				}
			}
		}
	})
}
