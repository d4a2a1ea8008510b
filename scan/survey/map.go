package survey

import (
	"math/bits"

	"e2qcow/ext"
)

// maxCells is how many cells a map has at most.
const maxCells = 2048

func ones(w uint64) uint64 { return uint64(bits.OnesCount64(w)) }

// newMap returns a map of cells that are a group each, several groups, or a
// part of one.
func newMap(geo *ext.Geometry) *Map {
	m := &Map{First: uint64(geo.FirstDataBlock), Size: uint64(geo.BlocksPerGroup)}
	blocks := geo.BlocksCount - min(m.First, geo.BlocksCount)
	ratio := uint64(geo.ClusterSize / geo.BlockSize)
	for m.Size%2 == 0 && m.Size/2%ratio == 0 && (blocks+m.Size/2-1)/(m.Size/2) <= maxCells {
		m.Size /= 2
	}
	if cells := (blocks + m.Size - 1) / m.Size; cells > maxCells {
		m.Size *= (cells + maxCells - 1) / maxCells
	}
	m.Cells = make([]Cell, (blocks+m.Size-1)/m.Size)
	for c := range Classes {
		m.Classes[c] = c
	}
	m.Marks = []Mark{}
	return m
}

// split calls f with the parts of the blocks [from, to) that lie in a cell each.
func (m *Map) split(from, to uint64, f func(cell int, from, to uint64)) {
	for from < to {
		cell := (from - m.First) / m.Size
		end := min(to, m.First+(cell+1)*m.Size)
		f(int(cell), from, end)
		from = end
	}
}

func (m *Map) add(cell int, c Class, n uint64) { m.Cells[cell][c] += n }

// addRange counts the blocks [from, to) as those of a class.
func (m *Map) addRange(from, to uint64, c Class) {
	m.split(from, to, func(cell int, from, to uint64) { m.add(cell, c, to-from) })
}

// total fills in the totals. Of a cluster in which the filesystem ends after
// some blocks only these are counted.
func (m *Map) total(blocks uint64) {
	if n := len(m.Cells); n > 0 {
		last := &m.Cells[n-1]
		over := uint64(0)
		for _, count := range last {
			over += count
		}
		over -= min(over, blocks-m.First-uint64(n-1)*m.Size)
		for c := Classes; c > 0 && over > 0; c-- {
			cut := min(over, last[c-1])
			last[c-1], over = last[c-1]-cut, over-cut
		}
	}
	for _, cell := range m.Cells {
		for c, n := range cell {
			m.Totals[c] += n
		}
	}
}

// cell returns the cell of a block; false if it lies in none.
func (m *Map) cell(block uint64) (int, bool) {
	if block < m.First {
		block = m.First // the boot block
	}
	i := (block - m.First) / m.Size
	return int(i), i < uint64(len(m.Cells))
}

// A head has the class of each block of the first group.
type head []Class

const unpainted = Classes

func newHead(geo *ext.Geometry) head {
	h := make(head, min(uint64(geo.FirstDataBlock)+uint64(geo.BlocksPerGroup), geo.BlocksCount))
	for i := range h {
		h[i] = unpainted
	}
	if geo.FirstDataBlock > 0 && len(h) > 0 {
		h[0] = Free // the boot block
	}
	return h
}

func (h head) paint(from, to uint64, c Class) {
	for i := from; i < min(to, uint64(len(h))); i++ {
		if h[i] == unpainted {
			h[i] = c
		}
	}
}

func (h head) rest(from, to uint64, class func(block uint64) Class) {
	for i := from; i < min(to, uint64(len(h))); i++ {
		if h[i] == unpainted {
			h[i] = class(i)
		}
	}
}

const (
	maxColumns = 512
	maxStrips  = 48
)

// strip returns the head as a picture shows it. In a column with structures the
// first class of these counts, else the class that most of its blocks have.
func (h head) strip() *Head {
	n := uint64(len(h))
	out := &Head{Size: max((n+maxColumns-1)/maxColumns, 1), Columns: []Class{}, Runs: []Strip{}}
	for at := uint64(0); at < n; at += out.Size {
		var count [Classes + 1]int
		for _, c := range h[at:min(at+out.Size, n)] {
			count[c]++
		}
		best := Contents
		for c := Contents; c < Classes; c++ {
			if count[c] > count[best] {
				best = c
			}
		}
		for c := range Contents {
			if count[c] > 0 {
				best = c
				break
			}
		}
		out.Columns = append(out.Columns, best)
	}
	for at := uint64(0); at < n && len(out.Runs) < maxStrips; {
		end := at + 1
		for end < n && h[end] == h[at] {
			end++
		}
		out.Runs = append(out.Runs, Strip{at, end - at, min(h[at], Unknown)})
		at = end
	}
	return out
}
