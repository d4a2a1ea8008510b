package qcow2

import (
	"context"
	"errors"
	"io"
	"math"

	"e2qcow/image"
	"e2qcow/internal/ordered"
)

// The sizes of clusters that are weighed for compression: of 4 to 128 KiB.
const (
	leastPackedBits = 12
	mostPackedBits  = 17
)

// packedSizes are the expected sizes of a filesystem's metadata in compressed
// clusters, by cluster size, in thousandths of the size with 64 KiB. The table
// in docs/ARCHITECTURE.md has the measurements.
var packedSizes = map[Compression][mostPackedBits - leastPackedBits + 1]int64{
	//      4 KiB  8    16    32    64    128
	Zlib: {1250, 1130, 1050, 1015, 1000, 1005},
	Zstd: {1400, 1220, 1110, 1060, 1000, 965},
}

// packedRatio is how many bytes of metadata become one, roughly.
const packedRatio = 16

// fixedClusters are the header, the refcount table and a refcount block.
const fixedClusters = 3

// A clusterCount counts clusters of one size.
type clusterCount struct {
	bits   uint
	data   int64 // known clusters
	tables int64 // clusters of tables
	known  int64 // the first cluster behind those counted
	mapped int64 // the first L1 index behind those counted
}

// add counts the clusters and tables of a run that lies behind the others.
func (c *clusterCount) add(start, end int64) {
	behind := func(next *int64, bits uint) int64 {
		first, last := max(start>>bits, *next), (end-1)>>bits
		*next = last + 1
		return last + 1 - first
	}
	c.data += behind(&c.known, c.bits)
	c.tables += behind(&c.mapped, 2*c.bits-3)
}

// packedClusterBits returns the size of clusters, as a power of two, with which
// a compressed image of src is likely the smallest. Large clusters compress
// better; but every table fills a cluster, however little is in it.
func packedClusterBits(ctx context.Context, src image.Image, compression Compression) (uint, error) {
	var counts []clusterCount
	for bits := uint(leastPackedBits); bits <= mostPackedBits; bits++ {
		l1Bytes := src.Size() >> (2*bits - 3) * 8
		counts = append(counts, clusterCount{bits: bits, tables: fixedClusters + l1Bytes>>bits + 1})
	}
	for runs := ordered.NewRuns(src, 1<<leastPackedBits); ; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
		for i := range counts {
			counts[i].add(start, end)
		}
	}
	best, least := uint(0), int64(math.MaxInt64)
	for _, c := range counts {
		cost := c.tables<<c.bits + (c.data<<c.bits)/packedRatio/1000*packedSizes[compression][c.bits-leastPackedBits]
		if cost < least {
			best, least = c.bits, cost
		}
	}
	return best, nil
}
