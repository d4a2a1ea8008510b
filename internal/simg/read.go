package simg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"e2qcow/image"
)

var (
	_ image.Image      = (*Image)(nil)
	_ image.DataFinder = (*Image)(nil)
	_ image.UseReader  = (*Image)(nil)
	_ image.Adviser    = (*Image)(nil)
)

// Size returns the size of the disk in bytes.
func (m *Image) Size() int64 { return m.size }

// BlockSize returns the unit of the chunks in bytes.
func (m *Image) BlockSize() int64 { return m.blockSize }

// Chunks returns how many chunks the image has.
func (m *Image) Chunks() uint32 { return m.chunks }

// HasChecksum reports whether the image has a checksum, which Verify compares.
func (m *Image) HasChecksum() bool { return len(m.sums) > 0 }

// Behind returns how many bytes of the file are behind the last chunk.
func (m *Image) Behind() int64 { return m.fileSize - m.end }

// Advice returns how to read the file.
func (m *Image) Advice() image.Advice { return image.AdviceOf(m.r) }

// find returns the index of the run in which a byte of the disk lies.
func (m *Image) find(off int64) int {
	return sort.Search(len(m.runs), func(i int) bool { return m.runs[i].start > off }) - 1
}

// startOf returns where a run begins, or the size of the disk behind the last.
func (m *Image) startOf(i int) int64 {
	if i == len(m.runs) {
		return m.size
	}
	return m.runs[i].start
}

// NextRun returns the next run that is known, as image.Image says.
func (m *Image) NextRun(off int64) (start, end int64, err error) {
	return m.next(off, kind.known, func(r run) uint32 { return r.nextKnown })
}

// NextData returns the next run that is not filled with zeros, as
// image.DataFinder says.
func (m *Image) NextData(off int64) (start, end int64, err error) {
	return m.next(off, kind.data, func(r run) uint32 { return r.nextData })
}

// next returns the next runs that are wanted, as one. skip returns the next
// that is not if this one is, and the other way round.
func (m *Image) next(off int64, wanted func(kind) bool, skip func(run) uint32) (start, end int64, err error) {
	if off < 0 || off >= m.size {
		return 0, 0, io.EOF
	}
	i := m.find(off)
	if !wanted(m.runs[i].kind) {
		if i = int(skip(m.runs[i])); i == len(m.runs) {
			return 0, 0, io.EOF
		}
	}
	return max(off, m.runs[i].start), m.startOf(int(skip(m.runs[i]))), nil
}

// ReadAt reads the disk as io.ReaderAt does.
func (m *Image) ReadAt(p []byte, off int64) (int, error) { return m.ReadFor(p, off, image.Again) }

// ReadFor reads as ReadAt does, and passes the use on to the file.
func (m *Image) ReadFor(p []byte, off int64, use image.Use) (n int, err error) {
	if off < 0 || off >= m.size {
		return 0, io.EOF
	}
	if rest := m.size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	for i := m.find(off); n < len(p); i++ {
		r, at := m.runs[i], off+int64(n)
		b := p[n:][:min(m.startOf(i+1)-at, int64(len(p)-n))]
		switch r.kind {
		case stored:
			k, err := image.ReadFor(m.r, b, r.at+at-r.start, use)
			if k < len(b) {
				return n + k, fmt.Errorf("byte %d of the sparse image: %w", r.at+at-r.start+int64(k), unexpectedEOF(err))
			}
		case filled:
			fill(b, r.fill, at)
		default:
			clear(b)
		}
		n += len(b)
	}
	return n, err
}

// fill fills b, which begins with byte at of the disk. Runs begin at multiples of
// four bytes.
func fill(b []byte, word uint32, at int64) {
	var w [fillSize]byte
	binary.LittleEndian.PutUint32(w[:], word)
	n := 0
	for ; n < len(b) && n < fillSize; n++ {
		b[n] = w[(at+int64(n))%fillSize]
	}
	for ; n > 0 && n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

func unexpectedEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
