package scan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"e2qcow/ext"
	"e2qcow/image"
)

// scannerOf returns a scanner of the filesystem on r, ready to scan.
func scannerOf(t testing.TB, r io.ReaderAt, size int64) *scanner {
	t.Helper()
	dev := &device{r: r, size: size}
	sb, err := ext.DecodeSuperblock(readPrimary(dev))
	if err != nil {
		t.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	blocks := (uint64(size) + uint64(geo.BlockSize) - 1) / uint64(geo.BlockSize)
	s := newScanner(reading{sb: sb, geo: geo, believed: true}, dev, blocks, Options{}, new(Map), new(problems))
	s.opt.Threads = 2
	return s
}

// requestSize is what readers that do not say have a read ask for.
const requestSize = image.DefaultRequest

// A blockRun is what sweep is given: first block and count.
type blockRun struct{ block, count uint64 }

// randomSweep returns ascending runs that overlap, repeat, touch, are empty,
// leave short and long gaps, and may end beyond the device.
func randomSweep(r *rand.Rand, blocks uint64) []blockRun {
	runs := make([]blockRun, r.IntN(60))
	for i := range runs {
		runs[i] = blockRun{r.Uint64N(blocks + blocks/8), r.Uint64N(1 + r.Uint64N(1+r.Uint64N(blocks)))}
	}
	slices.SortFunc(runs, func(a, b blockRun) int { return cmp.Compare(a.block, b.block) })
	return runs
}

func (r blockRun) onDevice(blocks uint64) (start, end uint64) {
	return min(r.block, blocks), min(r.block+r.count, blocks)
}

// Every block of every run is requested once, in requests of bounded length
// that are not longer than the runs and the short gaps within them ask for.
func TestRequestsProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, bs := range []uint32{1024, 4096, 65536} {
		const size = 64 << 20
		fs := newSynthetic(layout{blockSize: bs, blocks: size / uint64(bs)})
		s := scannerOf(t, fs, size)
		for range 60 {
			runs := randomSweep(r, s.deviceBlocks)
			want := make([][]uint64, len(runs)) // by run: blocks not requested yet
			for i, run := range runs {
				start, end := run.onDevice(s.deviceBlocks)
				for ; start < end; start++ {
					want[i] = append(want[i], start)
				}
			}
			next := s.requests(image.AdviceOf(s.dev.r), len(runs), func(i int) (uint64, uint64) { return runs[i].block, runs[i].count })
			var req request
			for next(&req) {
				checkRequest(t, s, &req)
				for _, p := range req.pieces {
					for block := p.block; block < p.block+uint64(p.count); block++ {
						if len(want[p.tag]) == 0 || want[p.tag][0] != block {
							t.Fatalf("block size %d, runs %v: block %d of run %d requested twice or out of turn", bs, runs, block, p.tag)
						}
						want[p.tag] = want[p.tag][1:]
					}
				}
			}
			for i := range want {
				if len(want[i]) > 0 {
					t.Fatalf("block size %d, runs %v: blocks %v of run %d never requested", bs, runs, want[i], i)
				}
			}
			if next(&req) {
				t.Fatal("a request after the last")
			}
		}
	}
}

func checkRequest(t *testing.T, s *scanner, req *request) {
	t.Helper()
	bs := int64(s.geo.BlockSize)
	if req.length <= 0 || req.length > requestSize || len(req.pieces) == 0 {
		t.Fatalf("a request of %d bytes, %d pieces", req.length, len(req.pieces))
	}
	covered := req.off
	visits := int64(0)
	for _, p := range req.pieces {
		visits += int64(p.count) * bs
		start, end := int64(p.block)*bs, (int64(p.block)+int64(p.count))*bs
		if p.count == 0 || start < req.off || end > req.off+int64(req.length) {
			t.Fatalf("piece %v lies outside its request, %d bytes at %d", p, req.length, req.off)
		}
		if start-covered > image.DefaultBridge {
			t.Fatalf("a request bridges a gap of %d bytes", start-covered)
		}
		covered = max(covered, end)
	}
	if covered != req.off+int64(req.length) {
		t.Fatalf("a request ends at %d, its pieces at %d", req.off+int64(req.length), covered)
	}
	if visits >= 5*requestSize {
		t.Fatalf("a request of which %d bytes are visited", visits)
	}
}

