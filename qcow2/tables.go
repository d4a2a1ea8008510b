package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/zero"
)

// refcountBytes is the size of a refcount that the writer writes.
const refcountBytes = 2

// A layout is where the tables of an image to be written go. Offsets are in
// the file, in bytes; counts of tables are counts of clusters.
type layout struct {
	clusterBits uint
	size        int64 // of the virtual disk

	l1Entries  uint64
	l1Offset   int64
	rtOffset   int64
	rtClusters uint64
	rbOffset   int64
	rbClusters uint64
	l2Offset   int64
	l2Clusters uint64
	dataOffset int64

	l2         []l2Run
	knownBytes int64 // of the source, in whole clusters
}

// An l2Run is a run of L1 entries that have L2 tables, which lie one behind
// the other.
type l2Run struct {
	first uint32 // L1 index
	n     uint32
	table uint32 // how many tables lie before
}

func (l *layout) clusterSize() int64 { return 1 << l.clusterBits }

func (l *layout) l2CoverBits() uint { return 2*l.clusterBits - 3 }

// A ClusterSizeError says that clusters are too small for qemu to open the image.
type ClusterSizeError struct {
	Size     int64 // of a cluster that was asked for, bytes
	Smallest int64 // that would do, bytes; 0 if none does
	What     string
}

func (e *ClusterSizeError) Error() string {
	if e.Smallest == 0 {
		return fmt.Sprintf("%s is too large for a qcow2 image", e.What)
	}
	return fmt.Sprintf("clusters of %d bytes are too small for %s; the smallest that do have %d", e.Size, e.What, e.Smallest)
}

// newLayout lays out an image of src with clusters of the given size, or with
// larger ones if those are too small for qemu and grow is set.
func newLayout(ctx context.Context, src image.Image, clusterBits uint, grow bool) (*layout, error) {
	var tooSmall *ClusterSizeError
	for asked := int64(1) << clusterBits; clusterBits <= maxClusterBits; clusterBits++ {
		l := &layout{clusterBits: clusterBits, size: src.Size()}
		cover := l.l2CoverBits()
		l.l1Entries = (uint64(l.size) + 1<<cover - 1) >> cover
		what := fmt.Sprintf("a disk of %d bytes", l.size)
		if l.l1Entries*8 <= maxL1Size {
			if err := l.survey(ctx, src); err != nil {
				return nil, err
			}
			l.place()
			if l.rtClusters<<clusterBits <= maxRefcountSize {
				if tooSmall != nil && !grow {
					tooSmall.Smallest = l.clusterSize()
					return nil, tooSmall
				}
				return l, nil
			}
			what = fmt.Sprintf("an image of %d bytes", l.knownBytes)
		}
		if tooSmall == nil {
			tooSmall = &ClusterSizeError{Size: asked, What: what}
		}
	}
	return nil, tooSmall
}

// survey finds the parts of the disk that need L2 tables, and how many bytes
// are known.
func (l *layout) survey(ctx context.Context, src image.Image) error {
	cover := l.l2CoverBits()
	runs := ordered.NewRuns(src, int(l.clusterSize()))
	for {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		l.knownBytes += end - start
		first, last := uint32(start>>cover), uint32((end-1)>>cover)
		if n := len(l.l2); n > 0 && uint64(first) <= uint64(l.l2[n-1].first)+uint64(l.l2[n-1].n) {
			r := &l.l2[n-1]
			l.l2Clusters -= uint64(r.n)
			r.n = last - r.first + 1
			l.l2Clusters += uint64(r.n)
			continue
		}
		l.l2 = append(l.l2, l2Run{first: first, n: last - first + 1, table: uint32(l.l2Clusters)})
		l.l2Clusters += uint64(last - first + 1)
	}
}

