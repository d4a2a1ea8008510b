package cli

import (
	"testing"

	"e2qcow/scan"
)

func TestBlocksOf(t *testing.T) {
	for _, test := range []struct {
		ranges [][2]int64
		want   int64
	}{
		{nil, 0},
		{[][2]int64{{0, 512}}, 1},
		{[][2]int64{{0, 4096}}, 1},
		{[][2]int64{{4095, 4097}}, 2},
		{[][2]int64{{0, 512}, {1024, 1536}, {3584, 4608}, {8191, 8192}, {40960, 49152}}, 4},
	} {
		var ranges []scan.Range
		for _, r := range test.ranges {
			ranges = append(ranges, scan.Range{Start: r[0], End: r[1]})
		}
		if got := blocksOf(ranges, 4096); got != test.want {
			t.Errorf("%v: %d blocks, want %d", test.ranges, got, test.want)
		}
	}
}
