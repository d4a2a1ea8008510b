package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"e2qcow/internal/image"
	"e2qcow/internal/zero"
)

// OpenOptions say how an image is opened.
type OpenOptions struct {
	// Backing is called with what the header says of a backing file, if it
	// names one, and opens it. Both strings are untrusted. If Backing is nil,
	// images with a backing file are refused.
	Backing func(name, format string) (image.Image, error)

	// Window is how many bytes of data OpenStream holds, at least. 0 is enough
	// for a pipeline of as many threads as there are processors.
	Window int64

	// Spool is where OpenStream keeps an image that cannot be read in passing.
	Spool SpoolOptions
}

// An Image is the virtual disk of a qcow2 file. Its runs are the clusters that
// are allocated or known to be zero, and the runs of a backing file. Its
// methods are safe for concurrent use.
type Image struct {
	header   *Header
	r        io.ReaderAt
	fileSize int64
	l1       []uint64
	l2       *tableCache
	unpacked *clusterCache
	tables   areas // nil for a stream, of which all data lies behind them
	backing  image.Image

	backingRun backingRun // the last one that was asked for
}

var _ image.Image = (*Image)(nil)

// Open opens the image in the first size bytes of r. The error is ErrNotQcow2
// where the magic is missing, an *UnsupportedError for what is not read, a
// *CorruptError for damage. What a header names, another file, is not opened.
func Open(r io.ReaderAt, size int64, opt OpenOptions) (*Image, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	if err := h.unsupported(); err != nil {
		return nil, err
	}
	if h.BackingFile != "" && opt.Backing == nil {
		return nil, h.backingError()
	}
	m := newImage(h, r, size)
	if err := m.readL1(); err != nil {
		return nil, err
	}
	m.tables = m.tableAreas()
	if h.BackingFile != "" {
		if m.backing, err = opt.Backing(h.BackingFile, h.BackingFormat); err != nil {
			return nil, fmt.Errorf("backing file %q: %w", h.BackingFile, err)
		}
	}
	return m, nil
}

func newImage(h *Header, r io.ReaderAt, size int64) *Image {
	return &Image{
		header:   h,
		r:        r,
		fileSize: size,
		l2:       newTableCache(r, h.ClusterSize()),
		unpacked: newClusterCache(h.ClusterSize()),
	}
}

// readL1 reads as much of the L1 table as the size of the disk needs, which
// is bounded by the header's checks.
func (m *Image) readL1() error {
	h := m.header
	cover := h.l2CoverBits()
	n := (uint64(h.Size) + 1<<cover - 1) >> cover
	if h.L1Offset > uint64(m.fileSize) || n*8 > uint64(m.fileSize)-h.L1Offset {
		return corrupt("header", 40, "L1 table of %d entries at %#x lies beyond the end of the file, %#x", n, h.L1Offset, m.fileSize)
	}
	m.l1 = make([]uint64, 0, n)
	buf := make([]byte, min(n*8, 64<<10))
	for off := h.L1Offset; uint64(len(m.l1)) < n; off += uint64(len(buf)) {
		b := buf[:min(uint64(len(buf)), (n-uint64(len(m.l1)))*8)]
		if k, err := m.r.ReadAt(b, int64(off)); k < len(b) {
			return fmt.Errorf("read qcow2 L1 table at %#x: %w", off, unexpectedEOF(err))
		}
		for i := 0; i < len(b); i += 8 {
			m.l1 = append(m.l1, binary.BigEndian.Uint64(b[i:]))
		}
	}
	return m.checkL1()
}

