package qcow2

import (
	"context"
	"errors"
	"io"
	"math"

	"e2qcow/image"
	"e2qcow/internal/ordered"
)

// The sizes of clusters that are weighed for compression: of 4 to 512 KiB. Larger
// ones save little, and who reads a block has to decompress all of its cluster.
const (
	leastPackedBits = 12
	mostPackedBits  = 19
)

// packedSizes are the expected sizes of a filesystem's metadata in compressed
// clusters, by cluster size, in thousandths of the size with 64 KiB. They are
// those of the filesystems in docs/ARCHITECTURE.md, without their tables.
var packedSizes = map[Compression][mostPackedBits - leastPackedBits + 1]int64{
	//      4 KiB  8    16    32    64    128   256   512
	Zlib: {1450, 1270, 1115, 1050, 1000, 1003, 1020, 1030},
	Zstd: {1700, 1420, 1200, 1095, 1000, 935, 900, 840},
}

// packedRatio is how many bytes of metadata become one in clusters of 64 KiB.
var packedRatio = map[Compression]int64{Zlib: 14, Zstd: 20}

// zerosRatio is how many zeros, beside the data in a cluster, count as a byte of
// the image. They compress to nearly nothing, but that takes time.
const zerosRatio = 512

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
	data := counts[0].data << leastPackedBits
	packed := data / packedRatio[compression] / 1000
	best, least := uint(0), int64(math.MaxInt64)
	for _, c := range counts {
		cost := c.tables<<c.bits + packed*packedSizes[compression][c.bits-leastPackedBits] + (c.data<<c.bits-data)/zerosRatio
		if cost < least {
			best, least = c.bits, cost
		}
	}
	return best, nil
}
