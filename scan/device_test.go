package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"e2qcow/image"
)

// noise returns bytes none of which is zero.
func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(1 + r.IntN(255))
	}
	return b
}

// without returns b, the bytes from off, with bad sectors zeroed.
func without(b []byte, off int64, bad []int64) []byte {
	b = slices.Clone(b)
	for _, s := range bad {
		if from, to := max(s-off, 0), min(s+sector-off, int64(len(b))); from < to {
			clear(b[from:to])
		}
	}
	return b
}

// Only the bad sectors are lost, wherever they lie and however the source
// fails, and they are listed exactly.
func TestDeviceLosesSectors(t *testing.T) {
	const size = 64 * sector
	data := noise(size, 1)
	r := rand.New(rand.NewPCG(2, 2))
	for _, nothing := range []bool{false, true} {
		for first := range int64(size / sector) {
			bad := []int64{first * sector}
			for range r.IntN(4) {
				bad = append(bad, r.Int64N(size/sector)*sector)
			}
			slices.Sort(bad)
			bad = slices.Compact(bad)
			d := &device{r: &badDisk{ReaderAt: bytes.NewReader(data), bad: bad, nothing: nothing}, size: size}
			got := make([]byte, size)
			d.read(got, 0)
			if !bytes.Equal(got, without(data, 0, bad)) {
				t.Fatalf("bad sectors %v: the bytes read are not the good ones", bad)
			}
			var want []Range
			for _, s := range bad {
				if n := len(want) - 1; n >= 0 && want[n].End == s {
					want[n].End += sector
				} else {
					want = append(want, Range{s, s + sector})
				}
			}
			for range 2 { // what is read twice is listed once
				if lost := d.unreadable(); !slices.Equal(lost, want) {
					t.Fatalf("bad sectors %v: %v listed", bad, lost)
				}
				d.read(got[:size/2], 0)
				d.read(got[size/2:], size/2)
			}
		}
	}
}

// The same where what is read begins and ends anywhere.
func TestDeviceUnaligned(t *testing.T) {
	const size = 4 * sector
	data := noise(size, 1)
	for bad := int64(0); bad < size; bad += sector {
		for off := int64(0); off < size; off += 64 {
			for end := off + 1; end <= size; end += 63 {
				d := &device{r: &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{bad}, nothing: true}, size: size}
				got := make([]byte, end-off)
				d.read(got, off)
				if !bytes.Equal(got, without(data[off:end], off, []int64{bad})) {
					t.Fatalf("bad sector %d: of [%d, %d) the bytes read are not the good ones", bad, off, end)
				}
				var want []Range
				if bad < end && off < bad+sector {
					want = []Range{{bad, bad + sector}}
				}
				if lost := d.unreadable(); !slices.Equal(lost, want) {
					t.Fatalf("bad sector %d: of [%d, %d) %v listed", bad, off, end, lost)
				}
			}
		}
	}
}

// Beside what is known to be bad nothing is read through the page cache, which
// takes in more than was asked for.
func TestDeviceNearKnownBad(t *testing.T) {
	const size = 1 << 20
	for _, bad := range []Range{{0, sector}, {size / 2, size/2 + 3*sector}, {size - sector, size}} {
		r := newUseRecorder(bytes.NewReader(noise(size, 1)), sector)
		d := &device{r: r, size: size, bad: []Range{bad}}
		buf := make([]byte, 1024)
		for off := int64(0); off < size; off += int64(len(buf)) {
			d.read(buf, off)
		}
		again, once := r.read[image.Again], r.read[image.Once]
		for n := range again {
			if n*sector < bad.End+nearBad && bad.Start < (n+1)*sector+nearBad {
				t.Errorf("%v is bad: sector %d is read through the page cache", bad, n)
			}
		}
		if len(again) == 0 || len(once) == 0 {
			t.Errorf("%v is bad: %d sectors are read through the page cache, %d past it", bad, len(again), len(once))
		}
	}
}

// A device that has given nothing but errors for long is not read any more,
// and all that was asked for is listed.
func TestDeviceDies(t *testing.T) {
	const requests, length = 400, 1 << 20
	src := &badDisk{ReaderAt: newDisk(requests * length)}
	d := &device{r: src, size: requests * length, barren: deadTime + 1, wasted: deadTime + 1}
	buf := make([]byte, length)
	for i := range int64(requests) {
		buf[0] = 1
		d.read(buf, i*length)
		if buf[0] != 0 {
			t.Fatal("what cannot be read is not zero")
		}
		if d.tryRead(buf, i*length) {
			t.Fatal("a dead device was read")
		}
	}
	if n := src.reads.Load(); n != 0 {
		t.Errorf("%d reads of a dead device", n)
	}
	if lost := d.unreadable(); !slices.Equal(lost, []Range{{0, requests * length}}) {
		t.Errorf("%d ranges listed, the first %v", len(lost), lost[0])
	}
}

