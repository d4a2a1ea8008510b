package scrub

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// TestHeldNames holds the names of few directories at once, of one, and of none:
// the image is the same as where all are held, whoever reads it in which order.
func TestHeldNames(t *testing.T) {
	spec := testfs.Spec{Mke2fs: "-b 1024 -N 2048 -I 256 -J size=1 -t ext4", Size: 16 << 20, Debugfs: []string{"mkdir a", "mkdir b", "mkdir c", "mkdir d"}}
	for i := range 240 {
		for k, d := range "abcd" {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir %c/%s-%d", d, []string{"name", "n", "a-long-name-of-somebody", "x"}[k], i*i))
		}
		if i%2 == 0 {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir of-the-root-%d", i))
		}
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
		if h := index.held; h != nil && (h.names > max(h.room, 242) || h.room > 1<<12) {
			t.Errorf("%d names are held, with room for %d", h.names, h.room)
		}
	}
}