// What a sweep visits has the bytes of the source, each block of each run once.
func TestSweep(t *testing.T) {
	const bs, blocks = 1024, 5000
	r := rand.New(rand.NewPCG(23, 24))
	fs := newSynthetic(layout{blockSize: bs, blocks: blocks})
	fs.fill(64*bs, blocks*bs, noise(blocks*bs, 1))
	disk := &advisedDisk{fs, image.AdviceOf(nil)}
	s := scannerOf(t, disk, blocks*bs-300) // the last block is cut short
	want := make([]byte, blocks*bs)
	if _, err := fs.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	clear(want[len(want)-300:])
	for round := range 40 {
		s.opt.Threads = 1 + round%4
		disk.advice.Depth = 1 + round%7
		runs := randomSweep(r, blocks)
		var mu sync.Mutex
		visits := make(map[[2]uint64]int) // tag and block
		err := s.sweep(context.Background(), len(runs),
			func(i int) (uint64, uint64) { return runs[i].block, runs[i].count },
			func(_ *batch, tag int, block uint64, data []byte) {
				mu.Lock()
				defer mu.Unlock()
				for ; len(data) > 0; data, block = data[bs:], block+1 {
					visits[[2]uint64{uint64(tag), block}]++
					if !bytes.Equal(data[:bs], want[block*bs:][:bs]) {
						t.Errorf("block %d has other bytes", block)
					}
				}
			})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for tag, run := range runs {
			start, end := run.onDevice(blocks)
			for ; start < end; start++ {
				total++
				if n := visits[[2]uint64{uint64(tag), start}]; n != 1 {
					t.Fatalf("runs %v: block %d of run %d visited %d times", runs, start, tag, n)
				}
			}
		}
		if len(visits) != total {
			t.Fatalf("runs %v: %d visits, want %d", runs, len(visits), total)
		}
	}
	if lost := s.dev.unreadable(); len(lost) != 0 {
		t.Errorf("%v listed", lost)
	}
}

// A bad sector between pieces is no loss; one in a piece is zero and listed.
func TestSweepBadSectors(t *testing.T) {
	const bs, blocks = 1024, 64
	fs := newSynthetic(layout{blockSize: bs, blocks: blocks})
	fs.fill(0, blocks*bs, noise(bs, 1))
	runs := []blockRun{{20, 4}, {22, 1}, {26, 2}, {26, 2}, {40, 3}}
	for bad := int64(18 * bs); bad < 46*bs; bad += sector {
		s := scannerOf(t, &badDisk{ReaderAt: fs, bad: []int64{bad}}, blocks*bs)
		var mu sync.Mutex
		zeros := 0
		err := s.sweep(context.Background(), len(runs),
			func(i int) (uint64, uint64) { return runs[i].block, runs[i].count },
			func(_ *batch, _ int, block uint64, data []byte) {
				mu.Lock()
				defer mu.Unlock()
				zeros += bytes.Count(data, []byte{0})
			})
		if err != nil {
			t.Fatal(err)
		}
		var want []Range
		hits := 0
		for _, run := range runs {
			if block := uint64(bad / bs); block >= run.block && block < run.block+run.count {
				want, hits = []Range{{bad, bad + sector}}, hits+1
			}
		}
		if lost := s.dev.unreadable(); !slices.Equal(lost, want) || zeros != hits*sector {
			t.Errorf("bad sector at %d: %d zeros, %v listed, want %d and %v", bad, zeros, lost, hits*sector, want)
		}
	}
}

func TestSweepEndsWithContext(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 20})
	s := scannerOf(t, fs, fs.size)
	ctx, cancel := context.WithCancel(context.Background())
	visits := 0
	s.opt.Threads = 1
	err := s.sweep(ctx, 1, func(int) (uint64, uint64) { return 0, 1 << 20 }, func(*batch, int, uint64, []byte) {
		visits++
		cancel()
	})
	if !errors.Is(err, context.Canceled) || visits != 1 {
		t.Errorf("%d visits, %v", visits, err)
	}
	if _, err := Scan(ctx, fs, fs.size, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: %v", err)
	}
}

// A slowDisk takes its time, so that workers overlap.
type slowDisk struct{ io.ReaderAt }

func (d slowDisk) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(time.Millisecond)
	return d.ReaderAt.ReadAt(p, off)
}

// Workers read at the same time. On the clock of synctest no visit ends before
// all that can begin have begun.
func TestSweepIsParallel(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 16})
	synctest.Test(t, func(t *testing.T) {
		s := scannerOf(t, slowDisk{fs}, fs.size)
		var mu sync.Mutex
		inside, most := 0, 0
		s.opt.Threads = 4
		err := s.sweep(context.Background(), 1, func(int) (uint64, uint64) { return 0, 1 << 14 }, func(*batch, int, uint64, []byte) {
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			inside--
			mu.Unlock()
		})
		if err != nil || most < 2 {
			t.Errorf("%d visits at once, %v", most, err)
		}
	})
}

