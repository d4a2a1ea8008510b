package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"e2qcow/internal/zero"
)

// Verify checks that the tables of the image agree with one another and with its
// refcounts, as Check does, and returns the first contradiction as a
// *CorruptError. One flipped bit in a table can lead to other bytes of the file
// that read without an error; the refcounts tell. It reads tables, and clusters
// that are in use and lead nowhere: 64 MiB of those at most.
//
// Refcounts of an image that is marked dirty are not compared: lazy refcounts
// are wrong then. A cluster that nothing refers to is no contradiction by
// itself: programs that do not end well leave some. It is one if such clusters
// are many, or one of them looks like the table of others.
//
// Verify also refuses an image whose clusters stand for so many more bytes of
// the disk than the file has that a read would not end in reasonable time.
//
// An image whose clusters lie too far apart to be counted is an *UnsupportedError.
func (m *Image) Verify(ctx context.Context) error {
	c := newChecker(ctx, m.r, m.fileSize, m.header)
	c.tally = new(tally)
	err := c.run()
	if errors.Is(err, errVerified) {
		err = nil
	}
	switch {
	case err != nil:
		return err
	case c.report.Corruptions > 0:
		return c.report.firstCorruption()
	case m.inflated(c):
		return corrupt("image", 0, "%d clusters of the disk are in %d of the file, more than any program puts there",
			c.report.AllocatedClusters, c.tally.inUse())
	case m.header.Dirty():
		return nil
	}
	bad := func(format string, args ...any) error {
		return corrupt("refcounts", m.header.RefcountTableOffset, format, args...)
	}
	switch t := c.tally; {
	case c.report.Unchecked > 0:
		return bad("those of %d clusters cannot be read", c.report.Unchecked)
	case t.excess > 0 && m.header.Snapshots > 0:
		return bad("%d clusters lack a reference that a snapshot shares", t.excess)
	case t.shared > 0:
		return bad("nothing refers to %d clusters that several tables shared", t.shared)
	}
	lost, table, err := m.lost(c.tally)
	switch {
	case err != nil:
		return err
	case table != 0:
		return bad("nothing refers to the cluster at %#x, a table of other clusters that nothing refers to", table)
	case lost*4 > c.tally.referred:
		return bad("nothing refers to %d clusters in use, and only %d are referred to", lost, c.tally.referred)
	}
	return nil
}

// firstCorruption returns the first corruption as an error.
func (r *Report) firstCorruption() error {
	for _, f := range r.Findings {
		if f.Severity == Corruption {
			return &CorruptError{What: "image", Offset: f.Offset, Guest: f.Guest, Err: errors.New(f.What)}
		}
	}
	return corrupt("image", 0, "%d corruptions", r.Corruptions)
}

// A tally contains the numbers of clusters by which Verify judges leaks.
type tally struct {
	referred uint64 // that something refers to
	excess   uint64 // of those, with a higher refcount
	shared   uint64 // that nothing refers to, with a refcount of 2 or more
	lost     uint64 // that nothing refers to, with a refcount of 1

	distinct int64 // that the active tables refer to, these tables included
	tables   int64 // active L2 tables

	first []uint64 // of the lost ones, by number, ascending
}

// maxLost bounds the cluster numbers in a tally, and maxLostBytes the bytes of
// these clusters that are read.
const (
	maxLost      = 1 << 16
	maxLostBytes = 64 << 20
)

func (t *tally) add(cluster, references, refcount uint64) {
	switch {
	case references == 0 && refcount > 1:
		t.shared++
	case references == 0 && refcount > 0:
		if t.lost++; len(t.first) < maxLost {
			t.first = append(t.first, cluster)
		}
	case references > 0 && refcount > references:
		t.excess++
	}
	if references > 0 {
		t.referred++
	}
}

// lost returns how many of the lost clusters hold something, and the offset of
// the first that looks like a table of others. Those of a stream that lie behind
// its tables cannot be looked at.
func (m *Image) lost(t *tally) (n uint64, table int64, err error) {
	size := m.header.ClusterSize()
	end := min(m.fileSize, m.tablesKept())
	b := make([]byte, size)
	n = t.lost
	for i, cluster := range t.first {
		off := int64(cluster) << m.header.ClusterBits
		if off >= end || int64(i+1)*size > maxLostBytes {
			continue
		}
		part := b[:min(size, end-off)]
		if k, err := m.r.ReadAt(part, off); k < len(part) {
			return 0, 0, fmt.Errorf("read qcow2 cluster at %#x: %w", off, unexpectedEOF(err))
		}
		switch {
		case zero.IsZero(part):
			n--
		case table == 0 && t.isTable(part, m.header.ClusterBits):
			table = off
		}
	}
	return n, table, nil
}

// isTable reports whether most entries of b lead to lost clusters.
func (t *tally) isTable(b []byte, clusterBits uint) bool {
	lost, others := 0, 0
	for ; len(b) >= 8; b = b[8:] {
		entry := binary.BigEndian.Uint64(b)
		if entry == 0 {
			continue
		}
		off := entry & entryOffset
		if entry&entryCompressed != 0 {
			start, _ := packedPlace(entry, clusterBits)
			off = uint64(start)
		}
		if _, ok := slices.BinarySearch(t.first, off>>clusterBits); ok {
			lost++
		} else {
			others++
		}
	}
	return lost > others
}
