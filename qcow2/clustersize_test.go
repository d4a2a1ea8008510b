package qcow2

import (
	"context"
	"testing"
)

// TestPackedClusterBits has clusters grow with the data for one L2 table, and
// with how far apart the data is, but not with the zeros in them.
func TestPackedClusterBits(t *testing.T) {
	few := func(n int, step, length int64) *disk {
		d := &disk{}
		for i := range n {
			d.runs = append(d.runs, diskRun{int64(i) * step, make([]byte, length)})
		}
		d.size = int64(n) * step
		return d
	}
	for _, c := range []struct {
		what       string
		disk       *disk
		zlib, zstd uint
	}{
		{"empty", &disk{size: 1 << 30}, 12, 12},
		{"one block", few(1, 1<<20, 4096), 12, 12},
		{"much in one place", few(1, 512<<20, 512<<20), 16, 19},
		{"one block on a large disk", few(1, 16<<40, 4096), 16, 16}, // an L1 table of 64 MiB with clusters of 4 KiB
		{"a block in each group", few(1000, 128<<20, 4096), 12, 12},
		{"much in each group", few(64, 128<<20, 2<<20), 17, 17},
		{"every second block", few(1<<15, 8192, 4096), 16, 17},
		{"a block in each MiB", few(1<<14, 1<<20, 4096), 16, 16},
	} {
		for compression, want := range map[Compression]uint{Zlib: c.zlib, Zstd: c.zstd} {
			got, err := packedClusterBits(context.Background(), c.disk, compression)
			if err != nil || got != want {
				t.Errorf("%s, %v: clusters of 1<<%d bytes, %v; want 1<<%d", c.what, compression, got, err, want)
			}
		}
	}
}
