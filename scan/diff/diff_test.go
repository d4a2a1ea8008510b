package diff_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/diff"
)

// filesystems are what most tests compare changed copies of.
var filesystems = map[string]testfs.Spec{
	"ext2": {Mke2fs: "-t ext2 -b 1024", Size: 24 << 20, Fill: testfs.Copied},
	"ext4": {Mke2fs: "-t ext4 -b 1024 -O metadata_csum,quota", Size: 32 << 20, Fill: testfs.Copied},
	"4k":   {Mke2fs: "-t ext4 -b 4096 -O inline_data,^metadata_csum", Size: 64 << 20, Fill: testfs.Copied},
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// changed returns a filesystem and a copy of it that debugfs has changed.
func changed(t testing.TB, spec testfs.Spec, commands ...string) (before, after []byte) {
	t.Helper()
	fs := testfs.Make(t, spec)
	path := testfs.Copy(t, fs.Path)
	testfs.DebugfsWrite(t, path, commands...)
	return read(t, fs.Path), read(t, path)
}

func source(b []byte) diff.Source {
	return diff.Source{Reader: bytes.NewReader(b), Size: int64(len(b))}
}

func compare(t testing.TB, a, b []byte, opt diff.Options) *diff.Diff {
	t.Helper()
	d, err := diff.Compare(t.Context(), source(a), source(b), opt)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// text returns a difference as people see it.
func text(t testing.TB, d *diff.Diff, opt diff.TextOptions) string {
	t.Helper()
	var b strings.Builder
	if err := d.WriteText(&b, opt); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSame(t *testing.T) {
	for name, spec := range filesystems {
		t.Run(name, func(t *testing.T) {
			b := read(t, testfs.Make(t, spec).Path)
			if d := compare(t, b, b, diff.Options{Contents: true}); !d.Same() || text(t, d, diff.TextOptions{}) != "" {
				t.Errorf("an image differs from itself: %s", text(t, d, diff.TextOptions{}))
			}
		})
	}
}

// Each change that debugfs makes is told, by its name.
func TestChanges(t *testing.T) {
	for _, spec := range filesystems {
		testfs.Make(t, spec) // once for all cases
	}
	host := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(host, bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spec     string
		commands []string
		want     []string
	}{
		"superblock": {"ext4", []string{"ssv mnt_count 77", "ssv volume_name new\x01name"}, []string{`s_mnt_count 0 -> 77`, `s_volume_name "" -> "new\x01name"`}},
		"inode":      {"ext4", []string{"write " + host + " f", "sif f mode 0100604", "sif f mtime 20300102030405"}, []string{`"/f" created`, `added "/f" (inode`}},
		"entry":      {"ext2", []string{"write " + host + " f", "ln f g\x02h", "unlink f"}, []string{`added "/g\x02h" (inode`}},
		"folder":     {"4k", []string{"mkdir d", "mkdir d/e", "write " + host + " d/e/f"}, []string{`added "/d/e/f"`, `added "/d/e/.."`, `"/d/e" created`, `blocks 0-1: none -> `}},
		"bitmap":     {"ext4", []string{"freeb 1 1", "setb 32001 3"}, []string{"blocks that became used: 3\n  32001-32003\n", "blocks that became free: 1\n  1, superblock\n"}},
		"attribute":  {"ext2", []string{"write " + host + " f", "ea_set f user.word abc"}, []string{`attribute "user.word" added`}},
		"descriptor": {"ext4", []string{"set_bg 1 itable_unused 3"}, []string{"group 1: ", "bg_itable_unused_lo"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := changed(t, filesystems[test.spec], test.commands...)
			d := compare(t, a, b, diff.Options{})
			got := text(t, d, diff.TextOptions{})
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in\n%s", want, got)
				}
			}
			if back := compare(t, b, a, diff.Options{}); back.Same() || back.Blocks != d.Blocks {
				t.Errorf("%d blocks differ one way, %d the other", d.Blocks, back.Blocks)
			}
			if _, err := json.Marshal(d); err != nil {
				t.Error(err)
			}
		})
	}
}

// An entry that moves is one that was renamed; a name that leads elsewhere was
// retargeted; what was deleted is named by where it was.
func TestEntries(t *testing.T) {
	fs := testfs.Make(t, filesystems["ext2"])
	base := testfs.Copy(t, fs.Path)
	testfs.DebugfsWrite(t, base, "mkdir d", "write /dev/null one", "write /dev/null two", "write /dev/null d/three")
	before := read(t, base)
	testfs.DebugfsWrite(t, base, "ln one d/uno", "unlink one", "unlink two", "ln d/three two", "unlink d/three")
	d := compare(t, before, read(t, base), diff.Options{})
	what := make(map[string]diff.Entry)
	for _, e := range d.Entries {
		what[string(e.Name)] = e
	}
	if e := what["uno"]; e.What != diff.Renamed || e.OldName != "one" || e.Path != "/d" || e.OldPath != "/" {
		t.Errorf("uno: %+v", e)
	}
	if e := what["two"]; e.What != diff.Retargeted || e.Inode == e.OldInode {
		t.Errorf("two: %+v", e)
	}
	if e := what["three"]; e.What != diff.Removed || e.Path != "/d" {
		t.Errorf("three: %+v", e)
	}
	if len(d.Entries) != 3 {
		t.Errorf("%d entries: %+v", len(d.Entries), d.Entries)
	}
}

// A patch is what a list of written blocks knows.
type patch struct{ runs [][2]int64 }

func (p patch) NextChange(off int64) (start, end int64, err error) {
	for _, r := range p.runs {
		if off < r[1] {
			return max(r[0], off), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

// With a list of changes nothing else is compared, and all of it is.
func TestListOfChanges(t *testing.T) {
	a, b := changed(t, filesystems["ext4"], "ssv mnt_count 5", "sif <2> mode 040700")
	far := len(b) - 3000 // contents of nobody
	b[far] ^= 1
	whole := compare(t, a, b, diff.Options{Contents: true})
	var p patch
	for _, r := range whole.Runs {
		p.runs = append(p.runs, [2]int64{int64(r.Start) * 1024, int64(r.Start+r.Count) * 1024})
	}
	listed := compare(t, a, b, diff.Options{Changes: p})
	if x, y := text(t, whole, diff.TextOptions{All: true}), text(t, listed, diff.TextOptions{All: true}); x != y {
		t.Errorf("with a list of changes:\n%s\nwithout:\n%s", y, x)
	}
	if whole.Kinds["no known kind"] != 1 {
		t.Errorf("blocks of no known kind: %v", whole.Kinds)
	}
	p.runs = p.runs[:1]
	if d := compare(t, a, b, diff.Options{Changes: p}); len(d.Superblock) == 0 || len(d.Inodes) != 0 {
		t.Errorf("what is not listed is compared: %s", text(t, d, diff.TextOptions{}))
	}
	if d := compare(t, a, b, diff.Options{}); d.Blocks != whole.Blocks-1 {
		t.Errorf("without contents %d blocks, with them %d", d.Blocks, whole.Blocks)
	}
}

// An image of the metadata differs from its source by contents only, also where
// a block of metadata ends in what is nobody's.
func TestImageOfSource(t *testing.T) {
	for name, spec := range filesystems {
		t.Run(name, func(t *testing.T) {
			b := read(t, testfs.Make(t, spec).Path)
			copy(b, "a boot loader") // before the superblock
			res, err := scan.Scan(t.Context(), bytes.NewReader(b), int64(len(b)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			d, err := diff.Compare(t.Context(), source(b), diff.Source{Reader: res.View(), Size: res.View().Size()}, diff.Options{})
			if err != nil || !d.Same() {
				t.Errorf("%v\n%s", err, text(t, d, diff.TextOptions{All: true}))
			}
		})
	}
}

// The blocks that are listed are all that has to be applied.
func TestApply(t *testing.T) {
	fs := testfs.Make(t, filesystems["4k"])
	a, b := changed(t, filesystems["4k"], "unlink /lost+found", "clri <2>", "ssv state 0")
	path := filepath.Join(t.TempDir(), "fs.img")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	testfs.Fsck(t, path, "-fy")
	b = read(t, path)
	applied := slices.Clone(a)
	d := compare(t, a, b, diff.Options{Contents: true})
	for _, r := range d.Runs {
		copy(applied[r.Start*4096:], b[r.Start*4096:(r.Start+r.Count)*4096])
	}
	if !bytes.Equal(applied, b) {
		t.Errorf("%s with the blocks that differ is not what it became", fs.Path)
	}
}

// Results do not depend on threads, nor on whether a source has holes.
func TestThreads(t *testing.T) {
	a, b := changed(t, filesystems["ext4"], "unlink /lost+found", "mkdir q", "ssv lastcheck 20200101")
	want := compare(t, a, b, diff.Options{Scan: scan.Options{Threads: 1}})
	for _, n := range []int{2, 7} {
		if got := compare(t, a, b, diff.Options{Scan: scan.Options{Threads: n}}); !reflect.DeepEqual(got, want) {
			t.Errorf("with %d threads:\n%s\nwith one:\n%s", n, text(t, got, diff.TextOptions{}), text(t, want, diff.TextOptions{}))
		}
	}
	got, err := diff.Compare(t.Context(), diff.Source{Reader: holey{bytes.NewReader(a)}, Size: int64(len(a))}, diff.Source{Reader: holey{bytes.NewReader(b)}, Size: int64(len(b))}, diff.Options{})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of images with holes: %v\n%s", err, text(t, got, diff.TextOptions{}))
	}
}

// A holey image says which of its blocks of 64 KiB are zero.
type holey struct{ *bytes.Reader }

func (h holey) Size() int64 { return h.Reader.Size() }

func (h holey) NextRun(off int64) (start, end int64, err error) {
	const unit = 64 << 10
	buf, zero := make([]byte, unit), make([]byte, unit)
	for at := off / unit * unit; at < h.Size(); at += unit {
		n, _ := h.ReadAt(buf, at)
		if !bytes.Equal(buf[:n], zero[:n]) {
			return max(at, off), min(at+unit, h.Size()), nil
		}
	}
	return 0, 0, io.EOF
}

var _ image.Image = holey{}

func TestTrouble(t *testing.T) {
	small, large := read(t, testfs.Make(t, filesystems["ext2"]).Path), read(t, testfs.Make(t, filesystems["4k"]).Path)
	ctx := t.Context()
	if _, err := diff.Compare(ctx, source(small), source(large), diff.Options{}); !errors.Is(err, diff.ErrBlockSize) {
		t.Errorf("blocks of two sizes: %v", err)
	}
	var side *diff.SideError
	if _, err := diff.Compare(ctx, source(small), source(make([]byte, 1<<20)), diff.Options{}); !errors.Is(err, scan.ErrNotExt) || !errors.As(err, &side) || !side.Second {
		t.Errorf("a second image without a filesystem: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := diff.Compare(ended, source(small), source(small), diff.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("when the context ends: %v", err)
	}
}

// Text is cut to the lines that there are, and says how much is left out.
func TestTextIsCut(t *testing.T) {
	var commands []string
	for i := range 60 {
		commands = append(commands, fmt.Sprintf("mkdir many%d", i))
	}
	a, b := changed(t, filesystems["ext2"], commands...)
	d := compare(t, a, b, diff.Options{})
	for _, n := range []int{1, 3, 8, 20} {
		got := text(t, d, diff.TextOptions{Lines: n})
		if lines := strings.Count(got, "\n"); lines > n || n == 20 && (lines < n || !strings.Contains(got, "more\n")) {
			t.Errorf("%d lines where there are %d:\n%s", lines, n, got)
		}
	}
	if got := text(t, d, diff.TextOptions{List: 5}); !strings.Contains(got, "and 176 more") {
		t.Errorf("lists of five:\n%s", got)
	}
	few := compare(t, a, b, diff.Options{Limit: 50})
	if few.Omitted["inodes"] == 0 || len(few.Inodes) > 50 || few.Same() {
		t.Errorf("with a limit %d inodes are kept, and left out: %v", len(few.Inodes), few.Omitted)
	}
}

// Bytes that a list of directory blocks, a chain of orphans or a quota tree
// can say end in time, whatever they are.
func FuzzCompare(f *testing.F) {
	var bases [][]byte
	for _, options := range []string{"-t ext4 -O metadata_csum,quota,orphan_file,^resize_inode -g 1024 -N 128", "-t ext3 -O ^resize_inode -J size=1 -N 128", "-t ext4 -O inline_data,ea_inode,^metadata_csum,^has_journal -I 512 -N 128"} {
		fs := testfs.Make(f, testfs.Spec{Mke2fs: "-b 1024 " + options, Size: 4 << 20, Debugfs: []string{"mkdir d", "mkdir d/e", "write /etc/passwd d/f", "symlink d/s target", "ea_set d/f user.a bcd"}})
		bases = append(bases, read(f, fs.Path))
	}
	var meta [][]int64 // of each base, the blocks of structure
	for _, b := range bases {
		res, err := scan.Scan(f.Context(), bytes.NewReader(b), int64(len(b)), scan.Options{})
		if err != nil {
			f.Fatal(err)
		}
		var list []int64
		for r := range res.Map.Runs() {
			if r.Kind == scan.Journal {
				r.Count = min(r.Count, 4)
			}
			for k := range r.Count {
				list = append(list, int64(r.Start+k)*1024)
			}
		}
		meta = append(meta, list)
	}
	f.Add(uint8(0), []byte{1, 2, 3, 4, 5, 6})
	f.Add(uint8(1), []byte("some bytes that land in inodes and in directories"))
	f.Add(uint8(2), bytes.Repeat([]byte{0xFF, 0, 9}, 30))
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		i := int(which) % len(bases)
		var sides [2][]byte
		for k := range sides {
			sides[k] = slices.Clone(bases[i])
		}
		// Two bytes say which block, two where in it, two what.
		for n := 0; len(edits) >= 6 && n < 200; edits, n = edits[6:], n+1 {
			at := meta[i][int(binary.LittleEndian.Uint16(edits))%len(meta[i])] + int64(binary.LittleEndian.Uint16(edits[2:])%1023)
			side := sides[edits[3]>>7]
			copy(side[at:], edits[4:6])
		}
		d, err := diff.Compare(t.Context(), source(sides[0]), source(sides[1]), diff.Options{Contents: which&64 != 0, Limit: 5000})
		if err != nil {
			return
		}
		if d.Same() != (d.Blocks == 0) {
			t.Fatalf("the same, and %d blocks differ", d.Blocks)
		}
		if which&64 != 0 && d.Same() != bytes.Equal(sides[0], sides[1]) {
			t.Fatal("the contents are compared, and are not the same")
		}
		text(t, d, diff.TextOptions{All: true})
		if _, err := json.Marshal(d); err != nil {
			t.Fatal(err)
		}
	})
}

// A counting reader counts how often each KiB is read.
type counting struct {
	*bytes.Reader
	mu    *sync.Mutex
	reads []int
}

func newCounting(b []byte) counting {
	return counting{bytes.NewReader(b), new(sync.Mutex), make([]int, (len(b)+1023)/1024)}
}

func (c counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := off / 1024; at*1024 < off+int64(n); at++ {
		c.reads[at]++
	}
	return n, err
}

// What a scan has read is not read again where both images are equal, and what a
// scan has not read is read once; with a list of changes not even that.
func TestEqualIsReadOnce(t *testing.T) {
	b := read(t, testfs.Make(t, filesystems["ext4"]).Path)
	scanned := newCounting(b)
	opt := scan.Options{Visit: func(*ext.Superblock, *ext.Geometry) scan.Visitor { return quiet{} }}
	if _, err := scan.Scan(t.Context(), scanned, int64(len(b)), opt); err != nil {
		t.Fatal(err)
	}
	for _, listed := range []bool{false, true} {
		first, second := newCounting(b), newCounting(b)
		var opt diff.Options
		unread := 1
		if listed {
			opt.Changes, unread = patch{}, 0
		}
		d, err := diff.Compare(t.Context(), diff.Source{Reader: first, Size: int64(len(b))}, diff.Source{Reader: second, Size: int64(len(b))}, opt)
		if err != nil || !d.Same() {
			t.Fatal(err, d)
		}
		for k, n := range scanned.reads {
			const super = 1 // asked for its block size, and read for the journal's head
			for _, side := range []counting{first, second} {
				if most := max(n, unread); side.reads[k] > most && k != super && k != journalHead(t, b) {
					t.Errorf("KiB %d is read %d times, %d times by a scan; with a list: %t", k, side.reads[k], n, listed)
				}
			}
		}
	}
}

// journalHead returns the block of the journal's superblock.
func journalHead(t *testing.T, b []byte) int {
	t.Helper()
	sb, err := ext.DecodeSuperblock(b[ext.SuperblockOffset:])
	if err != nil {
		t.Fatal(err)
	}
	block, _, _ := sb.JournalHead()
	return int(block)
}

// A quiet visitor is shown what a scan reads, and does nothing.
type quiet struct{}

func (quiet) Inode(uint32, ext.Inode)          {}
func (quiet) Directory(uint32, uint64, []byte) {}
func (quiet) Attributes(uint64, []byte)        {}
func (quiet) Extents(uint32, uint64, []byte)   {}
func (quiet) Pointers(uint64)                  {}

func (quiet) Indirect(uint32, uint64, bool, []byte) {}
