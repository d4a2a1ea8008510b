package scan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"e2qcow/ext"
	"e2qcow/image"
)

// tablesAt makes a filesystem of groups whose inode tables lie pitch blocks
// apart, and fills the table of the first with copies of an inode.
func tablesAt(l layout, pitch uint64, in []byte) *synthetic {
	fs := newSynthetic(l)
	for g := range fs.groups {
		fs.setDesc(g, fs.table-2, fs.table-1, fs.table+g*pitch)
	}
	if in != nil {
		end := fs.table + uint64(l.inodesPerGroup*fs.inodeSize/fs.blockSize)
		fs.fill(int64(fs.table)*int64(fs.blockSize), int64(end)*int64(fs.blockSize), in)
	}
	return fs
}

// inodeOf returns an inode of 128 bytes with the same block in all places.
func inodeOf(mode, links uint16, flags, block uint32) []byte {
	in := make([]byte, 128)
	le.PutUint16(in, mode)
	le.PutUint16(in[0x1A:], links)
	le.PutUint32(in[0x20:], flags)
	le.PutUint32(in[0x68:], block) // i_file_acl
	for n := range ext.IBlockCount {
		le.PutUint32(in[ext.IBlockOffset+4*n:], block+uint32(n))
	}
	return in
}

// The inode tables of all groups in one place, or each a bit behind the one
// before: 2³¹ inodes, of which every one asks for something.
func TestTablesInOnePlace(t *testing.T) {
	const groups = 8191
	// Of the blocks that the inodes name, behind all tables, the attributes are in
	// the first, and the last three are indirect.
	const first = 20000
	indirect := []uint64{first + 12, first + 13, first + 14}
	sizes := []uint32{1024, 4096, 65536}
	if testing.Short() {
		sizes = sizes[2:]
	}
	for _, bs := range sizes {
		for _, c := range []struct {
			what  string
			pitch uint64
			in    []byte
			kind  Kind        // of the blocks
			found []uint64    // that the inodes lead to
			shown ProblemKind // by what is in them
		}{
			{"zero inodes", 0, nil, 0, nil, BadDescriptor},
			{"zero inodes in steps", 3, nil, 0, nil, BadDescriptor},
			{"directories", 0, inodeOf(modeDir, 1, 0, first), IndirectBlock, indirect, BadXattr},
			{"directories without links", 0, inodeOf(modeDir, 0, 0, 0), 0, nil, BadDirectory}, // the root's, which is read all the same
			{"what may be directories", 0, inodeOf(0, 1, 0, first), IndirectBlock, indirect, BadXattr},
			{"attribute blocks", 1, inodeOf(modeRegular, 1, 0, first), Claimed, []uint64{first}, BadXattr},
		} {
			t.Run(fmt.Sprintf("%d/%s", bs, c.what), func(t *testing.T) {
				inodes := 8 * bs
				fs := tablesAt(layout{blocks: groups * 8, blockSize: bs, perGroup: 8, inodesPerGroup: inodes, inodeSize: 128,
					incompat: ext.IncompatFiletype | ext.IncompatFlexBg | ext.Incompat64bit}, c.pitch, c.in)
				res := scanBounded(t, holesIn(fs), fs.size, Options{Threads: 2})
				if c.in != nil && bs > 4096 && !hasProblem(res, Unbounded) {
					t.Error("what is left out is not told")
				}
				// A table has inodes of 128 bytes, as many as a bitmap has bits. Only the
				// descriptors that fit into the first group count.
				described := min(groups, 8*uint64(bs)/64)
				if n, want := res.Map.Blocks(InodeTable), 8*128+c.pitch*(described-1); n != want {
					t.Errorf("%d blocks of inode tables, want %d", n, want)
				}
				for _, block := range c.found {
					if !res.Map.Contains(c.kind, block) {
						t.Errorf("block %d, which inodes name, is not of kind %v", block, c.kind)
					}
				}
				if !hasProblem(res, c.shown) {
					t.Errorf("no problem of kind %v", c.shown)
				}
			})
		}
	}
}

