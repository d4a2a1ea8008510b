package qcow2

import (
	"context"
	"fmt"
)

// Clusters says how many clusters of the disk are where. Those of a backing file
// are not counted.
type Clusters struct {
	Plain      int64 // in the file
	Compressed int64
	Zero       int64 // marked as zero
}

// Clusters counts the clusters of the disk. It reads all L2 tables.
func (m *Image) Clusters(ctx context.Context) (Clusters, error) {
	var c Clusters
	size := m.header.ClusterSize()
	for off := int64(0); off < m.Size(); {
		if err := ctx.Err(); err != nil {
			return c, fmt.Errorf("counting clusters: %w", err)
		}
		p, err := m.find(off, m.Size()-off)
		if err != nil {
			return c, err
		}
		switch n := (p.n + size - 1) / size; p.kind {
		case mapData:
			c.Plain += n
		case mapPacked:
			c.Compressed += n
		case mapZero:
			c.Zero += n
		}
		off += p.n
	}
	return c, nil
}
