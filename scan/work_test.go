package scan

import (
	"bytes"
	"testing"

	"e2qcow/image"
	"e2qcow/internal/testfs"
)

// An adviser is a reader that is best read in requests of one size.
type adviser struct {
	*bytes.Reader
	request int
}

func (a adviser) Advice() image.Advice {
	return image.Advice{Request: a.request, Bridge: a.request / 4, Depth: 1}
}

// TestProgress scans filesystems in small requests. What is done never shrinks, is
// within the total, and reaches it; from the first tenth on the total is not far
// from what was read in the end.
func TestProgress(t *testing.T) {
	for name, spec := range map[string]testfs.Spec{
		"tables": {Size: 64 << 20, Mke2fs: "-b 1024 -t ext4 -O ^metadata_csum,^uninit_bg -N 65536"},
		"trees":  {Size: 16 << 20, Mke2fs: "-b 1024 -t ext4 -J size=1 -N 256"},
		"few":    {Size: 8 << 20, Mke2fs: "-b 1024 -t ext2 -N 96"},
	} {
		t.Run(name, func(t *testing.T) {
			data := makeImage(t, spec, tree(t, []byte("file data ")))
			var done, total []int64
			_, err := Scan(t.Context(), adviser{bytes.NewReader(data), 16 << 10}, int64(len(data)), Options{Threads: 2, Progress: func(d, all int64) {
				done, total = append(done, d), append(total, all)
			}})
			if err != nil {
				t.Fatal(err)
			}
			if len(done) < 3 {
				t.Fatalf("told %d times", len(done))
			}
			last := done[len(done)-1]
			for i := range done {
				switch {
				case i > 0 && done[i] < done[i-1]:
					t.Errorf("done goes from %d back to %d", done[i-1], done[i])
				case done[i] > total[i]:
					t.Errorf("%d of %d are done", done[i], total[i])
				case done[i] > last/10 && (total[i] < last*2/3-256<<10 || total[i] > 2*last+1<<20):
					t.Errorf("at %d the total is said to be %d; it was %d", done[i], total[i], last)
				}
			}
			if end := total[len(total)-1]; end > last+last/3 {
				t.Errorf("it ends at %d of %d", last, end)
			}
		})
	}
}