// checkL1 refuses an L1 table whose entries share an L2 table, or lead into
// the header or the L1 table itself: they would repeat parts of the disk for as
// long as its size says.
func (m *Image) checkL1() error {
	var tables []uint64
	l1Start := m.header.L1Offset
	l1End := l1Start + 8*uint64(len(m.l1))
	for i, entry := range m.l1 {
		table := entry & entryOffset
		if table == 0 {
			continue
		}
		if end := table + uint64(m.header.ClusterSize()); table < l1End && end > l1Start {
			return corrupt("L1 table", l1Start+8*uint64(i), "the L2 table at %#x overlaps the L1 table", table)
		}
		tables = append(tables, table)
	}
	slices.Sort(tables)
	for i := 1; i < len(tables); i++ {
		if tables[i] == tables[i-1] {
			return corrupt("L1 table", l1Start, "two entries share the L2 table at %#x", tables[i])
		}
	}
	return nil
}

// Header returns the header of the file.
func (m *Image) Header() *Header { return m.header }

// Notes returns what of the image is ignored, or makes it doubtful.
func (m *Image) Notes() []string {
	var notes []string
	if n := m.header.Snapshots; n > 0 {
		notes = append(notes, fmt.Sprintf("internal snapshots are ignored: %d", n))
	}
	if m.header.Dirty() {
		notes = append(notes, "the image is marked dirty: its refcounts may be wrong")
	}
	if m.header.MarkedCorrupt() {
		notes = append(notes, "the image is marked corrupt")
	}
	return notes
}

// Size returns the size of the virtual disk.
func (m *Image) Size() int64 { return m.header.Size }

// A mapKind says where the bytes of a part of the disk are.
type mapKind uint8

const (
	mapHole   mapKind = iota // not allocated
	mapZero                  // marked as zero
	mapData                  // at an offset in the file
	mapPacked                // in a compressed cluster
	mapBad                   // the entry is damaged
)

// A part is a run of bytes of the disk that are mapped alike.
type part struct {
	kind mapKind
	n    int64
	host int64  // of data: where it is in the file
	desc uint64 // of a packed cluster: its L2 entry
}

// find returns the part that begins at off, which is less than Size: as long
// as it is, but no longer than limit.
func (m *Image) find(off, limit int64) (part, error) {
	limit = min(limit, m.Size()-off)
	p, err := m.step(off, limit)
	if err != nil {
		return part{}, err
	}
	for p.n < limit && p.kind != mapPacked {
		next, err := m.step(off+p.n, limit-p.n)
		if err != nil {
			return p, nil //nolint:nilerr // it is found again by who comes to it
		}
		if next.kind != p.kind || p.kind == mapData && next.host != p.host+p.n {
			break
		}
		p.n += next.n
	}
	return p, nil
}

// step returns the part that begins at off, no longer than limit and than one
// slice of an L2 table says.
func (m *Image) step(off, limit int64) (part, error) {
	h := m.header
	cover := h.l2CoverBits()
	index := off >> cover
	tableOffset, err := m.l2Table(index)
	if err != nil {
		return part{}, err
	}
	if tableOffset == 0 {
		// Tables that are missing side by side are one hole.
		end := index + 1
		for end < int64(len(m.l1)) && m.l1[end]&entryOffset == 0 && end<<cover-off < limit {
			end++
		}
		return part{kind: mapHole, n: min(end<<cover-off, limit)}, nil
	}
	inTable := (off & (1<<cover - 1)) >> h.ClusterBits
	entryOff := tableOffset + inTable<<h.l2EntryBits()
	var p part
	cacheErr := m.l2.with(entryOff, func(b []byte) {
		p, err = m.parse(b, off, limit, entryOff)
	})
	if cacheErr != nil {
		return part{}, cacheErr
	}
	return p, err
}

// l2Table returns the offset of the L2 table of an L1 index, or 0.
func (m *Image) l2Table(index int64) (int64, error) {
	entry := m.l1[index]
	off := entry & entryOffset
	var what error
	switch size := uint64(m.header.ClusterSize()); {
	case off == 0:
		return 0, nil
	case off%size != 0:
		what = errors.New("the L2 table is not aligned")
	case off > uint64(m.fileSize) || size > uint64(m.fileSize)-off:
		what = fmt.Errorf("the L2 table lies beyond the end of the file, %#x", m.fileSize)
	default:
		return int64(off), nil
	}
	return 0, &CorruptError{
		What:   fmt.Sprintf("L1 entry %#x", entry),
		Offset: int64(m.header.L1Offset) + index*8,
		Guest:  index << m.header.l2CoverBits(),
		Err:    what,
	}
}

