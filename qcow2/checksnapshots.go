package qcow2

import (
	"encoding/binary"
)

const (
	maxSnapshots     = 65536
	maxSnapshotsSize = 64 << 20
)

// countSnapshots counts the snapshot table and the tables of each snapshot.
func (c *checker) countSnapshots() error {
	h := c.h
	if h.Snapshots == 0 {
		return nil
	}
	size := uint64(h.ClusterSize())
	switch {
	case h.Snapshots > maxSnapshots:
		c.corrupt(60, -1, "%d snapshots are too many", h.Snapshots)
		return nil
	case h.SnapshotsOffset%size != 0 || h.SnapshotsOffset > 1<<62:
		c.corrupt(64, -1, "snapshot table at %#x is not aligned", h.SnapshotsOffset)
		return nil
	}
	off := h.SnapshotsOffset
	for range h.Snapshots {
		var b [40]byte
		if _, err := c.r.ReadAt(b[:], int64(off)); err != nil {
			return err
		}
		be := binary.BigEndian
		l1Offset, l1Entries := be.Uint64(b[0:]), be.Uint32(b[8:])
		switch {
		case l1Offset%size != 0 || l1Offset > 1<<62:
			c.corrupt(int64(off), -1, "L1 table of a snapshot at %#x is not aligned", l1Offset)
		case l1Entries > maxL1Size/8:
			c.corrupt(int64(off), -1, "L1 table of a snapshot with %d entries is too large", l1Entries)
		default:
			c.refer(l1Offset, uint64(l1Entries)*8, true, int64(off), -1, "L1 table of a snapshot")
			if err := c.walkL1(l1Offset, l1Entries, false, c.countL2); err != nil {
				return err
			}
		}
		n := 40 + uint64(be.Uint32(b[36:])) + uint64(be.Uint16(b[12:])) + uint64(be.Uint16(b[14:]))
		off += (n + 7) &^ 7
		if off-h.SnapshotsOffset > maxSnapshotsSize {
			c.corrupt(64, -1, "snapshot table is too large")
			return nil
		}
	}
	c.refer(h.SnapshotsOffset, off-h.SnapshotsOffset, true, 64, -1, "snapshot table")
	return nil
}

const (
	maxBitmapDirectory = 64 << 20
	maxBitmapTable     = 32 << 20 / 8 // entries
)

// countBitmaps counts the dirty bitmaps, their tables and their directory.
func (c *checker) countBitmaps() error {
	h := c.h
	if len(h.bitmaps) < 24 || h.AutoclearFeatures&autoclearBitmaps == 0 {
		return nil
	}
	be := binary.BigEndian
	n, size, off := be.Uint32(h.bitmaps[0:]), be.Uint64(h.bitmaps[8:]), be.Uint64(h.bitmaps[16:])
	cluster := uint64(h.ClusterSize())
	if off%cluster != 0 || off > 1<<62 || size > maxBitmapDirectory {
		c.corrupt(int64(h.Length), -1, "bitmap directory of %d bytes at %#x", size, off)
		return nil
	}
	c.refer(off, size, true, int64(h.Length), -1, "bitmap directory")
	for at, end := off, off+size; n > 0 && at+24 <= end; n-- {
		var b [24]byte
		if _, err := c.r.ReadAt(b[:], int64(at)); err != nil {
			return err
		}
		table, entries := be.Uint64(b[0:]), be.Uint32(b[8:])
		if table%cluster != 0 || table > 1<<62 || entries > maxBitmapTable {
			c.corrupt(int64(at), -1, "bitmap table of %d entries at %#x", entries, table)
		} else if err := c.countBitmap(table, entries, int64(at)); err != nil {
			return err
		}
		at += (24 + uint64(be.Uint16(b[18:])) + uint64(be.Uint32(b[20:])) + 7) &^ 7
	}
	return nil
}

func (c *checker) countBitmap(table uint64, entries uint32, at int64) error {
	const reserved = 0xff000000000001fe
	c.refer(table, uint64(entries)*8, true, at, -1, "bitmap table")
	return c.walkL1(table, entries, false, func(e l2Entry) error {
		off := e.entry & entryOffset
		switch {
		case e.entry&reserved != 0:
			c.corrupt(e.at, -1, "bitmap table entry %#x has reserved bits set", e.entry)
		case off%uint64(c.h.ClusterSize()) != 0:
			c.corrupt(e.at, -1, "bitmap data at %#x is not aligned", off)
		case off != 0:
			c.refer(off, uint64(c.h.ClusterSize()), true, e.at, -1, "bitmap data")
		}
		return nil
	})
}
