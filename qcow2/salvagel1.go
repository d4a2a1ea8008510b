package qcow2

import (
	"context"
	"encoding/binary"

	"e2qcow/internal/zero"
)

const (
	// maxL1Search is how many bytes of a file are searched for an L1 table.
	// Writers put it near the beginning.
	maxL1Search = 64 << 20
	// triedTables is how many L2 tables an L1 table is judged by.
	triedTables = 4
)

// mendL1 looks for the L1 table elsewhere if no entry of the one that the header
// names leads to an L2 table. With snapshots there are several, so the header has
// to know.
func (d *head) mendL1(ctx context.Context, h *Header, size int64) {
	be, b := binary.BigEndian, d.bytes
	if h.Size == 0 || be.Uint32(b[60:]) > 0 {
		return
	}
	t := &tableReader{r: d.r, size: size}
	n := min(int64(h.l1Needed())*8, maxTableSlice)
	known := int64(be.Uint64(b[40:]))
	buf, table := make([]byte, n), make([]byte, h.ClusterSize())
	if !d.l1Lost && (h.scoreL1(t, known, buf, table) != 0 || t.bad(known, n)) {
		return // it is there, even if it cannot be read
	}
	best, found, more := 0, int64(0), false
	for off := h.ClusterSize(); off < min(size, maxL1Search) && ctx.Err() == nil; off += h.ClusterSize() {
		switch score := h.scoreL1(t, off, buf, table); {
		case score > best:
			best, found, more = score, off, false
		case score == best && score > 0:
			more = true
		}
	}
	if best == 0 || more || ctx.Err() != nil {
		return
	}
	d.note("the L1 table was found at %#x", found)
	be.PutUint64(b[40:], uint64(found))
	d.l1Lost = false
	d.declared = max(d.declared, uint32(h.l1Needed()))
}

// scoreL1 returns how many entries of an L1 table there may be in the bytes of a
// file from off on that fill b, and has table as room for an L2 table: 0 if there is anything that cannot be one, or the first
// entries do not lead to L2 tables; -1 if those tables cannot be read.
func (h *Header) scoreL1(t *tableReader, off int64, b, table []byte) (score int) {
	_, _ = t.ReadAt(b, off)
	if zero.IsZero(b) {
		return 0
	}
	var tables []int64
	for ; len(b) > 0; b = b[8:] {
		entry := binary.BigEndian.Uint64(b)
		if entry == 0 {
			continue
		}
		at := int64(entry & entryOffset)
		if entry&l1Reserved != 0 || entry&entryCopied == 0 || at == 0 || at%h.ClusterSize() != 0 {
			return 0
		}
		if score++; len(tables) < triedTables && at < t.size {
			tables = append(tables, at)
		}
	}
	good, unread := 0, 0
	for _, at := range tables {
		_, _ = t.ReadAt(table, at)
		good += h.isTable(table, t.size)
		if t.bad(at, min(h.ClusterSize(), t.size-at)) {
			unread++
		}
	}
	if good == 0 && unread > 0 && unread == len(tables) {
		return -1
	}
	if good == 0 || good < len(tables)-1 {
		return 0
	}
	return score
}

// isTable returns 1 if a cluster is certainly an L2 table, -1 if it is none.
func (h *Header) isTable(b []byte, size int64) int {
	is := 0
	for ; len(b) > 0; b = b[tableSector:] {
		sector := b[:tableSector]
		if zero.IsZero(sector) {
			continue
		}
		switch may, certainly := h.judgeEntries(sector, size); {
		case !may:
			return -1
		case certainly:
			is = 1
		}
	}
	return is
}
