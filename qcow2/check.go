package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A Severity is the importance of a Finding for the image.
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

// A Report contains the results of Check.
type Report struct {
	Corruptions int64
	Leaks       int64
	Findings    []Finding // the first MaxFindings of both
	// Unchecked is how many clusters have a refcount that cannot be read, for
	// its block cannot be found.
	Unchecked int64
	// Untried is the number of compressed clusters that were not decompressed,
	// because together they contain more than is plausible for a file of this
	// size.
	Untried int64
	// BeyondEnd is how many references lead to, or over, the end of the file,
	// as in one that is cut short.
	BeyondEnd int64

	FileClusters       int64 // the length of the file
	AllocatedClusters  int64 // clusters of the disk that are in the file
	CompressedClusters int64 // of these
}

// Status returns the exit status of qemu-img check: 0 clean, 1 not checked in
// full, 2 corruptions, 3 leaks only.
func (r *Report) Status() int {
	switch {
	case r.Unchecked > 0 || r.Untried > 0:
		return 1
	case r.Corruptions > 0:
		return 2
	case r.Leaks > 0:
		return 3
	}
	return 0
}

// Check checks an image as qemu-img does: every cluster has as many references
// as its refcount says, no cluster lies behind the end of the file or is used
// for two purposes, and the flags of the tables are right. In addition, it
// decompresses every compressed cluster, and finds clusters of which the file
// contains a part only; qemu reads the rest as zero. An error means that the
// image could not be checked. Memory is bounded: 64 MiB of counts, 40 MiB of
// numbers of pages, a few clusters for each thread.
//
// progress, if not nil, is told how many bytes of the file were looked at, or
// found to be in use, from one goroutine.
func Check(ctx context.Context, r io.ReaderAt, size int64, progress func(done, total int64)) (*Report, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	if err := h.unsupported(); err != nil {
		return nil, err
	}
	c := newChecker(ctx, r, size, h)
	c.progress = progress
	c.unpack = newUnpackPool(ctx, r, size, h)
	err = c.run()
	n, bad, unpackErr := c.unpack.wait()
	for _, f := range bad {
		c.find(f)
	}
	c.report.Corruptions += n - int64(len(bad))
	c.report.Untried = c.unpack.left
	if err == nil {
		err = unpackErr
	}
	if err != nil {
		return nil, err
	}
	return &c.report, nil
}

func newChecker(ctx context.Context, r io.ReaderAt, size int64, h *Header) *checker {
	c := &checker{
		ctx:      ctx,
		r:        zeroBehind{r, size},
		runs:     fileRuns{holes: holesOf(r)},
		size:     size,
		h:        h,
		clusters: (uint64(size) + uint64(h.ClusterSize()) - 1) >> h.ClusterBits,
	}
	c.report.FileClusters = int64(c.clusters)
	return c
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
	runs     fileRuns
	size     int64
	h        *Header
	clusters uint64      // of the file
	unpack   *unpackPool // nil where compressed clusters are not tried
	progress func(done, total int64)
	referred int64 // bytes that references lead to, in all passes
	told     int64 // of these, when progress was told
	report   Report

	tally *tally // of Verify, for which the first corruption is enough; else nil

	// A pass walks all references to clusters, and counts those to the clusters
	// of some pages. The first pass also reports wrong references.
	first    bool
	counts   refCounts
	walked   int64 // bytes of tables, in this pass
	refTable []uint64
	buf      []byte // one cluster
	blockBuf []byte // one refcount block
}

// tellEach is after how many bytes progress is told on.
const tellEach = 1 << 20

// tell counts n bytes that a reference leads to. A pass leads to each byte of the
// file about once, and what is compressed there is decompressed meanwhile.
func (c *checker) tell(n int64) {
	c.referred += n
	if c.progress == nil || c.referred-c.told < tellEach {
		return
	}
	c.told = c.referred
	passes := 1 + int64(c.clusters/(maxCountPages*countPage))
	total := c.size
	if c.size <= math.MaxInt64/passes {
		total *= passes
	}
	c.progress(min(c.referred, total), total)
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
	c.first = true
	if err := c.pass(); errors.Is(err, errTooMany) {
		c.corrupt(int64(c.h.L1Offset), -1, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	c.first = false
	for c.counts.next() {
		if err := c.pass(); err != nil {
			return err
		}
	}
	return nil
}

// pass counts the references to the clusters of the pages at hand, compares
// them with the refcounts, and compares these with the flags of the tables.
func (c *checker) pass() error {
	c.walked = 0
	if err := c.count(); err != nil {
		return err
	}
	if err := c.useRefcounts(); err != nil {
		return err
	}
	if c.tally != nil && c.h.Dirty() {
		return nil
	}
	if c.counts.overflow {
		return &UnsupportedError{Feature: fmt.Sprintf("a file of %d clusters that are used far apart cannot be checked", c.clusters)}
	}
	if err := c.compare(); err != nil {
		return err
	}
	return c.walkActive(c.checkCopied)
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

// asFinding returns err as a finding of the entry e, if it is damage.
func asFinding(err error, e l2Entry) (Finding, bool) {
	var damage *CorruptError
	if !errors.As(err, &damage) {
		return Finding{}, false
	}
	return Finding{Severity: Corruption, Offset: damage.Offset, Guest: e.guest, What: fmt.Sprintf("%s: %v", damage.What, damage.Err)}, true
}
