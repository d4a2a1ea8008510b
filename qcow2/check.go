package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"e2qcow/internal/zero"
)

// A Severity says what a Finding means for the image.
type Severity int

const (
	// Corruption is damage: bytes are lost, or will be by writing.
	Corruption Severity = iota
	// Leak is a cluster that is taken but not used: only space is lost.
	Leak
)

func (s Severity) String() string {
	if s == Leak {
		return "leak"
	}
	return "corruption"
}

// A Finding is one thing that is wrong with an image.
type Finding struct {
	Severity Severity
	Offset   int64 // in the file
	Guest    int64 // the byte of the virtual disk it is about, or -1
	What     string
}

func (f Finding) String() string {
	if f.Guest >= 0 {
		return fmt.Sprintf("%v at offset %#x, for guest offset %#x: %s", f.Severity, f.Offset, f.Guest, f.What)
	}
	return fmt.Sprintf("%v at offset %#x: %s", f.Severity, f.Offset, f.What)
}

// MaxFindings is how many findings a Report lists.
const MaxFindings = 100

// A Report is what Check found.
type Report struct {
	Corruptions int64
	Leaks       int64
	Findings    []Finding // the first MaxFindings of both
	// Unchecked is how many clusters have a refcount that cannot be read, for
	// its block cannot be found.
	Unchecked int64

	FileClusters       int64 // the length of the file
	AllocatedClusters  int64 // clusters of the disk that are in the file
	CompressedClusters int64 // of these
}

// Status returns the exit status of qemu-img check: 0 clean, 1 not checked in
// full, 2 corruptions, 3 leaks only.
func (r *Report) Status() int {
	switch {
	case r.Unchecked > 0:
		return 1
	case r.Corruptions > 0:
		return 2
	case r.Leaks > 0:
		return 3
	}
	return 0
}

const (
	// checkWindow is how many clusters of the file are counted at once: 64 MiB
	// of counts. The tables are walked anew for each window that they use.
	checkWindow = 32 << 20

	// maxCheckWindows bounds the time that an image can ask for.
	maxCheckWindows = 4096

	countMask = 1<<15 - 1
	exclusive = 1 << 15 // referenced as what nothing else may share
)

// Check checks an image as qemu-img does: that every cluster has as many
// references as its refcount says, that none lies behind the end of the file
// or is two things at once, and that the flags of the tables are right. It
// decompresses every compressed cluster. An error means that the image could
// not be checked. Memory is bounded: 64 MiB of counts, a few clusters a thread.
//
// progress, if not nil, is called with parts of the work, from one goroutine.
func Check(ctx context.Context, r io.ReaderAt, size int64, progress func(done, total int64)) (*Report, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	if err := h.unsupported(); err != nil {
		return nil, err
	}
	c := &checker{
		ctx:      ctx,
		r:        zeroBehind{r, size},
		size:     size,
		h:        h,
		clusters: (uint64(size) + uint64(h.ClusterSize()) - 1) >> h.ClusterBits,
		windows:  make(map[uint64]struct{}),
		progress: progress,
	}
	c.report.FileClusters = int64(c.clusters)
	c.unpack = newUnpackPool(ctx, r, size, h)
	err = c.run()
	n, bad, unpackErr := c.unpack.wait()
	for _, f := range bad {
		c.find(f)
	}
	c.report.Corruptions += n - int64(len(bad))
	if err == nil {
		err = unpackErr
	}
	if err != nil {
		return nil, err
	}
	return &c.report, nil
}

// A zeroBehind reads zeros behind the end of a file, as qemu does.
type zeroBehind struct {
	r    io.ReaderAt
	size int64
}

func (z zeroBehind) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), z.size-off)))
	if n > 0 {
		if k, err := z.r.ReadAt(b[:n], off); k < n {
			return k, fmt.Errorf("read at %#x: %w", off+int64(k), unexpectedEOF(err))
		}
	}
	clear(b[n:])
	return len(b), nil
}

