package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"e2qcow/internal/zero"
)

// refer counts a reference to n bytes of the file, and reports whether they are
// in it. Those that nothing else may refer to are only. at and guest say where
// the reference is.
func (c *checker) refer(offset, n uint64, only bool, at, guest int64, what string) bool {
	if n == 0 {
		return true
	}
	cluster := uint64(c.h.ClusterSize())
	// The last cluster of the file may be cut short, but not away.
	if int64(offset) >= c.size || int64(offset+n)-c.size >= int64(cluster) {
		if c.first {
			c.report.BeyondEnd++
		}
		c.corrupt(at, guest, "%s at %#x lies beyond the end of the file", what, offset)
		return false
	}
	c.tell(int64(n))
	for i := offset / cluster; i <= (offset+n-1)/cluster; i++ {
		v := c.counts.of(i)
		if v == nil {
			continue
		}
		if c.overlaps(*v, only) {
			c.find(Finding{Severity: Corruption, Offset: at, Guest: guest, What: fmt.Sprintf("%s at %#x overlaps other structures", what, offset)})
		}
		if *v&countMask < countMask {
			*v++
		}
		if only {
			*v |= exclusive
		}
	}
	return true
}

// needWhole reports a reference to n bytes that begin in the file and end
// behind it. qemu reads the missing bytes as zeros, and so does not notice an
// incomplete image.
func (c *checker) needWhole(offset, n uint64, at, guest int64, what string) {
	size, cluster := uint64(c.size), uint64(c.h.ClusterSize())
	if offset >= size || offset+n <= size || offset+n >= size+cluster { // beyond that, refer has said so
		return
	}
	if c.first {
		c.report.BeyondEnd++
	}
	c.corrupt(at, guest, "%s at %#x is cut short by the end of the file", what, offset)
}

// overlaps reports whether one more reference to a cluster is one too many.
func (c *checker) overlaps(count uint16, only bool) bool {
	return count&exclusive != 0 || only && count != 0
}

// count counts all references.
func (c *checker) count() error {
	h := c.h
	c.refer(0, uint64(h.ClusterSize()), true, 0, -1, "header")
	c.refer(h.RefcountTableOffset, uint64(len(c.refTable))*8, true, 48, -1, "refcount table")
	for i, entry := range c.refTable {
		c.referRefBlock(i, entry)
	}
	if c.refer(h.L1Offset, uint64(h.L1Entries)*8, true, 40, -1, "L1 table") {
		c.needWhole(h.L1Offset, h.l1Needed()*8, 40, -1, "L1 table")
	}
	before := c.referenced()
	if err := c.walkActive(c.countL2); err != nil {
		return err
	}
	if c.tally != nil {
		c.tally.distinct += c.referenced() - before
	}
	if err := c.countSnapshots(); err != nil {
		return err
	}
	return c.countBitmaps()
}

func (c *checker) referRefBlock(i int, entry uint64) {
	const reserved = 1<<9 - 1
	at := int64(c.h.RefcountTableOffset) + int64(i)*8
	if entry&reserved != 0 {
		c.corrupt(at, -1, "refcount table entry %#x has reserved bits set", entry)
	}
	switch off := entry &^ reserved; {
	case off == 0:
	case off%uint64(c.h.ClusterSize()) != 0:
		c.corrupt(at, -1, "refcount block at %#x is not aligned", off)
	case off>>c.h.ClusterBits >= c.clusters:
		c.corrupt(at, -1, "refcount block at %#x lies beyond the end of the file", off)
	default:
		c.refer(off, uint64(c.h.ClusterSize()), true, at, -1, "refcount block")
	}
}

// An l2Entry is an L2 entry with its place.
type l2Entry struct {
	at     int64 // in the file
	guest  int64 // or -1, where it is not of the active L1 table
	entry  uint64
	bitmap uint64 // of an extended entry
}

func (e l2Entry) active() bool { return e.guest >= 0 }

// Reserved bits of the entries.
const (
	l1Reserved = 0x7f000000000001ff
	l2Reserved = 0x3f000000000001fe
)

// errTooMany says that the same tables are referred to again and again.
var errTooMany = errors.New("more references to tables than the file can hold")

// errVerified ends a walk of Verify when the answer is known.
var errVerified = errors.New("a corruption was found")

// walk counts n bytes of tables to read, and bounds their sum, because
// snapshots may share tables. It returns an error when ctx is done.
func (c *checker) walk(n int64) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.tally != nil && c.report.Corruptions > 0 {
		return errVerified
	}
	if c.walked += n; c.walked/16 > c.size+4<<20 {
		return errTooMany
	}
	return nil
}

// walkActive calls f with each entry of the active L1 table that is not zero, as
// an l2Entry.
func (c *checker) walkActive(f func(e l2Entry) error) error {
	return c.walkL1(c.h.L1Offset, c.h.L1Entries, true, f)
}

// walkL1 calls f with each entry that is not zero of an L1 table, or of another
// like it.
func (c *checker) walkL1(offset uint64, n uint32, active bool, f func(e l2Entry) error) error {
	if offset >= uint64(c.size) {
		return nil
	}
	n = uint32(min(uint64(n), (uint64(c.size)-offset+7)/8))
	if err := c.walk(int64(n) * 8); err != nil {
		return err
	}
	buf := make([]byte, min(uint64(n)*8, 64<<10))
	for i := uint64(0); i < uint64(n); {
		b := buf[:min(uint64(len(buf)), (uint64(n)-i)*8)]
		at := int64(offset + i*8)
		if _, err := c.r.ReadAt(b, at); err != nil {
			return err
		}
		i += uint64(len(b) / 8)
		if zero.IsZero(b) {
			continue
		}
		for pos := 0; pos < len(b); pos += 8 {
			entry := binary.BigEndian.Uint64(b[pos:])
			if entry == 0 {
				continue
			}
			guest := int64(-1)
			if active {
				guest = (at + int64(pos) - int64(offset)) / 8 << c.h.l2CoverBits()
			}
			if err := f(l2Entry{at: at + int64(pos), guest: guest, entry: entry}); err != nil {
				return err
			}
		}
	}
	return nil
}