// place puts the tables one behind the other. Refcounts are for every cluster
// there may be, their own included.
func (l *layout) place() {
	bits := l.clusterBits
	clusters := func(n, size uint64) uint64 { return (n*size + 1<<bits - 1) >> bits }

	l1Clusters := clusters(l.l1Entries, 8)
	rest := 1 + l1Clusters + l.l2Clusters + uint64(l.knownBytes)>>bits
	l.rtClusters, l.rbClusters = 1, 1
	for {
		rb := clusters(rest+l.rtClusters+l.rbClusters, refcountBytes)
		rt := clusters(rb, 8)
		if rb == l.rbClusters && rt == l.rtClusters {
			break
		}
		l.rbClusters, l.rtClusters = rb, rt
	}
	l.l1Offset = 1 << bits
	l.rtOffset = l.l1Offset + int64(l1Clusters<<bits)
	l.rbOffset = l.rtOffset + int64(l.rtClusters<<bits)
	l.l2Offset = l.rbOffset + int64(l.rbClusters<<bits)
	l.dataOffset = l.l2Offset + int64(l.l2Clusters<<bits)
}

// clusterKind says how the L2 entries of an extent are made.
type clusterKind uint8

const (
	plainClusters  clusterKind = iota // at consecutive host offsets
	zeroClusters                      // no bytes in the file, known to be zero
	packedClusters                    // compressed, each with an entry of its own
)

// An extent is a run of guest clusters of one kind.
type extent struct {
	guest uint64 // number of the first cluster
	n     uint32
	kind  clusterKind
	// host is the offset of the first in the file, or for packed clusters its
	// place in the list of entries.
	host uint64
}

// A mapping contains the places of the guest's clusters in the file. It has the
// information of the L2 tables, but its size depends on the extents, not on the
// tables.
type mapping struct {
	extents []extent
	packed  []uint64 // L2 entries of packed clusters
}

// add maps n clusters from guest, which lies behind all that were added.
func (m *mapping) add(kind clusterKind, guest uint64, n uint32, host uint64, clusterBits uint) {
	if len(m.extents) > 0 {
		e := &m.extents[len(m.extents)-1]
		follows := kind != plainClusters || host == e.host+uint64(e.n)<<clusterBits
		if e.kind == kind && e.guest+uint64(e.n) == guest && follows && n <= math.MaxUint32-e.n {
			e.n += n
			return
		}
	}
	m.extents = append(m.extents, extent{guest: guest, n: n, kind: kind, host: host})
}

// addPacked maps one cluster by its L2 entry.
func (m *mapping) addPacked(guest, entry uint64, clusterBits uint) {
	m.add(packedClusters, guest, 1, uint64(len(m.packed)), clusterBits)
	m.packed = append(m.packed, entry)
}

// A tableWriter writes big-endian tables in ascending order through a buffer.
// Where the file is known to be zero it leaves out pages that are.
type tableWriter struct {
	put   func(b []byte, off int64) error
	dense bool // write every byte from the first on

	base int64 // file offset of buf
	used int   // how much of buf counts
	buf  []byte
}

// tablePage is the size of the pages of zeros that are left out, in tables and
// in clusters.
const tablePage = 4096

// newTableWriter returns a writer of tables from off on, a multiple of 512.
func newTableWriter(put func([]byte, int64) error, off int64, dense bool) *tableWriter {
	return &tableWriter{put: put, dense: dense, base: off, buf: make([]byte, 256<<10)}
}

// at returns at least one and at most n bytes of the file from off on, to be
// filled in. It is called with ascending offsets.
func (t *tableWriter) at(off, n int64) ([]byte, error) {
	if page := off - off%tablePage; !t.dense && page >= t.base+int64(t.used)+tablePage {
		// Unused pages need neither be read nor cleared.
		t.used = min((t.used+tablePage-1)&^(tablePage-1), len(t.buf))
		if err := t.flush(); err != nil {
			return nil, err
		}
		t.base = page
	}
	for off >= t.base+int64(len(t.buf)) {
		next := t.base + int64(len(t.buf))
		if t.dense {
			t.used = len(t.buf)
		} else {
			next = max(next, off-off%tablePage)
		}
		if err := t.flush(); err != nil {
			return nil, err
		}
		t.base = next
	}
	from := int(off - t.base)
	to := int(min(int64(len(t.buf)), int64(from)+n))
	t.used = max(t.used, to)
	return t.buf[from:to], nil
}

// flush writes the contents of the buffer.
func (t *tableWriter) flush() error {
	b := t.buf[:t.used]
	t.used = 0
	if t.dense {
		if len(b) == 0 {
			return nil
		}
		err := t.put(b, t.base)
		clear(b)
		return err
	}
	err := putPages(t.put, b, t.base)
	clear(b)
	return err
}