// An advisedDisk is to be read as it says.
type advisedDisk struct {
	io.ReaderAt
	advice image.Advice
}

func (d *advisedDisk) Advice() image.Advice { return d.advice }

// A source may learn how it is best read: each sweep asks it again.
func TestSweepAsksAgain(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 16})
	counting := &countingDisk{ReaderAt: fs}
	disk := &advisedDisk{counting, image.Advice{Request: 1 << 20, Depth: 1}}
	s := scannerOf(t, disk, fs.size)
	for _, c := range []struct {
		bridge int
		reads  int64
	}{{0, 9}, {64 << 10, 1}} {
		disk.advice.Bridge = c.bridge
		before := counting.reads.Load()
		err := s.sweep(context.Background(), 9, func(i int) (uint64, uint64) { return uint64(i) * 16, 1 }, func(*batch, int, uint64, []byte) {})
		if n := counting.reads.Load() - before; err != nil || n != c.reads {
			t.Errorf("%d reads with a bridge of %d bytes, want %d: %v", n, c.bridge, c.reads, err)
		}
	}
}

// A crowdedDisk notes how many small reads are under way at once.
type crowdedDisk struct {
	slowDisk
	inside, most atomic.Int64
}

func (d *crowdedDisk) ReadAt(p []byte, off int64) (int, error) {
	if len(p) <= smallRequest {
		n := d.inside.Add(1)
		defer d.inside.Add(-1)
		for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
		}
	}
	return d.slowDisk.ReadAt(p, off)
}

// As many small requests are under way as the source can answer at once, large
// ones among them or not.
func TestSweepDepth(t *testing.T) {
	fs := newSynthetic(layout{blocks: 1 << 16})
	for _, each := range []int{1 << 16, 50} { // every so many runs a large one
		d := &crowdedDisk{slowDisk: slowDisk{fs}}
		s := scannerOf(t, &advisedDisk{d, image.Advice{Request: 1 << 20, Depth: 16}}, fs.size)
		s.opt.Threads = 2
		var visited atomic.Int64
		count := func(i int) uint64 {
			if i%each == each-1 {
				return 32
			}
			return 1
		}
		err := s.sweep(context.Background(), 1000, func(i int) (uint64, uint64) { return uint64(i) * 64, count(i) },
			func(*batch, int, uint64, []byte) { visited.Add(1) })
		if most := d.most.Load(); err != nil || visited.Load() != 1000 || most < 12 || most > 16 {
			t.Errorf("%d visits, %d reads at once, %v", visited.Load(), most, err)
		}
	}
}

// BenchmarkSweepScattered reads single blocks from what answers in 0.1 ms.
func BenchmarkSweepScattered(b *testing.B) {
	fs := newSynthetic(layout{blocks: 1 << 18})
	for _, depth := range []int{1, 32} {
		b.Run(strconv.Itoa(depth), func(b *testing.B) {
			s := scannerOf(b, &advisedDisk{lateDisk{fs}, image.Advice{Request: 1 << 20, Depth: depth}}, fs.size)
			s.opt.Threads = 2
			const n = 1 << 12
			for b.Loop() {
				err := s.sweep(context.Background(), n, func(i int) (uint64, uint64) { return uint64(i) * 64, 1 }, func(*batch, int, uint64, []byte) {})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "reads/s")
		})
	}
}

// A lateDisk answers as late as a solid state disk does.
type lateDisk struct{ io.ReaderAt }

func (d lateDisk) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return d.ReaderAt.ReadAt(p, off)
}

func BenchmarkSweep(b *testing.B) {
	const bs = 4096
	fs := newSynthetic(layout{blocks: 1 << 18})
	s := scannerOf(b, fs, fs.size)
	for _, c := range []struct {
		name         string
		count, pitch uint64
	}{{"whole", 1 << 14, 1 << 14}, {"each-fourth", 1, 4}, {"each-64th", 1, 64}} {
		b.Run(c.name, func(b *testing.B) {
			n := int((1 << 14) / c.pitch)
			b.SetBytes(int64(n) * int64(c.count) * bs)
			b.ReportAllocs()
			for b.Loop() {
				err := s.sweep(context.Background(), n,
					func(i int) (uint64, uint64) { return uint64(i) * c.pitch, c.count },
					func(*batch, int, uint64, []byte) {})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
