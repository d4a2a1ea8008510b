package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// A stopped is a move that lost power after some writes.
type stopped struct {
	from, to, size int64
	before         []byte // the disk as it was
	disk, journal  *cell
	plan           *Plan
}

const testWindow = 2 * align

// places are moves of a filesystem of 64 KiB: near and far, to the left and to
// the right, overlapping and not.
var places = [][2]int64{{20 << 10, 0}, {0, 20 << 10}, {40 << 10, 36 << 10}, {4096, 4096 + 512}, {100 << 10, 0}, {0, 100 << 10}, {70 << 10, 30 << 10}}

// stop begins a move and cuts the power after that many writes and syncs, of
// which none is lost. In the filesystem of it most windows are empty. ended
// tells that the move came to its end before.
func stop(t *testing.T, from, to int64, writes int) (s *stopped, ended bool) {
	t.Helper()
	const size = 64 << 10
	r := rand.New(rand.NewPCG(3, 3))
	s = &stopped{from: from, to: to, size: size, before: make([]byte, 200<<10)}
	for i := range s.before {
		s.before[i] = byte(r.Uint32())
	}
	putMagic(s.before[from:])
	runs := []run{{0, 4096}, {20 << 10, 30 << 10}, {31 << 10, 32 << 10}, {52 << 10, 53 << 10}}
	power := &power{left: 1 << 30, r: r}
	s.disk = newCell(s.before, power)
	var err error
	if s.plan, err = New(extFS{bytes.NewReader(make([]byte, size)), runs}, s.disk, from, to); err != nil {
		t.Fatal(err)
	}
	s.plan.id = [16]byte{7} // the same in each run
	s.plan.windowSize = testWindow
	s.plan.lay()
	if s.journal, err = begun(s.plan, s.disk); err != nil {
		t.Fatal(err)
	}
	power.left = writes
	err = s.resume(t, s.disk, false)
	if err != nil && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	for _, c := range []*cell{s.disk, s.journal} {
		c.settle(func() bool { return true })
	}
	power.left = 1 << 30
	return s, err == nil
}

// resume goes on with the move on that disk, of which disk is the content.
func (s *stopped) resume(t *testing.T, disk *cell, force bool) error {
	t.Helper()
	j, p, err := opened(s.journal)
	if err != nil {
		t.Fatal(err)
	}
	return p.Run(context.Background(), disk, Options{Journal: j, Force: force})
}

