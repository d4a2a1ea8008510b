package ordered

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"e2qcow/image"
)

// runs is an image of given runs, whose bytes tell their offset.
type runs struct {
	size int64
	list [][2]int64
}

func (r runs) Size() int64 { return r.size }

func (r runs) NextRun(off int64) (int64, int64, error) {
	for _, x := range r.list {
		if x[1] > off {
			return max(off, x[0]), x[1], nil
		}
	}
	return 0, 0, io.EOF
}

func (r runs) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		p := off + int64(i)
		if p >= r.size {
			return i, io.EOF
		}
		b[i] = 0
		if _, _, err := r.NextRun(p); err == nil && r.known(p) {
			b[i] = byte(p%251 + 1)
		}
	}
	return len(b), nil
}

func (r runs) known(p int64) bool {
	return slices.ContainsFunc(r.list, func(x [2]int64) bool { return x[0] <= p && p < x[1] })
}

func TestRuns(t *testing.T) {
	for _, c := range []struct {
		img  runs
		want [][2]int64
	}{
		{runs{0, nil}, nil},
		{runs{100, nil}, nil},
		{runs{100, [][2]int64{{0, 100}}}, [][2]int64{{0, 104}}},
		{runs{100, [][2]int64{{3, 4}, {5, 6}, {9, 10}}}, [][2]int64{{0, 16}}},
		{runs{100, [][2]int64{{3, 8}, {16, 17}, {30, 33}}}, [][2]int64{{0, 8}, {16, 40}}},
		{runs{100, [][2]int64{{3, 8}, {8, 9}, {99, 100}}}, [][2]int64{{0, 16}, {96, 104}}},
	} {
		var got [][2]int64
		r := NewRuns(c.img, 8)
		for {
			start, end, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, [2]int64{start, end})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("runs of %v: %v, want %v", c.img, got, c.want)
		}
	}
}

// A lying image has runs that are empty, descend or leave the image.
func TestRunsDisorder(t *testing.T) {
	for _, list := range [][][2]int64{{{10, 10}}, {{90, 120}}, {{20, 10}}} {
		lying := liar{runs{100, list}}
		if _, _, err := NewRuns(lying, 8).Next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("runs %v: error %v", list, err)
		}
	}
}

type liar struct{ runs }

func (l liar) NextRun(int64) (int64, int64, error) { return l.list[0][0], l.list[0][1], nil }

// A recorder is a worker that keeps what it is given.
type recorder struct {
	got      *[]byte // the image, as committed
	next     *int64
	finished *atomic.Int64
	fail     func(stage string, off int64) error
}

func (r recorder) Prepare(c *Chunk) error {
	runtime.Gosched()
	return r.fail("prepare", c.Spans[0].Off)
}

func (r recorder) Commit(c *Chunk) error {
	for _, s := range c.Spans {
		if s.Off < *r.next {
			return fmt.Errorf("span at %d after %d", s.Off, *r.next)
		}
		copy((*r.got)[s.Off:], s.Data)
		*r.next = s.Off + int64(len(s.Data))
	}
	return r.fail("commit", c.Spans[0].Off)
}

func (r recorder) Finish(c *Chunk) error {
	r.finished.Add(1)
	return r.fail("finish", c.Spans[0].Off)
}

var testRuns = runs{200_001, [][2]int64{
	{0, 1000}, {1001, 1002}, {2000, 30000}, {50000, 50001}, {100_000, 130_000}, {130_064, 130_065}, {200_000, 200_001},
}}

func none(string, int64) error { return nil }

func run(ctx context.Context, threads int, fail func(string, int64) error) ([]byte, int64, error) {
	got := make([]byte, testRuns.size+64)
	var next int64
	var finished atomic.Int64
	err := Run(ctx, testRuns, Options{Granule: 64, ChunkSize: 700, Threads: threads}, func() Worker {
		return recorder{got: &got, next: &next, finished: &finished, fail: fail}
	})
	return got, finished.Load(), err
}

func TestRun(t *testing.T) {
	want := make([]byte, testRuns.size+64)
	if _, err := testRuns.ReadAt(want[:testRuns.size], 0); err != nil {
		t.Fatal(err)
	}
	for _, threads := range []int{1, 2, 8} {
		got, finished, err := run(context.Background(), threads, none)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d threads: bytes differ", threads)
		}
		if finished < 60_000/700 {
			t.Errorf("%d threads: %d chunks finished", threads, finished)
		}
	}
}