// A dyingDisk takes a while for each read that fails.
type dyingDisk struct {
	badDisk
	delay time.Duration
}

func (d *dyingDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.badDisk.ReadAt(p, off)
	if err != nil {
		time.Sleep(d.delay)
	}
	return n, err
}

// everySector returns each step-th sector below end.
func everySector(end, step int64) []int64 {
	var bad []int64
	for off := int64(0); off < end; off += step * sector {
		bad = append(bad, off)
	}
	return bad
}

// Reads that fail at the same time take that time once, however many they are.
func TestDeviceDyingInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers = 16
		src := &dyingDisk{badDisk{ReaderAt: newDisk(readers * sector), bad: everySector(readers*sector, 1), nothing: true}, deadTime - time.Second}
		d := &device{r: src, size: readers * sector}
		var all sync.WaitGroup
		for i := range int64(readers) {
			all.Go(func() { d.tryRead(make([]byte, sector), i*sector) })
		}
		all.Wait()
		if d.dead() || d.barren != src.delay || d.wasted != src.delay {
			t.Errorf("dead %v, after %v, %v in all", d.dead(), d.barren, d.wasted)
		}
		d.tryRead(make([]byte, sector), 0)
		if !d.dead() {
			t.Errorf("not dead after %v", d.barren)
		}
	})
}

// On the clock of a device on which every read fails, deadTime is the end.
func TestDeviceDyingTakesNoLonger(t *testing.T) {
	for _, delay := range []time.Duration{10 * time.Second, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			const requests = 400
			src := &dyingDisk{badDisk{ReaderAt: newDisk(requests * requestSize), bad: everySector(requests*requestSize, 1), nothing: true}, delay}
			d := &device{r: src, size: requests * requestSize}
			start := time.Now()
			for i := range int64(requests) {
				d.read(make([]byte, requestSize), i*requestSize)
			}
			if took := time.Since(start); took > deadTime+2*delay {
				t.Errorf("failing after %v each, it took %v", delay, took)
			}
			if lost := d.unreadable(); !slices.Equal(lost, []Range{{0, requests * requestSize}}) {
				t.Errorf("%d ranges listed, the first %v", len(lost), lost[0])
			}
		})
	}
}

// A device with many bad sectors is read to its end, but from breakUpTime on
// each request fails once at most.
func TestDeviceManyBadSectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests, delay, each = 1000, 5 * time.Second, 4
		size := int64(requests * requestSize)
		data := noise(requestSize, 1)
		fs := newDisk(size)
		fs.fill(0, size, data)
		src := &dyingDisk{badDisk{ReaderAt: fs, bad: everySector(size, each*requestSize/sector), nothing: true}, delay}
		d := &device{r: src, size: size}
		start := time.Now()
		buf := make([]byte, requestSize)
		for i := range int64(requests) {
			d.read(buf, i*requestSize)
			if i%each != 0 && !bytes.Equal(buf, data) {
				t.Fatalf("request %d, which has no bad sector, is lost", i)
			}
		}
		if took, most := time.Since(start), breakUpTime+delay*(requests/each+20); took > most {
			t.Errorf("it took %v, want at most %v", took, most)
		}
		lost := d.unreadable()
		if first, last := lost[0], lost[len(lost)-1]; first != (Range{0, sector}) || last.End-last.Start != requestSize {
			t.Errorf("the first lost is %v, the last %v", first, last)
		}
	})
}

// A read that succeeds gives a device more time.
func TestDeviceRevives(t *testing.T) {
	data := noise(8*sector, 3)
	d := &device{r: bytes.NewReader(data), size: int64(len(data)), barren: deadTime}
	got := make([]byte, len(data))
	d.read(got, 0)
	if !bytes.Equal(got, data) || d.barren != 0 {
		t.Errorf("after a good read %v are held against the device", d.barren)
	}
}

// After much time has gone into errors, a device still reads what can be read
// whole, but does not break up what cannot.
func TestDeviceReadsOnAfterGivingUp(t *testing.T) {
	data := noise(8*sector, 3)
	d := &device{r: &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{5 * sector}, nothing: true}, size: int64(len(data)), wasted: breakUpTime + 1}
	got := make([]byte, 4*sector)
	d.read(got, 0)
	if !bytes.Equal(got, data[:4*sector]) || len(d.unreadable()) != 0 {
		t.Error("good sectors were not read")
	}
	d.read(got, 4*sector)
	if want := []Range{{4 * sector, 8 * sector}}; !slices.Equal(d.unreadable(), want) {
		t.Errorf("%v listed, want %v", d.unreadable(), want)
	}
}

