package lost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// filesystems have extents, indirect blocks, inline data, clusters of blocks and
// metablock groups.
var filesystems = map[string]testfs.Spec{
	"extents":  {Mke2fs: "-t ext4 -b 1024 -O ^64bit", Size: 32 << 20, Fill: testfs.Copied},
	"indirect": {Mke2fs: "-t ext2 -b 1024 -I 128", Size: 24 << 20, Fill: testfs.Copied},
	"inline":   {Mke2fs: "-t ext4 -b 4096 -O inline_data,meta_bg,^resize_inode", Size: 48 << 20, Fill: testfs.Copied},
	"clusters": {Mke2fs: "-t ext4 -b 1024 -O bigalloc -C 16384", Size: 32 << 20, Fill: testfs.Copied},
	"journal":  {Mke2fs: "-t ext3 -b 2048", Size: 48 << 20, Fill: testfs.Mounted},
}

// find scans a filesystem of which ranges cannot be read, and returns the files
// that they hit.
func find(t testing.TB, data []byte, bad []scan.Range) *Report {
	t.Helper()
	res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{Bad: bad, Reread: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Find(t.Context(), res, bad)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOwners compares what is found with the icheck and ncheck of debugfs, for
// lists of bad blocks at random.
func TestOwners(t *testing.T) {
	for name, spec := range filesystems {
		t.Run(name, func(t *testing.T) {
			path := testfs.Make(t, spec).Path
			data := read(t, path)
			bs, owners := ownersOf(t, path, len(data))
			res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			rounds := 20
			if testing.Short() {
				rounds = 4
			}
			for range rounds {
				var bad []scan.Range
				want := map[uint32]bool{}
				for block := range len(data) / bs {
					leads := res.Map.Contains(scan.Superblock, uint64(block)) || res.Map.Contains(scan.GroupDescs, uint64(block))
					if !leads && random.IntN(20) == 0 {
						bad = append(bad, scan.Range{Start: int64(block * bs), End: int64((block + 1) * bs)})
						if ino := owners[block]; ino != 0 {
							want[ino] = true
						}
					}
				}
				r := find(t, data, bad)
				for i := range r.Files {
					f := &r.Files[i]
					if f.Parts&(Inode|Attributes) == 0 && !want[f.Inode] { // icheck knows one owner of a shared attribute block
						t.Errorf("debugfs does not know of inode %d: %+v", f.Inode, f)
					}
					delete(want, f.Inode)
				}
				for ino := range want {
					t.Errorf("inode %d is not found", ino)
				}
			}
		})
	}
}

// ownersOf returns the size of a block, and which inode owns each block according
// to debugfs: 0 for none.
func ownersOf(t testing.TB, path string, size int) (bs int, owners []uint32) {
	t.Helper()
	sb, err := ext.DecodeSuperblock(read(t, path)[1024:2048])
	if err != nil {
		t.Fatal(err)
	}
	bs = int(sb.BlockSize())
	owners = make([]uint32, size/bs)
	var question strings.Builder
	for block := range owners {
		if block%500 == 0 { // a line of debugfs is bounded
			question.WriteString("\nicheck")
		}
		fmt.Fprintf(&question, " %d", block)
	}
	commands := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(commands, []byte(question.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(testfs.Run(t, "debugfs", "-f", commands, path)) {
		block, ino, _ := strings.Cut(strings.TrimSpace(line), "\t")
		b, err := strconv.Atoi(block)
		if i, err2 := strconv.Atoi(ino); err == nil && err2 == nil {
			owners[b] = uint32(i)
		}
	}
	return bs, owners
}

// TestRanges overwrites what is lost of the contents of files, and has debugfs
// read the files: they differ in the ranges that the report has, and in no other
// byte.
func TestRanges(t *testing.T) {
	for name, spec := range filesystems {
		t.Run(name, func(t *testing.T) {
			path := testfs.Make(t, spec).Path
			data := read(t, path)
			res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			bs := int(res.BlockSize())
			var bad []scan.Range
			changed := slices.Clone(data)
			random := rand.New(rand.NewPCG(3, 4))
			metadata := map[int]bool{}
			for run := range res.Map.Runs() {
				for i := range run.Count {
					metadata[int(run.Start+i)] = true
				}
			}
			for block := range len(data) / bs {
				if metadata[block] || random.IntN(10) != 0 {
					continue
				}
				from := block*bs + 512*random.IntN(bs/512)
				bad = append(bad, scan.Range{Start: int64(from), End: int64(from + 512)})
				for i := from; i < from+512; i++ {
					changed[i] ^= 0x55
				}
			}
			other := filepath.Join(t.TempDir(), "changed")
			if err := os.WriteFile(other, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			checked := 0
			for _, f := range find(t, data, bad).Files {
				if f.Type != ext.ModeRegular || f.Inode < 11 || f.Size > 8<<20 {
					continue
				}
				a, b := contents(t, path, f.Inode), contents(t, other, f.Inode)
				if len(a) != int(f.Size) || len(b) != len(a) {
					t.Fatalf("inode %d has %d and %d bytes, not %d", f.Inode, len(a), len(b), f.Size)
				}
				if got := differences(a, b); !slices.Equal(got, f.Lost) {
					t.Errorf("inode %d, %v: %v differ, %v are lost", f.Inode, f.Paths, got, f.Lost)
				}
				checked++
			}
			if checked < 3 {
				t.Errorf("only %d files are hit", checked)
			}
		})
	}
}

// contents returns what debugfs reads of a file.
func contents(t testing.TB, path string, ino uint32) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "contents")
	testfs.Run(t, "debugfs", "-R", fmt.Sprintf("dump <%d> %s", ino, out), path)
	return read(t, out)
}

// differences returns the ranges in which two files of a length differ.
func differences(a, b []byte) (list []scan.Range) {
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if n := len(list) - 1; n >= 0 && list[n].End == int64(i) {
			list[n].End++
		} else {
			list = append(list, scan.Range{Start: int64(i), End: int64(i) + 1})
		}
	}
	return list
}

// TestTree loses each node of the trees of files, one after the other: debugfs,
// for which the node is zero, cannot read what is lost, and reads all else.
func TestTree(t *testing.T) {
	for _, name := range []string{"extents", "indirect"} {
		t.Run(name, func(t *testing.T) {
			path := testfs.Make(t, filesystems[name]).Path
			data := read(t, path)
			res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			bs, nodes, most := int(res.BlockSize()), 0, 40
			if testing.Short() {
				most = 4
			}
			for _, kind := range []scan.Kind{scan.ExtentNode, scan.IndirectBlock} {
				for run := range res.Map.RunsOf(kind) {
					for block := run.Start; block < run.Start+run.Count && nodes < most; block++ {
						from := int(block) * bs
						r := find(t, data, []scan.Range{{Start: int64(from), End: int64(from + bs)}})
						if len(r.Files) != 1 || r.Files[0].Parts&Tree == 0 {
							t.Fatalf("block %d, a node: %+v", block, r.Files)
						}
						if f := r.Files[0]; f.Type == ext.ModeRegular && f.Inode >= 11 && f.Size < 8<<20 {
							checkNode(t, path, data, from, bs, &f)
							nodes++
						}
					}
				}
			}
			if nodes == 0 {
				t.Error("no file has a node")
			}
		})
	}
}

// checkNode compares the file of a node with the file without that node.
func checkNode(t *testing.T, path string, data []byte, from, n int, f *File) {
	t.Helper()
	changed := slices.Clone(data)
	clear(changed[from : from+n])
	other := filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(other, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	before, after := contents(t, path, f.Inode), contents(t, other, f.Inode)
	for _, d := range differences(before[:min(len(before), len(after))], after) {
		if !slices.ContainsFunc(f.Lost, func(r scan.Range) bool { return r.Start <= d.Start && d.End <= r.End }) {
			t.Errorf("inode %d: %v differs, but only %v is lost", f.Inode, d, f.Lost)
		}
	}
	for _, r := range f.Lost {
		if len(after) > int(r.Start) && bytes.ContainsFunc(after[r.Start:min(int(r.End), len(after))], func(c rune) bool { return c != 0 }) {
			t.Errorf("inode %d: bytes in %v are left", f.Inode, r)
		}
	}
}

// TestPaths compares the paths of files with the ncheck of debugfs, with all
// directories readable.
func TestPaths(t *testing.T) {
	path := testfs.Make(t, filesystems["extents"]).Path
	data := read(t, path)
	bs, owners := ownersOf(t, path, len(data))
	var bad []scan.Range
	var inodes []string
	res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	metadata := map[int]bool{}
	for run := range res.Map.Runs() {
		for i := range run.Count {
			metadata[int(run.Start+i)] = true
		}
	}
	seen := map[uint32]bool{}
	for block, ino := range owners {
		if ino > 11 && !metadata[block] && !seen[ino] {
			seen[ino] = true
			bad = append(bad, scan.Range{Start: int64(block * bs), End: int64((block + 1) * bs)})
			inodes = append(inodes, fmt.Sprint(ino))
		}
	}
	want := map[string]bool{}
	for line := range strings.Lines(testfs.Run(t, "debugfs", "-R", "ncheck "+strings.Join(inodes, " "), path)) {
		if ino, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok && ino != "Inode" {
			want[ino+" "+strings.ReplaceAll(name, "//", "/")] = true
		}
	}
	got := map[string]bool{}
	links := 0
	for _, f := range find(t, data, bad).Files {
		links = max(links, len(f.Paths))
		for _, p := range f.Paths {
			got[fmt.Sprintf("%d %s", f.Inode, string(p))] = true
		}
	}
	if links < 2 {
		t.Error("no file has two names")
	}
	for w := range want {
		if !got[w] {
			t.Errorf("%q is not found", w)
		}
	}
	if len(got) < len(want) || len(want) < 5 {
		t.Errorf("%d paths, debugfs has %d", len(got), len(want))
	}
}

// TestLostDirectory: without the names of a directory, its files are known by
// number, and what lies in a directory below by that.
func TestLostDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a", "a/b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/file"), bytes.Repeat([]byte("x"), 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fs")
	testfs.Run(t, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-d", dir, path, "4M")
	data := read(t, path)
	place := func(name string) scan.Range {
		r := testfs.Blocks(t, path, name)
		return scan.Range{Start: r[0].Start, End: r[len(r)-1].End}
	}
	a, file := place("/a"), place("/a/b/file")
	bad := []scan.Range{a, file}
	slices.SortFunc(bad, func(x, y scan.Range) int { return int(x.Start - y.Start) })
	r := find(t, data, bad)
	if len(r.Files) != 2 {
		t.Fatalf("%+v", r.Files)
	}
	b := strings.TrimSpace(strings.Split(testfs.Run(t, "debugfs", "-R", "stat /a/b", path), "Inode:")[1])
	b, _, _ = strings.Cut(b, " ")
	for _, f := range r.Files {
		switch f.Type {
		case ext.ModeDir:
			if f.Parts != Entries || !slices.Equal(f.Paths, []scan.Name{"/a"}) {
				t.Errorf("the directory: %+v", f)
			}
		default:
			if want := scan.Name("<" + b + ">/file"); !slices.Equal(f.Paths, []scan.Name{want}) || f.LostBytes != 3000 {
				t.Errorf("the file: %+v, not %s", f, want)
			}
		}
	}
}

// TestLostTables: what a source that is cut short lacks is lost, as if a map said
// so, and so are the inodes of a group whose descriptor is lost.
func TestLostTables(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		name := filepath.Join(dir, fmt.Sprintf("directory-%02d", i))
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(name, "file"), []byte("contents"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "fs")
	testfs.Run(t, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-g", "1024", "-N", "256", "-O", "^flex_bg,^has_journal,^resize_inode", "-d", dir, path, "16M")
	data := read(t, path)
	bad := []scan.Range{{Start: 2 << 20, End: int64(len(data))}}
	all, cut := find(t, data, bad), find(t, data[:2<<20], bad)
	if len(all.Files) < 10 {
		t.Fatalf("only %d files are hit", len(all.Files))
	}
	names := func(r *Report) (list []string) {
		for _, f := range r.Files {
			list = append(list, fmt.Sprint(f.Inode, f.Type, f.Parts, f.Paths, f.Lost))
		}
		return list
	}
	if a, b := names(all), names(cut); !slices.Equal(a, b) {
		t.Errorf("of a map: %v\nof a short source: %v", a, b)
	}
	// All descriptors but those of the first groups, in all copies.
	res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lost []scan.Range
	for run := range res.Map.RunsOf(scan.GroupDescs) {
		from := int64(run.Start) * 1024
		lost = append(lost, scan.Range{Start: from + 128, End: from + 1024})
	}
	found := find(t, data, lost)
	inodes := 0
	for _, f := range found.Files {
		if f.Parts&Inode != 0 {
			inodes++
		}
	}
	if inodes < 10 {
		t.Errorf("without descriptors only %d inodes are lost: %v", inodes, names(found))
	}
}

// TestManyRanges: the looks at lost ranges are bounded, and what is not looked at
// is counted.
func TestManyRanges(t *testing.T) {
	f := &finder{geo: &ext.Geometry{BlocksCount: 1 << 30}, bs: 4096, files: map[uint32]*File{}}
	f.sums = []int64{0}
	for i := range int64(1000) {
		f.lost = append(f.lost, scan.Range{Start: i * 8192, End: i*8192 + 4096})
		f.sums = append(f.sums, f.sums[i]+4096)
	}
	f.looks = maxRanges - 100
	file := &tree{ino: 12, typ: ext.ModeRegular, end: 900 * 8192}
	f.contents(file, 0, 0, 2000)
	r := f.report()
	if got := r.Files[0]; len(got.Lost) != 100 || got.LostBytes != 900*4096 || r.Omitted != 1 {
		t.Errorf("%d ranges, %d bytes, %d omitted", len(got.Lost), got.LostBytes, r.Omitted)
	}
}

// TestLoop: a tree that leads back to itself ends.
func TestLoop(t *testing.T) {
	path := testfs.Make(t, filesystems["extents"]).Path
	data := read(t, path)
	res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bs := int(res.BlockSize())
	for run := range res.Map.RunsOf(scan.ExtentNode) {
		node := data[int(run.Start)*bs:][:bs]
		count := (bs - 12) / 12
		copy(node, []byte{0x0A, 0xF3, byte(count), 0, byte(count), 0, 4, 0})
		for i := range count {
			e := node[12+12*i:]
			clear(e[:12])
			e[4], e[5], e[6], e[7] = byte(run.Start), byte(run.Start>>8), byte(run.Start>>16), byte(run.Start>>24)
		}
	}
	if r := find(t, data, []scan.Range{{Start: int64(len(data) - 1024), End: int64(len(data))}}); !r.Cut {
		t.Error("nothing says that a tree was not followed to its end")
	}
}

func TestErrors(t *testing.T) {
	path := testfs.Make(t, filesystems["extents"]).Path
	data := read(t, path)
	bad := []scan.Range{{Start: 1 << 20, End: 2 << 20}}
	res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{Bad: bad})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(t.Context(), res, bad); !errors.Is(err, ErrNoTables) {
		t.Errorf("a scan that kept no tables: %v", err)
	}
	if r, err := Find(t.Context(), res, nil); err != nil || len(r.Files) > 0 {
		t.Errorf("nothing is lost: %v, %v", r, err)
	}
	res, err = scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), scan.Options{Bad: bad, Reread: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, res, bad); !errors.Is(err, context.Canceled) {
		t.Errorf("a search that was ended: %v", err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzFind: whatever a filesystem holds, the search ends, and its ranges lie in
// the files.
func FuzzFind(f *testing.F) {
	path := filepath.Join(f.TempDir(), "fs")
	testfs.Run(f, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-N", "32", path, "256k")
	data := read(f, path)
	f.Add(uint32(1), []byte{1, 2, 3}, uint32(4096))
	f.Fuzz(func(t *testing.T, at uint32, change []byte, lost uint32) {
		b := slices.Clone(data)
		copy(b[int(at)%len(b):], change)
		from := int64(lost) % int64(len(b)) &^ 511
		bad := []scan.Range{{Start: from, End: min(from+8192, int64(len(b)))}}
		res, err := scan.Scan(t.Context(), bytes.NewReader(b), int64(len(b)), scan.Options{Bad: bad, Reread: true})
		if err != nil {
			return
		}
		r, err := Find(t.Context(), res, bad)
		if errors.Is(err, ErrNoTables) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		for _, file := range r.Files {
			for _, l := range file.Lost {
				if l.Start < 0 || l.Start >= l.End {
					t.Errorf("inode %d: %v", file.Inode, l)
				}
			}
		}
	})
}