// countL2 counts the L2 table of an L1 entry, and the clusters to which the
// table refers.
func (c *checker) countL2(e l2Entry) error {
	if e.entry&l1Reserved != 0 {
		c.corrupt(e.at, e.guest, "L1 entry %#x has reserved bits set", e.entry)
	}
	off := e.entry & entryOffset
	if off == 0 {
		c.corrupt(e.at, e.guest, "L1 entry %#x has flags and no table", e.entry)
		return nil
	}
	c.refer(off, uint64(c.h.ClusterSize()), false, e.at, e.guest, "L2 table")
	if e.guest >= 0 && e.guest < c.h.Size {
		c.needWhole(off, uint64(c.h.ClusterSize()), e.at, e.guest, "L2 table")
	}
	if off%uint64(c.h.ClusterSize()) != 0 {
		c.corrupt(e.at, e.guest, "L2 table at %#x is not aligned", off)
	}
	if c.tally != nil && c.first && e.active() {
		c.tally.tables++
	}
	return c.walkL2(off, e.guest, c.countCluster)
}

// walkL2 calls f with each entry of an L2 table that is not zero.
func (c *checker) walkL2(offset uint64, guest int64, f func(l2Entry)) error {
	if offset >= uint64(c.size) || c.runs.hole(int64(offset), int64(len(c.buf))) {
		return c.walk(0)
	}
	if err := c.walk(int64(len(c.buf))); err != nil {
		return err
	}
	if _, err := c.r.ReadAt(c.buf, int64(offset)); err != nil {
		return err
	}
	size := 1 << c.h.l2EntryBits()
	const step = 512
	for pos := 0; pos < len(c.buf); pos += step {
		part := c.buf[pos : pos+step]
		if zero.IsZero(part) {
			continue
		}
		for i := 0; i < step; i += size {
			e := l2Entry{at: int64(offset) + int64(pos+i), guest: -1, entry: binary.BigEndian.Uint64(part[i:])}
			if size == 16 {
				e.bitmap = binary.BigEndian.Uint64(part[i+8:])
			}
			if e.entry == 0 && e.bitmap == 0 {
				continue
			}
			if guest >= 0 {
				e.guest = guest + int64((pos+i)/size)<<c.h.ClusterBits
			}
			f(e)
		}
	}
	return nil
}

// countCluster counts the clusters to which an L2 entry refers.
func (c *checker) countCluster(e l2Entry) {
	size := uint64(c.h.ClusterSize())
	if e.entry&entryCompressed != 0 {
		c.countCompressed(e)
		return
	}
	if e.entry&l2Reserved != 0 {
		c.corrupt(e.at, e.guest, "L2 entry %#x has reserved bits set", e.entry)
	}
	isZero := e.entry&entryZero != 0
	if isZero && c.h.Version == 2 {
		c.corrupt(e.at, e.guest, "L2 entry %#x has the zero flag in version 2", e.entry)
	}
	off := e.entry & entryOffset
	alloc, zeros := uint32(e.bitmap), uint32(e.bitmap>>32)
	switch {
	case off == 0:
		if c.tally != nil && e.entry&entryCopied != 0 {
			c.corrupt(e.at, e.guest, "data cluster is in use and nowhere")
		}
		if alloc != 0 {
			c.corrupt(e.at, e.guest, "subclusters %#x are allocated nowhere", alloc)
		}
		return
	case alloc&zeros != 0:
		c.corrupt(e.at, e.guest, "subclusters %#x are both allocated and zero", alloc&zeros)
	case off%size != 0:
		c.corrupt(e.at, e.guest, "data cluster at %#x is not aligned", off)
	}
	if c.first && e.active() {
		c.report.AllocatedClusters++
	}
	c.refer(off, size, false, e.at, e.guest, "data cluster")
	if !isZero {
		c.needWhole(off, c.needed(e), e.at, e.guest, "data cluster")
	}
}

// needed returns how many bytes of a data cluster the disk has: up to the end
// of the disk, or of the last subcluster that is allocated.
func (c *checker) needed(e l2Entry) uint64 {
	if e.guest < 0 || e.guest >= c.h.Size {
		return 0
	}
	n := min(c.h.ClusterSize(), c.h.Size-e.guest)
	if c.h.ExtendedL2() {
		n = min(n, int64(bits.Len32(uint32(e.bitmap)))*(c.h.ClusterSize()/32))
	}
	return uint64(n)
}

func (c *checker) countCompressed(e l2Entry) {
	if e.entry&entryCopied != 0 {
		c.corrupt(e.at, e.guest, "compressed cluster is marked as copied")
	}
	if e.bitmap != 0 {
		c.corrupt(e.at, e.guest, "compressed cluster has subclusters")
	}
	off, n := packedPlace(e.entry, c.h.ClusterBits)
	within := c.refer(uint64(off), uint64(n), false, e.at, e.guest, "compressed cluster")
	if c.first && e.active() {
		c.report.AllocatedClusters++
		c.report.CompressedClusters++
		if within && c.unpack != nil {
			c.unpack.add(e)
		}
	}
}
