package qcow2

const (
	// leastRepeated and repeatRatio bound the bytes of uncompressed clusters
	// that appear in the disk more than once. qemu makes no such clusters.
	leastRepeated = 4 << 30
	repeatRatio   = 16
)

// referenced returns how many clusters of the pages of this pass something
// refers to, for Verify.
func (c *checker) referenced() int64 {
	n := int64(0)
	if c.tally == nil {
		return n
	}
	for _, page := range c.counts.pages {
		for _, count := range page {
			if count != 0 {
				n++
			}
		}
	}
	return n
}

// inUse returns how many clusters of the file hold data of the disk.
func (t *tally) inUse() int64 { return max(0, t.distinct-t.tables) }

// inflated reports whether the disk has much more data than the file: clusters
// that entries share, with refcounts that are right. c has counted them.
func (m *Image) inflated(c *checker) bool {
	size := m.header.ClusterSize()
	packed := c.report.CompressedClusters * size
	if packed > leastOutput && !m.holds(packed/outputRatio, c.tally) {
		return true
	}
	repeated := (c.report.AllocatedClusters - c.report.CompressedClusters - c.tally.inUse()) * size
	return repeated > leastRepeated && !m.holds(repeated/repeatRatio, c.tally)
}

// holds reports whether the file has n bytes at least, holes left out. Of a
// stream only the clusters that something refers to are known.
func (m *Image) holds(n int64, t *tally) bool {
	if _, ok := m.r.(*pipeReader); ok {
		return t.distinct*m.header.ClusterSize() >= n
	}
	for off := int64(0); n > 0 && off < m.fileSize; {
		start, end := m.runs.data(off, m.fileSize-off)
		if start == end {
			break
		}
		n -= end - start
		off = end
	}
	return n <= 0
}