// A checker checks one image.
type checker struct {
	ctx      context.Context
	r        io.ReaderAt
	size     int64
	h        *Header
	clusters uint64 // of the file
	unpack   *unpackPool
	progress func(done, total int64)
	report   Report

	// A pass walks everything that refers to clusters and counts those of one
	// window. The first also says what is wrong with the references.
	first    bool
	from     uint64              // first cluster of the window
	counts   []uint16            // references, then the refcounts in the file
	windows  map[uint64]struct{} // windows that are used
	overflow bool                // more than maxCheckWindows
	walked   int64               // bytes of tables, in this pass
	refTable []uint64
	buf      []byte // one cluster
	blockBuf []byte // one refcount block
}

// find adds a finding to the report.
func (c *checker) find(f Finding) {
	if f.Severity == Leak {
		c.report.Leaks++
	} else {
		c.report.Corruptions++
	}
	if len(c.report.Findings) < MaxFindings {
		c.report.Findings = append(c.report.Findings, f)
	}
}

// corrupt adds a corruption, if this is the first pass.
func (c *checker) corrupt(offset, guest int64, format string, args ...any) {
	if c.first {
		c.find(Finding{Severity: Corruption, Offset: offset, Guest: guest, What: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) run() error {
	if err := c.readRefTable(); err != nil {
		return err
	}
	size := c.h.ClusterSize()
	c.buf = make([]byte, size)
	c.blockBuf = make([]byte, size)
	c.counts = make([]uint16, min(c.clusters, checkWindow))
	c.windows[0] = struct{}{}
	perBlock := uint64(size) * 8 / uint64(c.h.RefcountBits)
	for i, entry := range c.refTable {
		if entry != 0 {
			c.use(uint64(i) * perBlock)
			c.use(uint64(i)*perBlock + perBlock - 1)
		}
	}
	c.first = true
	if err := c.pass(0); errors.Is(err, errTooMany) {
		c.corrupt(int64(c.h.L1Offset), -1, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	if c.overflow {
		return &UnsupportedError{Feature: fmt.Sprintf("a file of %d clusters that are used far apart cannot be checked", c.clusters)}
	}
	c.first = false
	for _, w := range slices.Sorted(maps.Keys(c.windows)) {
		if w == 0 {
			continue
		}
		if err := c.pass(w); err != nil {
			return err
		}
	}
	return nil
}

// use notes that a cluster of the file needs to be counted.
func (c *checker) use(cluster uint64) {
	if cluster >= c.clusters {
		return
	}
	if len(c.windows) > maxCheckWindows {
		c.overflow = true
		return
	}
	c.windows[cluster/checkWindow] = struct{}{}
}

// pass counts the references to the clusters of a window, compares them with
// the refcounts, and compares these with the flags of the tables.
func (c *checker) pass(window uint64) error {
	c.from = window * checkWindow
	c.walked = 0
	c.counts = c.counts[:min(checkWindow, c.clusters-c.from)]
	clear(c.counts)
	if err := c.count(); err != nil {
		return err
	}
	if err := c.compare(); err != nil {
		return err
	}
	return c.walkL1(c.h.L1Offset, c.h.L1Entries, c.checkCopied)
}

// readRefTable reads the refcount table, at most maxRefcountSize bytes.
func (c *checker) readRefTable() error {
	b := make([]byte, uint64(c.h.RefcountTableLength)<<c.h.ClusterBits)
	if _, err := c.r.ReadAt(b, int64(c.h.RefcountTableOffset)); err != nil {
		return err
	}
	c.refTable = make([]uint64, len(b)/8)
	for i := range c.refTable {
		c.refTable[i] = binary.BigEndian.Uint64(b[i*8:])
	}
	return nil
}

// refer counts a reference to n bytes of the file. Those that nothing else may
// refer to are only. at and guest say where the reference is.
func (c *checker) refer(offset, n uint64, only bool, at, guest int64, what string) {
	if n == 0 {
		return
	}
	cluster := uint64(c.h.ClusterSize())
	// The last cluster of the file may be cut short.
	if int64(offset+n)-c.size >= int64(cluster) {
		c.corrupt(at, guest, "%s at %#x lies beyond the end of the file", what, offset)
		return
	}
	for i := offset / cluster; i <= (offset+n-1)/cluster; i++ {
		if c.first {
			c.use(i)
		}
		if i < c.from || i-c.from >= uint64(len(c.counts)) {
			continue
		}
		v := &c.counts[i-c.from]
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
	c.refer(h.L1Offset, uint64(h.L1Entries)*8, true, 40, -1, "L1 table")
	if err := c.walkL1(h.L1Offset, h.L1Entries, c.countL2); err != nil {
		return err
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

// An l2Entry is where an L2 entry is and what it says.
type l2Entry struct {
	at     int64 // in the file
	guest  int64 // or -1
	entry  uint64
	bitmap uint64 // of an extended entry
}

// Reserved bits of the entries.
const (
	l1Reserved = 0x7f000000000001ff
	l2Reserved = 0x3f000000000001fe
)

// errTooMany says that the same tables are referred to again and again.
var errTooMany = errors.New("more references to tables than the file can hold")

// walk counts n bytes of tables that are read, which snapshots may share, but
// not without end.
func (c *checker) walk(n int64) error {
	if c.walked += n; c.walked/16 > c.size+4<<20 {
		return errTooMany
	}
	return nil
}

// walkL1 calls f with each L1 entry that is not zero, as an l2Entry.
func (c *checker) walkL1(offset uint64, n uint32, f func(e l2Entry, active bool) error) error {
	active := offset == c.h.L1Offset
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
		if active && c.first && c.progress != nil {
			c.progress(int64(i), int64(n))
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
			if c.ctx.Err() != nil {
				return context.Cause(c.ctx)
			}
			guest := int64(-1)
			if active {
				guest = (at + int64(pos) - int64(offset)) / 8 << c.h.l2CoverBits()
			}
			if err := f(l2Entry{at: at + int64(pos), guest: guest, entry: entry}, active); err != nil {
				return err
			}
		}
	}
	return nil
}

// countL2 counts the L2 table of an L1 entry, and what it refers to.
func (c *checker) countL2(e l2Entry, active bool) error {
	if e.entry&l1Reserved != 0 {
		c.corrupt(e.at, e.guest, "L1 entry %#x has reserved bits set", e.entry)
	}
	off := e.entry & entryOffset
	if off == 0 {
		c.corrupt(e.at, e.guest, "L1 entry %#x has flags and no table", e.entry)
		return nil
	}
	c.refer(off, uint64(c.h.ClusterSize()), false, e.at, e.guest, "L2 table")
	if off%uint64(c.h.ClusterSize()) != 0 {
		c.corrupt(e.at, e.guest, "L2 table at %#x is not aligned", off)
	}
	return c.walkL2(off, e.guest, func(e l2Entry) { c.countCluster(e, active) })
}

// walkL2 calls f with each entry of an L2 table that is not zero.
func (c *checker) walkL2(offset uint64, guest int64, f func(l2Entry)) error {
	if offset >= uint64(c.size) {
		return nil
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

// countCluster counts what an L2 entry refers to.
func (c *checker) countCluster(e l2Entry, active bool) {
	size := uint64(c.h.ClusterSize())
	if e.entry&entryCompressed != 0 {
		c.countCompressed(e, active)
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
		if alloc != 0 {
			c.corrupt(e.at, e.guest, "subclusters %#x are allocated nowhere", alloc)
		}
		return
	case alloc&zeros != 0:
		c.corrupt(e.at, e.guest, "subclusters %#x are both allocated and zero", alloc&zeros)
	case off%size != 0:
		c.corrupt(e.at, e.guest, "data cluster at %#x is not aligned", off)
	}
	if c.first && active {
		c.report.AllocatedClusters++
	}
	c.refer(off, size, false, e.at, e.guest, "data cluster")
}

func (c *checker) countCompressed(e l2Entry, active bool) {
	if e.entry&entryCopied != 0 {
		c.corrupt(e.at, e.guest, "compressed cluster is marked as copied")
	}
	if e.bitmap != 0 {
		c.corrupt(e.at, e.guest, "compressed cluster has subclusters")
	}
	off, n := packedPlace(e.entry, c.h.ClusterBits)
	c.refer(uint64(off), uint64(n), false, e.at, e.guest, "compressed cluster")
	if c.first && active {
		c.report.AllocatedClusters++
		c.report.CompressedClusters++
		c.unpack.add(e, n)
	}
}

// compare compares the references with the refcounts in the file, which then
// take their place in c.counts: 0, 1 or more.
func (c *checker) compare() error {
	perBlock := uint64(c.h.ClusterSize()) * 8 / uint64(c.h.RefcountBits)
	for i := 0; i < len(c.counts); {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		cluster := c.from + uint64(i)
		first := cluster % perBlock
		n := int(min(perBlock-first, uint64(len(c.counts)-i)))
		stored, err := c.refBlock(cluster / perBlock)
		if errors.Is(err, errNoBlock) {
			c.report.Unchecked += int64(n)
			for k := range n {
				c.counts[i+k] = unknownRefcount
			}
			i += n
			continue
		}
		if err != nil {
			return err
		}
		for k := range n {
			var refcount uint64
			if stored != nil {
				refcount = readRefcount(stored, first+uint64(k), c.h.RefcountBits)
			}
			c.compareOne(cluster+uint64(k), &c.counts[i+k], refcount)
		}
		i += n
	}
	return nil
}

func (c *checker) compareOne(cluster uint64, count *uint16, refcount uint64) {
	references := uint64(*count & countMask)
	off := int64(cluster << c.h.ClusterBits)
	switch {
	case references == countMask && refcount >= countMask:
	case refcount < references:
		c.find(Finding{Corruption, off, -1, fmt.Sprintf("cluster %d has refcount %d and %d references", cluster, refcount, references)})
	case refcount > references:
		c.find(Finding{Leak, off, -1, fmt.Sprintf("cluster %d has refcount %d and %d references", cluster, refcount, references)})
	}
	*count = uint16(min(refcount, 2))
}

// unknownRefcount stands for a refcount that cannot be read.
const unknownRefcount = 1<<16 - 1

var errNoBlock = errors.New("the refcount block cannot be anywhere")

// refBlock returns a refcount block, or nil where there is none.
func (c *checker) refBlock(i uint64) ([]byte, error) {
	if i >= uint64(len(c.refTable)) {
		return nil, nil
	}
	off := c.refTable[i] &^ (1<<9 - 1)
	if off%uint64(c.h.ClusterSize()) != 0 || off > math.MaxInt64 {
		return nil, errNoBlock
	}
	if off == 0 || off >= uint64(c.size) {
		return nil, nil
	}
	_, err := c.r.ReadAt(c.blockBuf, int64(off))
	return c.blockBuf, err
}

// readRefcount returns refcount i of a block, bits wide: 1, 2, 4 ... 64. Those
// of less than a byte begin at its least significant bit.
func readRefcount(b []byte, i uint64, bits uint) uint64 {
	switch bits {
	case 8:
		return uint64(b[i])
	case 16:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 32:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 64:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	bit := i * uint64(bits)
	return uint64(b[bit/8]) >> (bit % 8) & (1<<bits - 1)
}

// checkCopied checks the copied flags of an L1 entry and its L2 table.
func (c *checker) checkCopied(e l2Entry, _ bool) error {
	off := e.entry & entryOffset
	if off == 0 {
		return nil
	}
	c.checkFlag(e, "L2 table")
	return c.walkL2(off, e.guest, func(e l2Entry) {
		if e.entry&entryCompressed == 0 && e.entry&entryOffset != 0 {
			c.checkFlag(e, "data cluster")
		}
	})
}

// checkFlag checks that the copied flag is set if the refcount is 1.
func (c *checker) checkFlag(e l2Entry, what string) {
	cluster := e.entry & entryOffset >> c.h.ClusterBits
	if cluster < c.from || cluster-c.from >= uint64(len(c.counts)) {
		return
	}
	refcount := c.counts[cluster-c.from]
	if copied := e.entry&entryCopied != 0; refcount != unknownRefcount && copied != (refcount == 1) {
		c.find(Finding{Corruption, e.at, e.guest, fmt.Sprintf("the copied flag of the %s at %#x contradicts its refcount", what, e.entry&entryOffset)})
	}
}

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
			if err := c.walkL1(l1Offset, l1Entries, c.countL2); err != nil {
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
	return c.walkL1(table, entries, func(e l2Entry, _ bool) error {
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

// asFinding returns err as a finding of the entry e, if it is damage.
func asFinding(err error, e l2Entry) (Finding, bool) {
	var damage *CorruptError
	if !errors.As(err, &damage) {
		return Finding{}, false
	}
	return Finding{Severity: Corruption, Offset: damage.Offset, Guest: e.guest, What: fmt.Sprintf("%s: %v", damage.What, damage.Err)}, true
}