// What is known to be bad is not read, and listed where it is asked for.
func TestDeviceBadMap(t *testing.T) {
	data := noise(16*sector, 5)
	src := &badDisk{ReaderAt: bytes.NewReader(data), bad: []int64{3 * sector, 4 * sector, 9 * sector}}
	d := &device{r: src, size: int64(len(data)), bad: []Range{{3 * sector, 5 * sector}, {9 * sector, 10 * sector}, {15 * sector, 20 * sector}}}
	got := make([]byte, len(data))
	if d.tryRead(got[:4*sector], 0) || !d.tryRead(got[:4*sector], 5*sector) {
		t.Error("a read in one go is for good sectors only")
	}
	d.read(got, 0)
	want := bytes.Clone(data)
	for _, r := range d.bad {
		clear(want[r.Start:min(r.End, int64(len(want)))])
	}
	if !bytes.Equal(got, want) {
		t.Error("wrong bytes")
	}
	if lost := d.unreadable(); !slices.Equal(lost, []Range{{3 * sector, 5 * sector}, {9 * sector, 10 * sector}, {15 * sector, 16 * sector}}) {
		t.Errorf("%v listed", lost)
	}
	if src.failed.Load() != 0 {
		t.Errorf("%d reads of bad sectors", src.failed.Load())
	}
}

// A sector that fails is tried again as often as asked.
func TestDeviceRetries(t *testing.T) {
	for _, tt := range []struct{ retries, fails int64 }{{0, 1}, {2, 2}, {2, 3}, {2, 4}} {
		data := noise(sector, 7)
		d := &device{r: &flakyReader{ReaderAt: bytes.NewReader(data), fails: tt.fails}, size: sector, retries: int(tt.retries)}
		got := make([]byte, sector)
		d.read(got, 0)
		if recovered := bytes.Equal(got, data); recovered != (tt.fails <= tt.retries) {
			t.Errorf("%d retries of a sector that fails %d times: recovered %v", tt.retries, tt.fails, recovered)
		}
	}
}

// A flakyReader fails a number of times, then reads.
type flakyReader struct {
	io.ReaderAt
	fails int64
}

func (f *flakyReader) ReadAt(p []byte, off int64) (int, error) {
	if f.fails--; f.fails >= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return f.ReaderAt.ReadAt(p, off)
}

// A chunkReader gives at most n bytes a read, with or without an error.
type chunkReader struct {
	io.ReaderAt
	n   int
	err error
}

func (c chunkReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) <= c.n {
		return c.ReaderAt.ReadAt(p, off)
	}
	n, _ := c.ReaderAt.ReadAt(p[:c.n], off)
	return n, c.err
}

// A source that breaks the contract of io.ReaderAt and reads short is read to
// the end all the same.
func TestDeviceShortReads(t *testing.T) {
	data := noise(32*sector, 4)
	for _, err := range []error{nil, errIO, io.ErrUnexpectedEOF} {
		for _, n := range []int{sector, 2 * sector, 3*sector + 100, 7 * sector} {
			d := &device{r: chunkReader{bytes.NewReader(data), n, err}, size: int64(len(data))}
			got := make([]byte, len(data))
			d.read(got, 0)
			if !bytes.Equal(got, data) || len(d.unreadable()) != 0 {
				t.Errorf("reads of %d bytes with error %v: lost %v", n, err, d.unreadable())
			}
		}
	}
	// Less than a sector at a time is a source that is lost, not one to hang on.
	for _, n := range []int{0, 100} {
		d := &device{r: chunkReader{bytes.NewReader(data), n, nil}, size: int64(len(data))}
		got := make([]byte, len(data))
		d.read(got, 0)
		if want := []Range{{0, int64(len(data))}}; !slices.Equal(d.unreadable(), want) {
			t.Errorf("reads of %d bytes: lost %v, want %v", n, d.unreadable(), want)
		}
	}
}

