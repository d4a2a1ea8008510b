package qcow2

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// NextRun returns the next run of clusters that are allocated, marked zero, or
// known to the backing file.
func (m *Image) NextRun(off int64) (start, end int64, err error) {
	start, end, err = m.next(off, true)
	return start, end, m.damage.note(err)
}

// NextData is NextRun without the clusters that are marked zero, and those that
// are holes in the file: an image can have all its clusters in one hole.
func (m *Image) NextData(off int64) (start, end int64, err error) {
	start, end, err = m.next(off, false)
	return start, end, m.damage.note(err)
}

// next returns the next run, with or without clusters that are marked zero.
func (m *Image) next(off int64, zeros bool) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("qcow2: run after negative offset %d", off)
	}
	start, end, err = m.nextKnown(off, zeros)
	for err == nil {
		var s, e int64
		s, e, err = m.nextKnown(end, zeros)
		if err == nil && s > end || errors.Is(err, io.EOF) {
			return start, end, nil
		}
		end = e
	}
	return 0, 0, err
}

// nextKnown returns a run like next, but one that may go on behind its end.
func (m *Image) nextKnown(off int64, zeros bool) (start, end int64, err error) {
	for off < m.Size() {
		start, end, err := m.nextBacking(off)
		if err != nil {
			return 0, 0, err
		}
		if start <= off && zeros {
			return off, min(end, m.Size()), nil
		}
		// Without zeros, clusters that this image marks as zero still hide the
		// backing file.
		limit := start
		if start <= off {
			limit = min(end, m.Size())
		}
		p, err := m.find(off, limit-off)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case zeros && (p.kind != mapHole || start <= off):
			return off, off + p.n, nil
		case p.kind == mapData:
			if from, to := m.dataIn(p.host, p.n); from < to {
				return off + from - p.host, off + to - p.host, nil
			}
		case p.kind == mapPacked, p.kind == mapHole && start <= off:
			return off, off + p.n, nil
		}
		off += p.n
	}
	return 0, 0, io.EOF
}

// dataIn returns the bounds of the first part of the n bytes of the file from
// host on that is not in a hole; they are equal if there is none. Bytes that a
// read would refuse do not count as a hole.
func (m *Image) dataIn(host, n int64) (start, end int64) {
	if host > m.fileSize || n > m.fileSize-host {
		return host, host + n
	}
	if _, ok := m.tables.hit(host, n); ok {
		return host, host + n
	}
	return m.runs.data(host, n)
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