// putPages puts those pages of b, which is at off, that are not zero.
func putPages(put func(b []byte, off int64) error, b []byte, off int64) error {
	for start, end := zero.NextData(b, 0, tablePage); start < end; start, end = zero.NextData(b, end, tablePage) {
		if err := put(b[start:end], off+int64(start)); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the rest, up to end.
func (t *tableWriter) finish(end int64) error {
	if t.dense && end > t.base {
		if _, err := t.at(end-1, 1); err != nil {
			return err
		}
	}
	return t.flush()
}

// sequence writes n entries of 8 bytes from off on: first, first+step, ...
func (t *tableWriter) sequence(off int64, n, first, step uint64) error {
	for n > 0 {
		b, err := t.at(off, int64(min(n, 1<<32)*8))
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 8 {
			binary.BigEndian.PutUint64(b[i:], first)
			first += step
		}
		off += int64(len(b))
		n -= uint64(len(b) / 8)
	}
	return nil
}

// writeTables writes all tables of l, with refcounts for the clusters up to
// the end of the file, fileClusters in number. Those from the start of the
// data on have the refcounts shared says; what lies behind it has 1.
func writeTables(ctx context.Context, t *tableWriter, l *layout, m *mapping, shared []uint16, fileClusters uint64) error {
	step := uint64(l.clusterSize())
	for _, r := range l.l2 {
		first := uint64(l.l2Offset) + uint64(r.table)*step
		if err := t.sequence(l.l1Offset+int64(r.first)*8, uint64(r.n), first|entryCopied, step); err != nil {
			return err
		}
	}
	if err := t.sequence(l.rtOffset, l.rbClusters, uint64(l.rbOffset), step); err != nil {
		return err
	}
	if err := l.writeRefcounts(t, shared, fileClusters); err != nil {
		return err
	}
	return l.writeL2(ctx, t, m)
}

func (l *layout) writeRefcounts(t *tableWriter, shared []uint16, fileClusters uint64) error {
	tables := uint64(l.dataOffset) >> l.clusterBits
	for i := uint64(0); i < fileClusters; {
		b, err := t.at(l.rbOffset+int64(i)*refcountBytes, int64(fileClusters-i)*refcountBytes)
		if err != nil {
			return err
		}
		for ; len(b) > 0; b = b[refcountBytes:] {
			count := uint16(1)
			if i >= tables && i-tables < uint64(len(shared)) {
				count = shared[i-tables]
			}
			binary.BigEndian.PutUint16(b, count)
			i++
		}
	}
	return nil
}

func (l *layout) writeL2(ctx context.Context, t *tableWriter, m *mapping) error {
	perTable := l.clusterBits - 3 // entries, as a power of two
	tables := l.l2                // those not yet behind the mapping
	for _, e := range m.extents {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		guest, left, host := e.guest, uint64(e.n), e.host
		for left > 0 {
			index := uint32(guest >> perTable)
			for index >= tables[0].first+tables[0].n {
				tables = tables[1:]
			}
			table := uint64(tables[0].table) + uint64(index-tables[0].first)
			inTable := guest & (1<<perTable - 1)
			n := min(left, 1<<perTable-inTable)
			off := l.l2Offset + int64(table<<l.clusterBits+inTable*8)
			var err error
			switch e.kind {
			case plainClusters:
				err = t.sequence(off, n, host|entryCopied, 1<<l.clusterBits)
				host += n << l.clusterBits
			case zeroClusters:
				err = t.sequence(off, n, entryZero, 0)
			case packedClusters:
				err = t.list(off, m.packed[host:host+n])
				host += n
			}
			if err != nil {
				return err
			}
			guest += n
			left -= n
		}
	}
	return nil
}

// list writes entries of 8 bytes from off on.
func (t *tableWriter) list(off int64, entries []uint64) error {
	for len(entries) > 0 {
		b, err := t.at(off, int64(len(entries))*8)
		if err != nil {
			return err
		}
		for i := range len(b) / 8 {
			binary.BigEndian.PutUint64(b[i*8:], entries[i])
		}
		off += int64(len(b))
		entries = entries[len(b)/8:]
	}
	return nil
}