// parse returns the part that begins at off, whose L2 entry b begins with and
// is at entryOff in the file.
func (m *Image) parse(b []byte, off, limit, entryOff int64) (part, error) {
	clusterSize := m.header.ClusterSize()
	inCluster := off & (clusterSize - 1)
	// The rest of a table is often empty.
	if zero.IsZero(b) {
		n := int64(len(b))>>m.header.l2EntryBits()<<m.header.ClusterBits - inCluster
		return part{kind: mapHole, n: min(n, limit)}, nil
	}
	subSize := m.subclusterSize()
	entrySize := 1 << m.header.l2EntryBits()
	sub := uint(inCluster / subSize)
	var p part
	for i := 0; i < len(b); i += entrySize {
		for ; int64(sub)*subSize < clusterSize; sub++ {
			next, err := m.parseEntry(b[i:], sub, off+p.n, entryOff+int64(i))
			if err != nil && p.n == 0 {
				return part{}, err
			}
			if err != nil {
				// It is found again by who comes to it.
				next.kind = mapBad
			}
			switch {
			case p.n == 0:
				inSub := off & (subSize - 1)
				p = next
				p.n -= inSub
				p.host += inSub
			case next.kind != p.kind || p.kind == mapData && next.host != p.host+p.n:
				p.n = min(p.n, limit)
				return p, nil
			default:
				p.n += next.n
			}
			if p.n >= limit || p.kind == mapPacked {
				p.n = min(p.n, limit)
				return p, nil
			}
		}
		sub = 0
	}
	return p, nil
}

// subclusterSize returns the size of what is allocated at once.
func (m *Image) subclusterSize() int64 {
	if m.header.ExtendedL2() {
		return m.header.ClusterSize() / 32
	}
	return m.header.ClusterSize()
}

// parseEntry returns what the L2 entry at the start of b says of a subcluster;
// a compressed cluster is whole, and what follows the subcluster is meant.
// Without extended L2 entries there is one subcluster.
func (m *Image) parseEntry(b []byte, sub uint, off, entryOff int64) (part, error) {
	h := m.header
	entry := binary.BigEndian.Uint64(b)
	host := entry & entryOffset
	n := m.subclusterSize()
	if entry&entryCompressed != 0 {
		return part{kind: mapPacked, n: h.ClusterSize() - int64(sub)*n, desc: entry}, nil
	}
	if host%uint64(h.ClusterSize()) != 0 {
		return part{}, m.badEntry(entry, off, entryOff, errors.New("the cluster is not aligned"))
	}
	isZero, isData := entry&entryZero != 0, host != 0
	if h.ExtendedL2() {
		bitmap := binary.BigEndian.Uint64(b[8:])
		isData = bitmap>>sub&1 != 0
		isZero = bitmap>>(32+sub)&1 != 0
		if isData && isZero {
			return part{}, m.badEntry(entry, off, entryOff, fmt.Errorf("subcluster %d is both allocated and zero", sub))
		}
		if isData && host == 0 {
			return part{}, m.badEntry(entry, off, entryOff, fmt.Errorf("subcluster %d is allocated nowhere", sub))
		}
	}
	switch {
	case isZero && h.Version == 2:
		return part{}, m.badEntry(entry, off, entryOff, errors.New("a zero flag in version 2"))
	case isZero:
		return part{kind: mapZero, n: n}, nil
	case !isData:
		return part{kind: mapHole, n: n}, nil
	}
	return part{kind: mapData, n: n, host: int64(host) + int64(sub)*n}, nil
}

// badEntry returns a CorruptError of an L2 entry.
func (m *Image) badEntry(entry uint64, off, entryOff int64, err error) error {
	return &CorruptError{What: fmt.Sprintf("L2 entry %#x", entry), Offset: entryOff, Guest: off, Err: err}
}

