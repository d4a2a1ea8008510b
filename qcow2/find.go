package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"e2qcow/internal/zero"
)

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
		end := m.gap.end(index)
		for end < int64(len(m.l1)) && m.l1[end]&entryOffset == 0 && end<<cover-off < limit {
			end++
		}
		m.gap.set(index, end)
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

// An l1Gap remembers entries of an L1 table that lead to no table. A caller that
// goes through a large disk in small steps meets the same entries many times, and
// there may be millions. Its methods are safe for concurrent use.
type l1Gap struct {
	last atomic.Pointer[[2]int64] // from where to where
}

// leastGap is how many entries are worth to be remembered.
const leastGap = 256

// end returns the first entry behind index that may lead to a table. The one at
// index does not.
func (g *l1Gap) end(index int64) int64 {
	if l := g.last.Load(); l != nil && l[0] <= index && index < l[1] {
		return l[1]
	}
	return index + 1
}

// set remembers that the entries from index to end lead to no table.
func (g *l1Gap) set(index, end int64) {
	l := g.last.Load()
	switch {
	case l != nil && l[0] <= index && index < l[1] && end == l[1]:
		return
	case l != nil && l[0] <= index && index <= l[1] && end > l[1]:
		index = l[0]
	case end-index < leastGap:
		return
	}
	g.last.Store(&[2]int64{index, end})
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
	case off > uint64(m.tableEnd) || size > uint64(m.tableEnd)-off:
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

// parse returns the part that begins at off. b begins with its L2 entry, which
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
				// The read of that part will meet the error again.
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

// subclusterSize returns the unit of allocation in bytes.
func (m *Image) subclusterSize() int64 {
	if m.header.ExtendedL2() {
		return m.header.ClusterSize() / 32
	}
	return m.header.ClusterSize()
}

// parseEntry returns the contents of a subcluster according to the L2 entry at
// the start of b. A compressed cluster is always allocated as a whole. Without
// extended L2 entries a cluster has one subcluster.
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
	if host == 0 && entry&entryCopied != 0 {
		return part{}, m.badEntry(entry, off, entryOff, errors.New("the cluster is in use and nowhere"))
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
