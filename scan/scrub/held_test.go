package scrub

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// TestHeldNames holds the names of few directories at once, of one, and of none:
// the image is the same as where all are held, whoever reads it in which order.
func TestHeldNames(t *testing.T) {
	spec := testfs.Spec{Mke2fs: "-b 1024 -N 2048 -I 256 -O inline_data -J size=1 -t ext4", Size: 16 << 20, Debugfs: []string{"mkdir a", "mkdir b", "mkdir c", "mkdir d", "mkdir e", "mkdir f"}}
	for i := range 240 {
		for k, d := range "abcd" {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir %c/%s-%d", d, []string{"name", "n", "a-long-name-of-somebody", "x"}[k], i*i))
		}
		if i%2 == 0 {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir of-the-root-%d", i))
		}
	}
	for i := range 60 { // without an index, short enough to be drawn alike
		spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir e/%c", lettersAndDigits[i]), fmt.Sprintf("mkdir lost+found/#%d", i))
	}
	for i := range 5 { // in an inode
		spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir f/%c", lettersAndDigits[i]))
	}
	path := testfs.Make(t, spec).Path
	testfs.Fsck(t, path, "-f", "-y", "-D")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var want []byte
	var placed Placed
	for _, most := range []int{maxHeld, 600, 100, 1, 0} {
		index := NewIndex(Options{Key: [KeySize]byte{9}})
		index.maxHeld = most
		res, err := scan.Scan(ctx, bytes.NewReader(data), int64(len(data)), scan.Options{Visit: index.Visit})
		if err != nil {
			t.Fatal(err)
		}
		v, err := index.View(ctx, res)
		if err != nil {
			t.Fatal(err)
		}
		if (index.held == nil) != (most == maxHeld) {
			t.Fatalf("of %d names %d may be held: all are held is %v", index.names, most, index.held == nil)
		}
		image := make([]byte, v.Size())
		var group sync.WaitGroup
		for part := range 4 {
			group.Go(func() {
				const step = 16 << 10 // parts of several directories at once
				for at := int64(part * step); at < v.Size(); at += 4 * step {
					if _, err := v.ReadAt(image[at:min(at+step, v.Size())], at); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if err := v.Verify(ctx); err != nil {
			t.Fatal(err)
		}
		sum := v.Summary()
		if want == nil {
			if want, placed = image, sum.Placed; placed.Indexed < 5 {
				t.Fatalf("%+v", sum)
			}
		}
		if !bytes.Equal(image, want) || sum.Placed != placed || sum.Unsound != 0 {
			t.Errorf("%d names held: the image is another: %v; %+v, want %+v", most, !bytes.Equal(image, want), sum, placed)
		}
		if h := index.held; h != nil && (h.names > max(h.room, 300) || h.room > 1<<12) {
			t.Errorf("%d names are held, with room for %d", h.names, h.room)
		}
	}
}

// showNames shows an index a million names in directories with an index, or in
// others, where they are short. It returns how many bytes the index had at most,
// and at the end.
func showNames(t testing.TB, indexed bool) (most, end int64) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for range 3 {
		heap() // what other tests left in pools is gone after the third
	}
	before := heap()
	const directories, blocks, names = 100, 100, 100
	x := NewIndex(Options{})
	x.words.reserve(directories * blocks * names)
	v := visitorOf(t, x)
	v.blockSize = 4096
	length, block := 24, make([]byte, 4096)
	if !indexed {
		length = 8
	}
	for d := range uint32(directories) {
		in := indexedDir()
		if !indexed {
			le.PutUint32(in[0x20:], 0)
		}
		v.Inode(100+d, in)
		for b := range blocks {
			for i := range names {
				at, n := i*(8+length), 8+length
				if i == names-1 {
					n = len(block) - at
				}
				le.PutUint32(block[at:], uint32(1000+i))
				le.PutUint16(block[at+4:], uint16(n))
				block[at+6], block[at+7] = byte(length), 1
				copy(block[at+8:], fmt.Sprintf("%08x-%08x-%06x", (d*1e6+uint32(b*names+i))*2654435761, d, b)[:length])
			}
			v.Directory(100+d, uint64(d)*1000+uint64(b), block)
		}
		if d%10 == 0 {
			most = max(most, heap()-before)
		}
	}
	end = heap() - before
	if x.words.crowded() {
		t.Error("the filter is crowded")
	}
	runtime.KeepAlive(x)
	return max(most, end), end
}

// TestMemoryOfNames bounds what an index holds of a million names: at the end two
// bytes each and what is known of their blocks, before that no more than those
// that it holds at once take.
func TestMemoryOfNames(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		most, end := showNames(t, indexed)
		t.Logf("indexed %v: %d bytes at most, %d at the end", indexed, most, end)
		if least, limit := int64(2*1e6), int64(smallFilter+1<<20); end < least || end > limit || most > 32<<20 {
			t.Errorf("indexed %v: %d bytes at most, %d at the end, want no more than %d", indexed, most, end, limit)
		}
	}
}

func BenchmarkMemoryOfNames(b *testing.B) {
	for b.Loop() {
		most, end := showNames(b, true)
		b.ReportMetric(float64(end)/1e6, "B/name")
		b.ReportMetric(float64(most), "B-at-most")
	}
}
