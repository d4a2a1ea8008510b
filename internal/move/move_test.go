package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// A cell is a file or disk whose power may be cut: what was written since the
// last Sync is then there or not, sector by sector.
type cell struct {
	disk, cache []byte
	dirty       map[int64]bool // sectors
	power       *power
}

// power is what several cells hang on.
type power struct {
	left int // writes and syncs till it is cut
	r    *rand.Rand
}

var errCut = errors.New("power cut")

func (p *power) use() error {
	if p.left--; p.left < 0 {
		return errCut
	}
	return nil
}

const sector = 512

func newCell(b []byte, p *power) *cell {
	return &cell{disk: bytes.Clone(b), cache: bytes.Clone(b), dirty: map[int64]bool{}, power: p}
}

func (c *cell) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(c.cache).ReadAt(p, off)
}

func (c *cell) WriteAt(p []byte, off int64) (int, error) {
	err := c.power.use()
	if err != nil {
		p = p[:c.power.r.IntN(len(p)+1)]
	}
	copy(c.cache[off:], p)
	for s := off / sector; s*sector < off+int64(len(p)); s++ {
		c.dirty[s] = true
	}
	return len(p), err
}

func (c *cell) Sync() error {
	if err := c.power.use(); err != nil {
		return err
	}
	c.settle(func() bool { return true })
	return nil
}

func (c *cell) Close() error { return nil }

func (c *cell) Size() int64 { return int64(len(c.cache)) }

// settle brings those dirty sectors to the disk that keep chooses, and forgets
// the others.
func (c *cell) settle(keep func() bool) {
	for s := range c.dirty {
		if keep() {
			copy(c.disk[s*sector:(s+1)*sector], c.cache[s*sector:])
		}
	}
	clear(c.dirty)
	copy(c.cache, c.disk)
}

// An extFS is an image of which some runs are in use.
type extFS struct {
	*bytes.Reader
	runs []run
}

func (f extFS) NextRun(off int64) (start, end int64, err error) {
	for _, r := range f.runs {
		if r.End > off {
			return max(r.Start, off), r.End, nil
		}
	}
	return 0, 0, io.EOF
}

// TestPowerCuts moves filesystems by distances of all kinds, cuts the power
// again and again, and resumes: what is in use comes out as it was.
// MOVE_CUTS is how many moves there are.
func TestPowerCuts(t *testing.T) {
	count := 300
	if n, err := strconv.Atoi(os.Getenv("MOVE_CUTS")); err == nil {
		count = n
	}
	for i := range count {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		if err := cutAndResume(r); err != nil {
			t.Fatalf("move %d: %v", i, err)
		}
	}
}

func cutAndResume(r *rand.Rand) error {
	size := (2 + r.Int64N(200)) * unit
	from, to := r.Int64N(150)*unit, r.Int64N(150)*unit
	if r.IntN(4) == 0 {
		to = from + sector*(1+r.Int64N(5))
	}
	if from == to {
		return nil
	}
	b := make([]byte, max(from, to)+size+unit)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	old := bytes.Clone(b[from : from+size])
	f := extFS{Reader: bytes.NewReader(old)}
	for at := int64(0); at < size; {
		end := min(at+(1+r.Int64N(8))*unit, size)
		if r.IntN(3) > 0 {
			f.runs = append(f.runs, run{at, end})
		}
		at = end + unit
	}
	power := &power{left: 1 << 30, r: r}
	disk := newCell(b, power)
	p, err := New(f, disk, from, to)
	if err != nil {
		return err
	}
	// Small windows, so that there are many.
	p.windowSize = (1 + r.Int64N(16)) * align
	p.lay()
	file, err := begun(p, disk)
	if err != nil {
		return err
	}
	f.runs = append(f.runs, run{superAt, superEnd})
	for cuts := 0; ; cuts++ {
		power.left = 1 + r.IntN(40)
		if cuts > 200 {
			power.left = 1 << 30
		}
		j, p, err := opened(file)
		if err != nil {
			return err
		}
		err = p.Run(context.Background(), disk, Options{Journal: j})
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			return err
		}
		odds := r.IntN(4)
		keep := func() bool { return r.IntN(4) <= odds }
		disk.settle(keep)
		file.settle(keep)
	}
	for _, run := range f.runs {
		if !bytes.Equal(disk.cache[to+run.Start:to+run.End], old[run.Start:run.End]) {
			return fmt.Errorf("bytes %d-%d of %d, from %d to %d, near %v, window %d, differ", run.Start, run.End, size, from, to, p.near, p.windowSize)
		}
	}
	low, high := min(from, to), max(from, to)+size
	if !bytes.Equal(disk.cache[:min(to, low)], b[:min(to, low)]) || !bytes.Equal(disk.cache[high:], b[high:]) {
		return errors.New("what lies beside is not as it was")
	}
	return nil
}

// begun returns the journal of a plan, in memory.
func begun(p *Plan, disk *cell) (*cell, error) {
	sum, err := p.sum(disk, p.From, p.previous(p.windows()), p.buffer())
	if err != nil {
		return nil, err
	}
	p.anchor = sum
	runs := p.encode()
	j := &Journal{id: p.id}
	j.lay(p, int64(len(runs)))
	file := newCell(make([]byte, j.slots+2*j.room), disk.power)
	j.f = file
	return file, j.begin(p, runs)
}

// opened opens a journal in memory.
func opened(file *cell) (*Journal, *Plan, error) {
	j := &Journal{f: file}
	p, err := j.load(file.Size())
	return j, p, err
}

// TestJournal writes a journal, opens it, and takes none that is another's or
// damaged.
func TestJournal(t *testing.T) {
	disk := newCell(make([]byte, 1<<20), &power{left: 1 << 30})
	for i := range disk.cache {
		disk.cache[i] = byte(i * 7)
	}
	f := extFS{Reader: bytes.NewReader(make([]byte, 512<<10)), runs: []run{{0, 4096}, {8192, 512 << 10}}}
	p, err := New(f, disk, 4096, 65536)
	if err != nil {
		t.Fatal(err)
	}
	name := t.TempDir() + "/journal"
	j, err := Create(name, p, disk)
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	if _, err := Create(name, p, disk); !errors.Is(err, os.ErrExist) {
		t.Errorf("made over another: %v", err)
	}
	j, got, err := Open(name)
	if err != nil || got.From != p.From || got.To != p.To || got.Used() != p.Used() || len(got.runs) != len(p.runs) {
		t.Fatalf("got %+v, %v", got, err)
	}
	j.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, fromAt, countAt, block, block + 1} {
		bad := bytes.Clone(whole)
		bad[at]++
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(name); !errors.Is(err, ErrNotJournal) {
			t.Errorf("byte %d differs: %v", at, err)
		}
	}
	for _, n := range []int{0, 100, block, len(whole) - 1} {
		if err := os.WriteFile(name, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(name); !errors.Is(err, ErrNotJournal) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}