// TestRunErrors has each stage fail: the error comes back, nothing hangs and
// no goroutine stays.
func TestRunErrors(t *testing.T) {
	before := runtime.NumGoroutine()
	sick := errors.New("sick")
	for _, stage := range []string{"prepare", "commit", "finish"} {
		for _, threads := range []int{1, 3} {
			_, _, err := run(context.Background(), threads, func(s string, off int64) error {
				if s == stage && off >= 20_000 {
					return sick
				}
				return nil
			})
			if !errors.Is(err, sick) {
				t.Errorf("%s fails: %v", stage, err)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	_, _, err := run(ctx, 2, func(s string, off int64) error {
		if off >= 20_000 {
			cancel(sick)
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if !errors.Is(err, sick) {
		t.Errorf("cancelled: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRunFirstError has many chunks fail, the later the sooner: the error is
// that of the first in the image, after all before it were committed.
func TestRunFirstError(t *testing.T) {
	sick := func(off int64) error { return fmt.Errorf("sick at %d", off) }
	for name, img := range map[string]image.Image{
		"read":        sickFrom{testRuns, 20_000, sick},
		"reads apart": crowded{runs: apart, depth: 32, sick: sick},
		"runs":        sickRuns{testRuns, sick},
		"prepare":     testRuns,
	} {
		messages := map[string]bool{}
		for range 10 {
			var finished atomic.Int64
			got, next := make([]byte, testRuns.size+64), int64(0)
			err := Run(t.Context(), img, Options{Granule: 8, ChunkSize: 700, Threads: 8}, func() Worker {
				return recorder{got: &got, next: &next, finished: &finished, fail: func(stage string, off int64) error {
					if name == "prepare" && stage == name && off >= 20_000 {
						late(off)
						return sick(off)
					}
					return nil
				}}
			})
			messages[fmt.Sprintf("%v, %d bytes are committed", err, next)] = true
		}
		if len(messages) != 1 || messages["<nil>"] {
			t.Errorf("%s: %d errors of one image: %v", name, len(messages), messages)
		}
	}
}

// late waits the longer the further in front off is.
func late(off int64) { time.Sleep(time.Duration(max(0, 30_000-off) * 50)) }

// A sickFrom image cannot be read from a place on.
type sickFrom struct {
	runs
	from int64
	sick func(off int64) error
}

func (s sickFrom) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > s.from {
		late(off)
		return 0, s.sick(off)
	}
	return s.runs.ReadAt(b, off)
}

// A sickRuns image has a run that cannot be found.
type sickRuns struct {
	runs
	sick func(off int64) error
}

func (s sickRuns) NextRun(off int64) (int64, int64, error) {
	if off >= 50_000 {
		return 0, 0, s.sick(off)
	}
	return s.runs.NextRun(off)
}

// apart has a few bytes known in every 64.
var apart = func() runs {
	img := runs{size: 1 << 14}
	for off := int64(0); off < img.size; off += 64 {
		img.list = append(img.list, [2]int64{off, off + 8})
	}
	return img
}()

// TestRunsEnd has a run end where an int64 does not reach to its granule's end.
func TestRunsEnd(t *testing.T) {
	size := int64(math.MaxInt64 - 511)
	if start, end, err := NewRuns(runs{size, [][2]int64{{size - 10, size}}}, 4096).Next(); err == nil {
		t.Errorf("a run from %d to %d", start, end)
	}
}

// short is an image whose ReadAt ends early.
type short struct{ runs }

func (s short) ReadAt(b []byte, off int64) (int, error) { return len(b) / 2, io.EOF }

func TestRunShortRead(t *testing.T) {
	var n atomic.Int64
	got, next := make([]byte, testRuns.size+64), int64(0)
	err := Run(context.Background(), short{testRuns}, Options{Granule: 64}, func() Worker {
		return recorder{got: &got, next: &next, finished: &n, fail: none}
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short read: %v", err)
	}
}

// A crowded image notes how many reads of it are under way at once.
type crowded struct {
	runs
	depth        int
	inside, most *atomic.Int64         // nil where nobody asks
	sick         func(off int64) error // what reads fail with, if not nil
}

func (c crowded) Advice() image.Advice {
	return image.Advice{Request: 1 << 10, Bridge: 1, Depth: c.depth}
}

func (c crowded) ReadAt(b []byte, off int64) (int, error) {
	if c.sick != nil {
		late(off * 2)
		return 0, c.sick(off)
	}
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(time.Millisecond)
	return c.runs.ReadAt(b, off)
}

// TestRunDepth reads as much at once as the image says, and the same. On the
// clock of synctest no read ends before all that can begin have begun.
func TestRunDepth(t *testing.T) {
	img := crowded{runs: apart}
	want := make([]byte, img.size)
	if _, err := img.runs.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	for _, depth := range []int{0, 1, 32} {
		synctest.Test(t, func(t *testing.T) {
			img.depth, img.inside, img.most = depth, new(atomic.Int64), new(atomic.Int64)
			var finished atomic.Int64
			got, next := make([]byte, img.size), int64(0)
			err := Run(t.Context(), img, Options{Granule: 8, Threads: 2}, func() Worker {
				return recorder{got: &got, next: &next, finished: &finished, fail: none}
			})
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("bytes differ, or %v", err)
			}
			if most, want := img.most.Load(), int64(max(depth, 4)); most > want || most < want/2 {
				t.Errorf("depth %d: %d reads at once, want %d", depth, most, want)
			}
		})
	}
}

// A lateData is an image whose last hole becomes data while it is walked, as
// holes of a file do when they come into the page cache.
type lateData struct {
	runs  image.Image
	ended bool
}

func (l *lateData) Size() int64 { return l.runs.Size() + 1000 }

func (l *lateData) ReadAt(p []byte, off int64) (int, error) { return l.runs.ReadAt(p, off) }

func (l *lateData) NextRun(off int64) (start, end int64, err error) {
	start, end, err = l.runs.NextRun(off)
	if errors.Is(err, io.EOF) && l.ended {
		return l.runs.Size(), l.runs.Size() + 1000, nil
	}
	l.ended = errors.Is(err, io.EOF)
	return start, end, err
}

// TestRunsStayAtEnd walks on behind the end, where there is more by then.
func TestRunsStayAtEnd(t *testing.T) {
	r := NewRuns(&lateData{runs: apart}, 8)
	for {
		_, _, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if start, end, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("a run from %d to %d, %v, behind the end", start, end, err)
	}
}