// withHoles is a disk that tells its holes.
type withHoles struct {
	*disk
	data []Range // ascending
}

func holesIn(fs *synthetic) withHoles {
	d := withHoles{disk: fs.disk}
	for _, r := range fs.runs {
		d.data = append(d.data, Range{r.start, r.end})
	}
	for n := range fs.pages {
		d.data = append(d.data, Range{n * diskPage, (n + 1) * diskPage})
	}
	slices.SortFunc(d.data, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	return d
}

func (d withHoles) Size() int64 { return d.size }

func (d withHoles) NextRun(off int64) (start, end int64, err error) {
	for _, r := range d.data {
		if r.End > off {
			return max(r.Start, off), r.End, nil
		}
	}
	return 0, 0, io.EOF
}

// What lies in holes is taken in as what is read as zeros is.
func TestHolesInTables(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 18, perGroup: 32768, inodesPerGroup: 1 << 14})
	for _, ino := range []uint32{12, 5000, 16384, 40000} {
		fs.inode(ino, modeDir, 0, 4096, pointers(ext.IBlockSize, uint32(fs.block(make([]byte, 4096)))))
	}
	read, err := Scan(t.Context(), fs, fs.size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := read.Map.Blocks(Claimed); n != 3 { // directories of zeros; inode 40000 is in a group that has no table
		t.Errorf("%d blocks of directories, want 3", n)
	}
	counted := &countingDisk{ReaderAt: fs}
	told, err := Scan(t.Context(), countingHoles{holesIn(fs), counted}, fs.size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	for run := range read.Map.Runs() {
		fmt.Fprintln(&a, run)
	}
	for run := range told.Map.Runs() {
		fmt.Fprintln(&b, run)
	}
	fmt.Fprintln(&a, read.AllProblems(), read.Map.ends)
	fmt.Fprintln(&b, told.AllProblems(), told.Map.ends)
	if a.String() != b.String() {
		t.Errorf("where holes are told:\n%s\nelse:\n%s", &b, &a)
	}
	if n := counted.bytes.Load(); n > 16<<20 {
		t.Errorf("%d MiB of 32 MiB of tables, mostly holes, are read", n>>20)
	}
}

// The data of a view is the same bytes without the holes of the source, in
// fewer runs.
func TestViewData(t *testing.T) {
	fs := tablesAt(layout{blocks: 64 * 256, perGroup: 256, inodesPerGroup: 4096, inodeSize: 128}, 256, nil)
	fs.inode(4000, modeDir, 0, 4096, pointers(ext.IBlockSize, uint32(fs.block(make([]byte, 4096)))))
	res, err := Scan(t.Context(), holesIn(fs), fs.size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	view := res.View()
	whole := make([]byte, view.Size())
	if _, err := view.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	length := func(img image.Image) (n int64) {
		for off := int64(0); ; {
			start, end, err := img.NextRun(off)
			if err != nil {
				return n
			}
			n, off = n+end-start, end
			if img != image.Image(view) {
				clear(whole[start:end])
			}
		}
	}
	runs, data := length(view), length(image.Data(view))
	if runs < 32<<20 || data > 4<<20 {
		t.Errorf("runs of %d bytes, %d of data", runs, data)
	}
	if len(bytes.TrimLeft(whole, "\x00")) > 0 {
		t.Error("bytes that are not zero are no data")
	}
}

type countingHoles struct {
	withHoles
	counted *countingDisk
}

func (d countingHoles) ReadAt(p []byte, off int64) (int, error) { return d.counted.ReadAt(p, off) }

// Questions for holes are answered as the source does, or not asked again.
func TestHoles(t *testing.T) {
	broken := errors.New("broken")
	var asked int
	h := holes{source: nextRunFunc(func(off int64) (int64, int64, error) {
		asked++
		switch {
		case off < 1<<20:
			return 1 << 20, 1<<20 + 4096, nil
		case off < 1<<20+4096:
			return off, 1<<20 + 4096, nil
		case off < 1<<30:
			return 0, 0, broken
		}
		return 0, 0, io.EOF
	})}
	for _, c := range []struct{ off, end, start, stop int64 }{
		{0, 1 << 19, 1 << 19, 1 << 19},                           // in a hole
		{4096, 1 << 21, 1 << 20, 1<<20 + leastHole},              // through a hole
		{1<<20 + 4096, 1<<20 + 8192, 1<<20 + 4096, 1<<20 + 8192}, // too near to ask
		{1 << 30, 1 << 31, 1 << 31, 1 << 31},                     // behind all
	} {
		if start, stop := h.data(c.off, c.end); start != c.start || stop != c.stop {
			t.Errorf("[%d, %d): [%d, %d), want [%d, %d)", c.off, c.end, start, stop, c.start, c.stop)
		}
	}
	for range 2 { // what cannot be found out has to be read
		if start, stop := h.data(1<<24, 1<<25); start != 1<<24 || stop != 1<<25 {
			t.Errorf("[%d, %d)", start, stop)
		}
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

type nextRunFunc func(off int64) (int64, int64, error)

func (f nextRunFunc) NextRun(off int64) (int64, int64, error) { return f(off) }

// What is left out of tables that lie on each other does not depend on threads,
// nor does the order in which what was gathered is read.
func TestRepeatedTablesDoNotDependOnThreads(t *testing.T) {
	fs := tablesAt(layout{blocks: 1 << 18, perGroup: 128, inodesPerGroup: 512, inodeSize: 128}, 1, inodeOf(modeDir, 1, 0, 9000))
	first := ""
	for round := range 6 {
		s := scannerOf(t, jitterDisk{fs}, fs.size)
		s.maxRepeated, s.opt.Threads = 1<<20, 1+round
		if err := s.run(context.Background()); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		for run := range s.out.Runs() {
			fmt.Fprintln(&b, run)
		}
		fmt.Fprintln(&b, s.problems.all())
		if s.problems.kinds[Unbounded].count == 0 {
			t.Fatal("the bound was not reached")
		}
		if first == "" {
			first = b.String()
		} else if b.String() != first {
			t.Fatalf("%d threads leave something else out than one", s.opt.Threads)
		}
	}
}

// Each inode of a window has an attribute block of its own. Those are read
// before all inodes are, so that not all of them are gathered.
func TestPendingWithinAWindow(t *testing.T) {
	const groups = 32
	fs := tablesAt(layout{blocks: 2 * groups * 8192, blockSize: 1024, perGroup: 8192, inodesPerGroup: 8192, inodeSize: 128}, 1024, nil)
	start := int64(fs.table) * 1024
	tables := make([]byte, groups<<20)
	for i := range uint32(groups * 8192) {
		in := tables[i*128:]
		le.PutUint16(in, modeRegular)
		le.PutUint16(in[0x1A:], 1)
		le.PutUint32(in[0x68:], groups*8192+i*8191%(groups*8192)) // i_file_acl
	}
	fs.fill(start, start+int64(len(tables)), tables)
	log := &readLog{ReaderAt: fs}
	s := scannerOf(t, log, fs.size)
	s.maxPending = 4096
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.visited[roleXattr][contentData].count(); n < groups*8000 {
		t.Errorf("only %d attribute blocks", n)
	}
	end := start + int64(len(tables))
	last := slices.IndexFunc(log.reads, func(off int64) bool { return off >= end-1<<20 && off < end })
	if first := slices.IndexFunc(log.reads, func(off int64) bool { return off >= groups<<23 }); first < 0 || last < 0 || first > last {
		t.Errorf("read %d of %d is the first of an attribute block, read %d one of the last table", first, len(log.reads), last)
	}
}

// A readLog remembers where reads began.
type readLog struct {
	io.ReaderAt
	mu    sync.Mutex
	reads []int64
}

func (l *readLog) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	l.reads = append(l.reads, off)
	l.mu.Unlock()
	return l.ReaderAt.ReadAt(p, off)
}