func TestDeviceEnd(t *testing.T) {
	data := noise(5*sector+100, 5)
	size := int64(len(data))
	d := &device{r: bytes.NewReader(data), size: size}
	got := noise(4*sector, 6)
	d.read(got, 4*sector)
	if want := append(slices.Clone(data[4*sector:]), make([]byte, 8*sector-size)...); !bytes.Equal(got, want) {
		t.Error("a read across the end is not what is left and zeros")
	}
	got = noise(sector, 7)
	for _, off := range []int64{size, size + 1, 1 << 62} {
		d.read(got, off)
		if !bytes.Equal(got, make([]byte, sector)) {
			t.Errorf("a read at %d, beyond the end, is not zero", off)
		}
		copy(got, data)
	}
	if lost := d.unreadable(); len(lost) != 0 {
		t.Errorf("beyond the end %v is listed", lost)
	}
	for _, c := range []struct {
		off int64
		n   int
		ok  bool
	}{{0, len(data), true}, {0, len(data) + 1, false}, {1, len(data), false}, {-1, 1, false}, {size, 0, true}, {1<<63 - 1, 1, false}} {
		if d.tryRead(make([]byte, c.n), c.off) != c.ok {
			t.Errorf("tryRead of %d bytes at %d: %v", c.n, c.off, !c.ok)
		}
	}

	// A source shorter than it said is lost from its end on.
	d = &device{r: bytes.NewReader(data), size: 16 * sector}
	got = noise(16*sector, 8)
	d.read(got, 0)
	if want := append(slices.Clone(data[:5*sector]), make([]byte, 11*sector)...); !bytes.Equal(got, want) {
		t.Error("the sectors that a shorter source has were not kept")
	}
	if want := []Range{{5 * sector, 16 * sector}}; !slices.Equal(d.unreadable(), want) {
		t.Errorf("%v listed, want %v", d.unreadable(), want)
	}
}

// Ranges listed in any order come out ascending and merged.
func TestDeviceMergesRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 200 {
		d := &device{size: 70 * sector}
		bad := make(map[int64]bool)
		for range r.IntN(30) {
			start, n := r.Int64N(60), 1+r.Int64N(8)
			d.lose(start*sector, (start+n)*sector)
			for s := start; s < start+n; s++ {
				bad[s] = true
			}
		}
		var want []Range
		for s := range int64(70) {
			switch n := len(want) - 1; {
			case !bad[s]:
			case n >= 0 && want[n].End == s*sector:
				want[n].End += sector
			default:
				want = append(want, Range{s * sector, (s + 1) * sector})
			}
		}
		if got := d.unreadable(); !slices.Equal(got, want) {
			t.Fatalf("merged to %v, want %v", got, want)
		}
	}
}

// Where no superblock is found and one may have stood where nothing can be
// read, that is said.
func TestUnreadableSuperblock(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		what string
		opt  Options
		bad  []int64 // sectors
		at   int64
		err  error
	}{
		{"the primary", Options{}, []int64{1024, 1536}, 1024, errIO},
		{"all", Options{}, sectors(0, size, sector), 1024, errIO},
		{"a copy asked for", Options{Superblock: 100, BlockSize: 4096}, []int64{100 * 4096}, 100 * 4096, errIO},
		{"known to be bad", Options{Bad: []Range{{512, 4096}}}, nil, 1024, errKnownBad},
	} {
		src := &badDisk{ReaderAt: newDisk(size), bad: c.bad}
		_, err := Scan(context.Background(), src, size, c.opt)
		failed := (*ReadError)(nil)
		if !errors.Is(err, ErrNotExt) || !errors.As(err, &failed) || failed.Offset != c.at || !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func sectors(start, end, step int64) (list []int64) {
	for ; start < end; start += step {
		list = append(list, start)
	}
	return list
}

// A disk that fails slowly is not read on when the context has ended.
func TestDeviceEndsWithContext(t *testing.T) {
	for _, after := range []int64{1, 2, 5, 40} {
		ctx, cancel := context.WithCancel(context.Background())
		src := &badDisk{ReaderAt: newDisk(1 << 30), bad: sectors(0, 1<<30, sector), nothing: true}
		counted := &callingDisk{ReaderAt: src, after: after, call: cancel}
		_, err := Scan(ctx, counted, 1<<30, Options{Threads: 2})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d reads: %v", after, err)
		}
		if n := counted.reads.Load(); n > after+2 {
			t.Errorf("after %d reads: %d more", after, n-after)
		}
	}
}

// A callingDisk calls once a number of reads have been made.
type callingDisk struct {
	io.ReaderAt
	reads atomic.Int64
	after int64
	call  func()
}

func (d *callingDisk) ReadAt(p []byte, off int64) (int, error) {
	if d.reads.Add(1) == d.after {
		d.call()
	}
	return d.ReaderAt.ReadAt(p, off)
}