// NextRun returns the next run of clusters that are allocated, marked zero, or
// known to the backing file.
func (m *Image) NextRun(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("qcow2: run after negative offset %d", off)
	}
	start, end, err = m.nextKnown(off)
	for err == nil {
		var s, e int64
		s, e, err = m.nextKnown(end)
		if err == nil && s > end || errors.Is(err, io.EOF) {
			return start, end, nil
		}
		end = e
	}
	return 0, 0, err
}

// nextKnown returns a run like NextRun, but one that may go on behind its end.
func (m *Image) nextKnown(off int64) (start, end int64, err error) {
	for off < m.Size() {
		start, end, err := m.nextBacking(off)
		if err != nil {
			return 0, 0, err
		}
		if start <= off {
			return off, min(end, m.Size()), nil
		}
		p, err := m.find(off, start-off)
		if err != nil {
			return 0, 0, err
		}
		if p.kind != mapHole {
			return off, off + p.n, nil
		}
		off += p.n
	}
	return 0, 0, io.EOF
}

// A backingRun is the first run of a backing file at or after from.
type backingRun struct {
	mu               sync.Mutex
	from, start, end int64
}

// nextBacking returns the next run of the backing file, or a run behind all.
// It keeps the run, since this image may cut a long one into many.
func (m *Image) nextBacking(off int64) (start, end int64, err error) {
	if m.backing == nil || off >= m.backing.Size() {
		return m.Size(), m.Size(), nil
	}
	r := &m.backingRun
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < r.from || off >= r.end {
		start, end, err = m.backing.NextRun(off)
		if errors.Is(err, io.EOF) {
			start, end = m.Size(), m.Size()
		} else if err != nil {
			return 0, 0, err
		}
		r.from, r.start, r.end = off, start, end
	}
	return max(off, r.start), r.end, nil
}

// ReadAt reads the virtual disk.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("qcow2: read at negative offset %d", off)
	}
	n := 0
	for n < len(b) && off < m.Size() {
		p, err := m.find(off, int64(len(b)-n))
		if err != nil {
			return n, err
		}
		if err := m.readPart(b[n:][:p.n], off, p); err != nil {
			return n, err
		}
		n += int(p.n)
		off += p.n
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// readPart reads all of part p, which begins at off, into b.
func (m *Image) readPart(b []byte, off int64, p part) error {
	switch p.kind {
	case mapData:
		return m.readData(b, off, p.host)
	case mapPacked:
		return m.readPacked(b, off, p.desc)
	case mapHole:
		return m.readBacking(b, off)
	}
	clear(b)
	return nil
}

var errOverlap = errors.New("it overlaps the header, the L1 table or an L2 table")

// readData reads the clusters at host in the file.
func (m *Image) readData(b []byte, off, host int64) error {
	if host > m.fileSize || int64(len(b)) > m.fileSize-host {
		return &CorruptError{What: "data cluster", Offset: host, Guest: off,
			Err: fmt.Errorf("it lies beyond the end of the file, %#x", m.fileSize)}
	}
	if m.tables.hit(host, int64(len(b))) {
		return &CorruptError{What: "data cluster", Offset: host, Guest: off, Err: errOverlap}
	}
	if n, err := m.r.ReadAt(b, host); n < len(b) {
		return fmt.Errorf("read qcow2 data at %#x: %w", host+int64(n), unexpectedEOF(err))
	}
	return nil
}

// readBacking reads from the backing file, behind whose end there are zeros.
func (m *Image) readBacking(b []byte, off int64) error {
	n := 0
	if m.backing != nil && off < m.backing.Size() {
		want := int(min(int64(len(b)), m.backing.Size()-off))
		var err error
		if n, err = m.backing.ReadAt(b[:want], off); n < want {
			return fmt.Errorf("read backing file at %#x: %w", off+int64(n), unexpectedEOF(err))
		}
	}
	clear(b[n:])
	return nil
}
