package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"e2qcow/internal/image"
	"e2qcow/internal/zero"
)

// OpenOptions say how an image is opened.
type OpenOptions struct{}

// An Image is the virtual disk of a qcow2 file. Its runs are the clusters that
// are allocated or known to be zero. Its methods are safe for concurrent use.
type Image struct {
	header   *Header
	r        io.ReaderAt
	fileSize int64
	l1       []uint64
	l2       *tableCache
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
	if h.ExtendedL2() {
		return nil, &UnsupportedError{Feature: "extended L2 entries"}
	}
	if h.BackingFile != "" {
		return nil, &UnsupportedError{Feature: fmt.Sprintf("backing file %q", h.BackingFile)}
	}
	m := &Image{header: h, r: r, fileSize: size, l2: newTableCache(r, h.ClusterSize())}
	if err := m.readL1(); err != nil {
		return nil, err
	}
	return m, nil
}

// readL1 reads as much of the L1 table as the size of the disk needs, which
// is bounded by the header's checks.
func (m *Image) readL1() error {
	h := m.header
	cover := h.l2CoverBits()
	n := (uint64(h.Size) + 1<<cover - 1) >> cover
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
	return nil
}

// Header returns the header of the file.
func (m *Image) Header() *Header { return m.header }

// Size returns the size of the virtual disk.
func (m *Image) Size() int64 { return m.header.Size }

// A mapKind says where the bytes of a part of the disk are.
type mapKind uint8

const (
	mapHole   mapKind = iota // not allocated
	mapZero                  // marked as zero
	mapData                  // at an offset in the file
	mapPacked                // in a compressed cluster
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
			return part{}, err
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
	var p part
	for i := 0; i < len(b) && p.n < limit; i += 8 {
		next, err := m.parseEntry(binary.BigEndian.Uint64(b[i:]), off+p.n, entryOff+int64(i))
		if err != nil {
			if i > 0 {
				break // found again by who comes to it
			}
			return part{}, err
		}
		if i == 0 {
			p = next
			p.n -= inCluster
			p.host += inCluster
			continue
		}
		if next.kind != p.kind || p.kind == mapPacked || p.kind == mapData && next.host != p.host+p.n {
			break
		}
		p.n += next.n
	}
	p.n = min(p.n, limit)
	return p, nil
}

// parseEntry returns what an L2 entry says of its cluster.
func (m *Image) parseEntry(entry uint64, off, entryOff int64) (part, error) {
	size := m.header.ClusterSize()
	host := entry & entryOffset
	switch {
	case entry&entryCompressed != 0:
		return part{}, &UnsupportedError{Feature: "compressed clusters"}
	case entry&entryZero != 0 && m.header.Version == 2:
		return part{}, m.badEntry(entry, off, entryOff, errors.New("a zero flag in version 2"))
	case entry&entryZero != 0:
		return part{kind: mapZero, n: size}, nil
	case host == 0:
		return part{kind: mapHole, n: size}, nil
	case host%uint64(size) != 0:
		return part{}, m.badEntry(entry, off, entryOff, errors.New("the cluster is not aligned"))
	}
	return part{kind: mapData, n: size, host: int64(host)}, nil
}

// badEntry returns a CorruptError of an L2 entry.
func (m *Image) badEntry(entry uint64, off, entryOff int64, err error) error {
	return &CorruptError{What: fmt.Sprintf("L2 entry %#x", entry), Offset: entryOff, Guest: off, Err: err}
}

// NextRun returns the next run of clusters that are allocated or marked zero.
func (m *Image) NextRun(off int64) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("qcow2: run after negative offset %d", off)
	}
	for start = off; start < m.Size(); {
		p, err := m.find(start, m.Size()-start)
		if err != nil {
			return 0, 0, err
		}
		if p.kind != mapHole {
			break
		}
		start += p.n
	}
	if start >= m.Size() {
		return 0, 0, io.EOF
	}
	for end = start; end < m.Size(); {
		p, err := m.find(end, m.Size()-end)
		if err != nil {
			return 0, 0, err
		}
		if p.kind == mapHole {
			break
		}
		end += p.n
	}
	return start, end, nil
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
	if p.kind != mapData {
		clear(b)
		return nil
	}
	if p.host > m.fileSize || p.n > m.fileSize-p.host {
		return &CorruptError{What: "data cluster", Offset: p.host, Guest: off,
			Err: fmt.Errorf("it lies beyond the end of the file, %#x", m.fileSize)}
	}
	if n, err := m.r.ReadAt(b, p.host); n < len(b) {
		return fmt.Errorf("read qcow2 data at %#x: %w", p.host+int64(n), unexpectedEOF(err))
	}
	return nil
}