// slot returns how far the move is.
func (s *stopped) slot(t *testing.T) slot {
	t.Helper()
	j, p, err := opened(s.journal)
	if err != nil {
		t.Fatal(err)
	}
	at, err := j.newest(p)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// keep has what a test does to the journal forgotten.
func (s *stopped) keep() (forget func()) {
	journal := bytes.Clone(s.journal.cache)
	return func() { s.journal = newCell(journal, s.journal.power) }
}

// moved reports whether what is in use is at the new place, but for n bytes at
// off.
func (s *stopped) moved(disk *cell, off, n int64) error {
	for _, r := range append(s.plan.runs, run{superAt, markEnd}) {
		for i := r.Start; i < r.End; i++ {
			if disk.cache[s.to+i] != s.before[s.from+i] && (i < off || i >= off+n) {
				return fmt.Errorf("byte %d differs", i)
			}
		}
	}
	return nil
}

// everywhere calls f with moves stopped after each write there is.
func everywhere(t *testing.T, f func(t *testing.T, s *stopped)) {
	for _, place := range places {
		t.Run(fmt.Sprint(place), func(t *testing.T) {
			for writes := 0; ; writes++ {
				s, ended := stop(t, place[0], place[1], writes)
				if ended {
					break
				}
				f(t, s)
				if t.Failed() {
					t.Fatalf("after %d writes, slot %+v", writes, s.slot(t))
				}
			}
		})
	}
}

// putMagic makes the superblock of a filesystem that begins with b have its
// magic number.
func putMagic(b []byte) { b[superAt+0x38], b[superAt+0x39] = 0x53, 0xef }

func hasMagic(b []byte, at int64) bool {
	return b[at+superAt+0x38] == 0x53 && b[at+superAt+0x39] == 0xef
}

// TestOtherDisk resumes a move on a disk of another filesystem, on one of
// zeros, and on a copy from before the move: nothing is written to them.
func TestOtherDisk(t *testing.T) {
	everywhere(t, func(t *testing.T, s *stopped) {
		at := s.slot(t)
		other := make([]byte, len(s.before))
		r := rand.New(rand.NewPCG(4, 4))
		for i := range other {
			other[i] = byte(r.Uint32())
		}
		putMagic(other[s.from:])
		putMagic(other[s.to:])
		disks := map[string][]byte{"another filesystem": other, "zeros": make([]byte, len(s.before))}
		if at.window > s.plan.next(0) || at.stage == split {
			disks["a copy from before"] = s.before
		}
		for what, b := range disks {
			for _, force := range []bool{false, true} {
				disk := newCell(b, s.disk.power)
				err := s.resume(t, disk, force)
				old := what == "a copy from before"
				if !errors.Is(err, ErrOther) && !(old && at.stage != split && errors.Is(err, ErrStale)) && !(old && isChanged(err)) && !(old && force && s.plan.previous(at.window) < 0) {
					t.Errorf("%s, force %v: %v", what, force, err)
				}
				if err != nil && !bytes.Equal(disk.cache, b) {
					t.Errorf("%s, force %v: was written to", what, force)
				}
			}
		}
		if short := newCell(s.disk.cache[:max(s.from, s.to)+s.size-512], s.disk.power); !errors.Is(s.resume(t, short, true), ErrShort) {
			t.Error("a disk that is cut short is taken")
		}
	})
}

func isChanged(err error) bool {
	changed := (*ChangedError)(nil)
	return errors.As(err, &changed)
}

// TestMarks looks for marks: when some of the filesystem is written over, there
// is one, and at no time before the end does it look whole at both places.
func TestMarks(t *testing.T) {
	everywhere(t, func(t *testing.T, s *stopped) {
		b := s.disk.cache
		lost := false
		for _, r := range s.plan.runs {
			lost = lost || !bytes.Equal(b[s.from+r.Start:s.from+r.End], s.before[s.from+r.Start:s.from+r.End])
		}
		at := s.slot(t)
		_, old := FindMark(s.disk, s.from)
		_, moved := FindMark(s.disk, s.to)
		if lost && at.window < s.plan.windows() && !old && !moved {
			t.Error("written over, and no mark")
		}
		if lost && hasMagic(b, s.from) && at.window < s.plan.windows() {
			t.Error("written over, and looks whole at the old place")
		}
		if hasMagic(b, s.to) && at.window < s.plan.windows() {
			t.Error("looks whole at the new place")
		}
		if _, err := s.resume(t, s.disk, false), s.moved(s.disk, 0, 0); err != nil {
			t.Error(err)
		}
		for _, at := range []int64{s.from, s.to} {
			if _, found := FindMark(s.disk, at); found {
				t.Errorf("a mark is left at byte %d", at)
			}
		}
		if s.plan.Overlap() && hasMagic(s.disk.cache, s.from) {
			t.Error("looks whole at the old place")
		}
	})
}

// TestChanged mounts, repairs and damages what a move left, and resumes.
func TestChanged(t *testing.T) {
	const timeAt = superAt + 0x30 // s_wtime
	everywhere(t, func(t *testing.T, s *stopped) {
		at := s.slot(t)
		// Mounted where it looks like a filesystem, and written to.
		for _, place := range []int64{s.from, s.to} {
			if !hasMagic(s.disk.cache, place) {
				continue
			}
			forget := s.keep()
			was := bytes.Clone(s.disk.cache)
			for i := range int64(4) {
				was[place+timeAt+i] ^= 0xff
			}
			disk := newCell(was, s.disk.power)
			err := s.resume(t, disk, false)
			switch {
			case err == nil && place == s.to:
				if err := s.moved(disk, timeAt, 4); err != nil || !bytes.Equal(disk.cache[s.to+superAt:][:superSize], was[s.to+superAt:][:superSize]) {
					t.Errorf("mounted at the new place: %v", err)
				}
			case err == nil && at.window > s.plan.windows():
				// The move is done.
			case err == nil && at.window == s.plan.windows() && hasMagic(s.disk.cache, s.to):
				// All had been moved but the word in the journal.
			case !errors.Is(err, ErrStale):
				t.Errorf("mounted at byte %d: %v", place, err)
			case !bytes.Equal(disk.cache, was):
				t.Error("written to all the same")
			}
			forget()
		}
		// All was moved but for the word in the journal, and the filesystem has been
		// in use since: a file of it may be where the mark was, its UUID may be
		// another.
		if at.window == s.plan.windows() && hasMagic(s.disk.cache, s.to) {
			for _, changed := range []int64{timeAt, superAt + 0x68} {
				forget := s.keep()
				was := bytes.Clone(s.disk.cache)
				was[s.to+changed] ^= 0xff
				if off := s.from + superAt; off+markSize <= s.to+superAt || off >= s.to+markEnd {
					for i := range int64(markSize) {
						was[off+i] = byte(0x80 + i%100)
					}
				}
				disk := newCell(bytes.Clone(was), s.disk.power)
				if err := s.resume(t, disk, false); err == nil && changed != timeAt {
					t.Error("another UUID: no error")
				}
				_ = s.resume(t, disk, true)
				if !bytes.Equal(disk.cache, was) {
					t.Errorf("in use, byte %d changed: written over", changed)
				}
				forget()
			}
		}
		// Repaired at the new place before all is there, so that the mark is gone.
		if _, found := FindMark(s.disk, s.to); found && at.window < s.plan.windows() {
			forget := s.keep()
			repaired := bytes.Clone(s.disk.cache)
			copy(repaired[s.to+superAt:], s.plan.super[:])
			repaired[s.to+timeAt] ^= 0xff
			disk := newCell(repaired, s.disk.power)
			if err := s.resume(t, disk, false); !isChanged(err) && s.plan.marked() < at.window {
				t.Errorf("repaired at the new place: %v", err)
			}
			if err := cmpMoved(s, disk, s.resume(t, disk, true)); err != nil {
				t.Errorf("repaired at the new place, -f: %v", err)
			}
			forget()
		}
		// A byte of what was moved last, and one of what is moved next or last.
		flips := []int64{}
		if k := s.plan.previous(at.window); k >= 0 && at.window <= s.plan.windows() {
			start, _ := s.first(k)
			flips = append(flips, s.to+start)
		}
		if at.window < s.plan.windows() {
			k := s.plan.previous(s.plan.windows())
			if at.data != nil {
				k = at.window
			}
			start, _ := s.first(k)
			flips = append(flips, s.from+start)
		}
		for _, off := range flips {
			was := bytes.Clone(s.disk.cache)
			was[off] ^= 0x55
			disk := newCell(was, s.disk.power)
			if err := s.resume(t, disk, false); !isChanged(err) && !errors.Is(err, ErrStale) {
				t.Errorf("byte %d is another: %v", off, err)
			}
			if !bytes.Equal(disk.cache, was) {
				t.Error("written to all the same")
			}
		}
	})
}

// first returns the first part of a run in the k-th window.
func (s *stopped) first(k int64) (start, end int64) {
	stop := errors.New("stop")
	_ = s.plan.parts(k, func(a, b int64) error { start, end = a, b; return stop })
	return start, end
}

// cmpMoved returns err, or what differs where it is nil.
func cmpMoved(s *stopped, disk *cell, err error) error {
	if err != nil {
		return err
	}
	return s.moved(disk, 0, 0)
}

// TestDone resumes moves that are done: on the disk whatever became of it since,
// and on others.
func TestDone(t *testing.T) {
	for _, place := range places {
		s, ended := stop(t, place[0], place[1], 1<<30)
		if !ended {
			t.Fatal("not done")
		}
		again := bytes.Clone(s.disk.cache)
		again[s.to+superAt+0x30] ^= 0xff
		again[s.to+4000] ^= 0xff
		used := newCell(again, s.disk.power)
		if err := s.resume(t, used, false); err != nil || !bytes.Equal(again, used.cache) {
			t.Errorf("%v: once more: %v", place, err)
		}
		for what, b := range map[string][]byte{"zeros": make([]byte, len(s.before)), "a copy from before": s.before} {
			if err := s.resume(t, newCell(b, s.disk.power), true); !errors.Is(err, ErrOther) {
				t.Errorf("%v: %s: %v", place, what, err)
			}
		}
		if err := s.resume(t, newCell(s.disk.cache[:s.to+s.size-1], s.disk.power), true); !errors.Is(err, ErrShort) {
			t.Errorf("%v: cut short: %v", place, err)
		}
	}
}

// TestWithoutJournal moves without one, and looks at what an error leaves.
func TestWithoutJournal(t *testing.T) {
	for _, place := range places {
		for writes := 0; ; writes++ {
			s, _ := stop(t, place[0], place[1], 0)
			s.disk.power.left = writes
			err := s.plan.Run(context.Background(), s.disk, Options{})
			if err == nil {
				if err := s.moved(s.disk, 0, 0); err != nil {
					t.Errorf("%v: %v", place, err)
				}
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			lost := false
			for _, r := range s.plan.runs {
				lost = lost || !bytes.Equal(s.disk.cache[s.from+r.Start:s.from+r.End], s.before[s.from+r.Start:s.from+r.End])
			}
			if lost && hasMagic(s.disk.cache, s.from) {
				t.Errorf("%v, after %d writes: written over, and looks whole", place, writes)
			}
			if !lost && !s.plan.Overlap() && !bytes.Equal(s.disk.cache[s.from:s.from+s.size], s.before[s.from:s.from+s.size]) {
				t.Errorf("%v, after %d writes: the old place is not as it was", place, writes)
			}
		}
	}
}

// TestGeometry holds what the windows of plans are found by against counting.
func TestGeometry(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		size := (2 + r.Int64N(100)) * unit
		var runs []run
		for at := r.Int64N(9) * unit; at < size; {
			end := min(at+(1+r.Int64N(8))*unit, size)
			runs = append(runs, run{at, end})
			at = end + r.Int64N(30)*unit
		}
		from, to := r.Int64N(50)*512, r.Int64N(50)*512
		if from == to {
			continue
		}
		p, err := New(extFS{bytes.NewReader(make([]byte, size)), runs}, newCell(make([]byte, 400<<10), nil), from, to)
		if err != nil {
			t.Fatal(err)
		}
		p.windowSize = align * (1 + r.Int64N(3))
		p.lay()
		want := int64(-1) // the window before with something in it
		sum := int64(0)
		for k := range p.windows() {
			if got := p.previous(k); got != want {
				t.Errorf("previous(%d): %d, not %d", k, got, want)
			}
			if got := p.bytesBefore(k); got != sum {
				t.Errorf("bytesBefore(%d): %d, not %d", k, got, sum)
			}
			if got := p.next(k) == k; got != (p.bytes(k) > 0) {
				t.Errorf("next(%d): %d, with %d bytes", k, p.next(k), p.bytes(k))
			}
			if p.bytes(k) > 0 {
				want = k
			}
			sum += p.bytes(k)
			for start, end := p.bounds(k); start < end; start++ {
				if p.windowOf(start) != k {
					t.Fatalf("byte %d is in window %d, not %d", start, p.windowOf(start), k)
				}
			}
		}
		if !p.decodes() {
			t.Errorf("runs %v: not what decode takes", p.runs)
		}
	}
}

// decodes reports whether decode takes what encode makes.
func (p *Plan) decodes() bool {
	q := &Plan{Size: p.Size}
	return q.decode(p.encode(), len(p.runs)) && fmt.Sprint(q.runs) == fmt.Sprint(p.runs)
}

// TestImpossible makes plans of what cannot be moved.
func TestImpossible(t *testing.T) {
	for _, c := range []struct{ size, from, to, disk int64 }{
		{1024, 0, 4096, 1 << 20}, {3000, 0, 4096, 1 << 20}, {4096, 0, 0, 1 << 20}, {4096, -1, 0, 1 << 20},
		{4096, 0, 1<<20 - 4095, 1 << 20}, {1 << 62, 0, 4096, 1 << 20}, {4096, 1 << 62, 0, 1 << 20}, {4096, 0, 512, 4096},
	} {
		f := extFS{Reader: bytes.NewReader(make([]byte, min(c.size, 1<<20)))}
		img := sized{f, c.size}
		if _, err := New(img, newCell(make([]byte, c.disk), nil), c.from, c.to); err == nil {
			t.Errorf("%+v: planned", c)
		}
	}
}

// A sized is an image that says how large it is.
type sized struct {
	extFS
	size int64
}

func (s sized) Size() int64 { return s.size }

var _ io.ReaderAt = sized{}
