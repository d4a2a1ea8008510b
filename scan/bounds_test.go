package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"
)

// What a scan may take, whatever the disk holds.
const (
	mostMemory = 512 << 20
	mostTime   = 10 * time.Second // of processors
)

// scanBounded scans and checks what the scan took and what it found.
func scanBounded(t testing.TB, r io.ReaderAt, size int64, opt Options) *Result {
	t.Helper()
	runtime.GC()
	before := liveHeap()
	limit := debug.SetMemoryLimit(before + mostMemory/2) // collect rather than grow
	defer debug.SetMemoryLimit(limit)
	done := make(chan struct{})
	peak := make(chan int64)
	go func() {
		most := int64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, liveHeap()-before)
			select {
			case <-done:
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 6*mostTime*raceFactor)
	defer cancel()
	start := processorTime(t)
	res, err := Scan(ctx, r, size, opt)
	took := processorTime(t) - start
	close(done)
	if most := <-peak; most > mostMemory {
		t.Errorf("the scan held %d MiB", most>>20)
	}
	if took > mostTime*raceFactor {
		t.Errorf("the scan took %v", took)
	}
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, r, size, res)
	return res
}

// processorTime returns what the process has used of all processors: a wall
// clock would judge the machine.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// liveHeap returns the bytes of heap objects, dead ones included that have not
// been swept.
func liveHeap() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// checkResult checks that a map lies within the device, and that its view
// shows what the source has there, or zeros, and zeros elsewhere.
func checkResult(t testing.TB, r io.ReaderAt, size int64, res *Result) {
	t.Helper()
	bs := uint64(res.BlockSize())
	blocks := (uint64(size) + bs - 1) / bs
	end := uint64(0)
	for run := range res.Map.Runs() {
		if run.Start < end || run.Count == 0 || run.Start+run.Count > blocks {
			t.Fatalf("run %+v on a device of %d blocks, after one that ends at %d", run, blocks, end)
		}
		end = run.Start + run.Count
	}
	v := res.View()
	if v.Size() != size&^(sector-1) {
		t.Fatalf("the view has %d bytes, the source %d", v.Size(), size)
	}
	got, want := make([]byte, 256<<10), make([]byte, 256<<10)
	last, looked := int64(0), 0
	for off := int64(0); looked < 2000; looked++ {
		start, stop, err := v.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || start < off || stop <= start || stop > v.Size() || looked > 0 && start == last && start != 0 {
			t.Fatalf("NextRun(%d) = %d, %d, %v", off, start, stop, err)
		}
		last = stop
		n := min(stop-start, int64(len(got)))
		checkRun(t, r, v, start, got[:n], want[:n])
		off = stop
	}
}

func checkRun(t testing.TB, r io.ReaderAt, v *View, start int64, got, want []byte) {
	t.Helper()
	if n, err := v.ReadAt(got, start); n != len(got) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt of %d bytes at %d = %d, %v", len(got), start, n, err)
	}
	if n, err := r.ReadAt(want, start); n != len(want) && err == nil {
		t.Fatalf("the source gives %d of %d bytes", n, len(want))
	}
	if bytes.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] && got[i] != 0 {
			t.Fatalf("the view has %#x at %d, the source %#x", got[i], start+int64(i), want[i])
		}
	}
}
