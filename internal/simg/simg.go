// Package simg reads Android sparse images, which img2simg, fastboot and the
// builds of Android write: a disk in chunks, of which most say only what to fill
// a stretch of the disk with. The source is libsparse's sparse_format.h; all
// numbers are little-endian.
//
//	0          file_hdr_sz
//	├─ header ─┼─ chunk header ─┬─ data ─┼─ chunk header ─┬─ data ─┼── …
//	  28 bytes   12 bytes         raw:        chunk_sz blocks of the disk
//	  or more    or more          fill:       4 bytes, which fill chunk_sz blocks
//	                              don't care: nothing; chunk_sz blocks are not known
//	                              CRC32:      of the disk so far, what is not known as zero
//
// Open reads the headers of the chunks only. What a header says is checked
// against the file before it is believed, so that the index takes no more memory
// than the file has bytes, and maxRuns bounds it.
package simg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// HeadSize is how many bytes of a file Is looks at.
const HeadSize = 4

const magic = 0xed26ff3a

// Is reports whether a file that begins with head is a sparse image.
func Is(head []byte) bool {
	return len(head) >= HeadSize && binary.LittleEndian.Uint32(head) == magic
}

// What Open and Verify refuse, for errors.Is.
var (
	ErrNotSparse = errors.New("not an Android sparse image")
	ErrVersion   = errors.New("an Android sparse image of an unknown version")
	ErrTooMany   = errors.New("an Android sparse image in more pieces than are read")
	ErrFills     = errors.New("the chunks that fill the disk are suspiciously long")
)

// A CorruptError says where an image contradicts itself, or the file.
type CorruptError struct {
	What   string
	Offset int64 // in the file, bytes
	Err    error // the cause, if there is one
}

func (e *CorruptError) Error() string {
	text := fmt.Sprintf("corrupt Android sparse image: %s at byte %d", e.What, e.Offset)
	switch {
	case errors.Is(e.Err, io.ErrUnexpectedEOF):
		text += ": the file ends before"
	case e.Err != nil:
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *CorruptError) Unwrap() error { return e.Err }

// The kinds of chunks.
const (
	chunkRaw      = 0xcac1
	chunkFill     = 0xcac2
	chunkDontCare = 0xcac3
	chunkCRC      = 0xcac4
)

// The sizes of the structures in bytes. A file may say that its own are larger.
const (
	headerSize = 28
	chunkSize  = 12
	fillSize   = 4
	crcSize    = 4
)

// maxRuns bounds the memory for the index: 32 bytes a run, and 24 a checksum.
const maxRuns = 4 << 20

// An Image is the disk in a sparse image. Its methods are safe for concurrent
// use.
type Image struct {
	r         io.ReaderAt
	fileSize  int64
	end       int64 // of the last chunk in the file
	blockSize int64
	size      int64
	chunks    uint32
	runs      []run // they cover the disk, without a gap
	sums      []sum // by the end of what they cover
	filled    int64 // bytes of the disk that are filled with something but zeros
}

// A kind says what a run of the disk is.
type kind uint8

const (
	unknown kind = iota // don't care
	zeros               // filled with zeros
	filled              // filled with something else
	stored              // in the file
)

func (k kind) known() bool { return k != unknown }

func (k kind) data() bool { return k >= filled }

// A run is a stretch of the disk of one kind. It ends where the next begins.
type run struct {
	start     int64 // in the disk, bytes
	at        int64 // in the file, bytes, of a stored run
	fill      uint32
	nextKnown uint32 // the index of the next run that is known where this is not, or the other way round
	nextData  uint32 // the same of data
	kind      kind
}

// A sum is the CRC32 of the disk up to a place.
type sum struct {
	end int64 // in the disk, bytes
	at  int64 // of the checksum in the file, bytes
	crc uint32
}

// Open reads the index of the image in the first size bytes of r. The error is
// ErrNotSparse where the magic is missing, ErrVersion, ErrTooMany, or a
// *CorruptError; io.ErrUnexpectedEOF in it where the end is missing.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*Image, error) {
	m := &Image{r: r, fileSize: size}
	x := &indexer{Image: m, file: window{r: r, size: size}}
	if err := x.header(); err != nil {
		return nil, err
	}
	for i := range m.chunks {
		if i%(1<<12) == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := x.chunk(); err != nil {
			return nil, err
		}
	}
	m.end = x.pos
	if x.disk != m.size {
		return nil, corrupt(blocksAt, "the header has %d blocks, the chunks have %d", m.size/m.blockSize, x.disk/m.blockSize)
	}
	m.sums = append(m.sums, x.whole...)
	m.link()
	return m, nil
}

// An indexer reads the headers.
type indexer struct {
	*Image
	file       window
	chunkExtra int64 // bytes of the header of a chunk behind the known fields
	pos        int64 // in the file
	disk       int64 // in the disk
	whole      []sum // the checksum in the header, if there is one
}

// Where fields of the header are.
const (
	blocksAt = 16
	sumAt    = 24
)

// header decodes the header of the file.
func (x *indexer) header() error {
	h, err := x.file.read(0, headerSize)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case !Is(h):
		return ErrNotSparse
	case err != nil:
		return &CorruptError{What: "header", Err: io.ErrUnexpectedEOF}
	}
	le := binary.LittleEndian
	major, fileHeader, chunkHeader := le.Uint16(h[4:]), int64(le.Uint16(h[8:])), int64(le.Uint16(h[10:]))
	blockSize, blocks := uint64(le.Uint32(h[12:])), uint64(le.Uint32(h[blocksAt:]))
	switch {
	case major != 1:
		return fmt.Errorf("%w: %d.%d", ErrVersion, major, le.Uint16(h[6:]))
	case fileHeader < headerSize:
		return corrupt(8, "a header of %d bytes", fileHeader)
	case chunkHeader < chunkSize:
		return corrupt(10, "headers of chunks of %d bytes", chunkHeader)
	case blockSize == 0 || blockSize%4 != 0:
		return corrupt(12, "blocks of %d bytes", blockSize)
	case blocks == 0 || blocks > math.MaxInt64/blockSize:
		return corrupt(blocksAt, "a disk of %d blocks of %d bytes", blocks, blockSize)
	}
	x.blockSize, x.size, x.chunks = int64(blockSize), int64(blocks*blockSize), le.Uint32(h[20:])
	if crc := le.Uint32(h[sumAt:]); crc != 0 {
		x.whole = []sum{{end: x.size, at: sumAt, crc: crc}}
	}
	x.chunkExtra, x.pos = chunkHeader-chunkSize, fileHeader
	return nil
}

// chunk decodes the header of the next chunk, and adds the chunk to the index.
func (x *indexer) chunk() error {
	at := x.pos
	h, err := x.file.read(at, chunkSize)
	if errors.Is(err, io.EOF) {
		return &CorruptError{What: "header of a chunk", Offset: at, Err: io.ErrUnexpectedEOF}
	}
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	typ, blocks, total := le.Uint16(h), int64(le.Uint32(h[4:])), int64(le.Uint32(h[8:]))
	x.pos += chunkSize + x.chunkExtra
	var want int64 // bytes of data
	switch typ {
	case chunkRaw:
		want = math.MaxInt64
		if blocks <= (x.fileSize-at)/x.blockSize {
			want = blocks * x.blockSize
		}
	case chunkFill:
		want = fillSize
	case chunkCRC:
		want = crcSize
	case chunkDontCare:
	default:
		return corrupt(at, "a chunk of the unknown kind %#04x", typ)
	}
	if typ != chunkCRC && blocks > (x.size-x.disk)/x.blockSize {
		return corrupt(at, "a chunk of %d blocks, with which the disk would be longer than the header says", blocks)
	}
	if want > x.fileSize-x.pos {
		return &CorruptError{What: "data of a chunk", Offset: at, Err: io.ErrUnexpectedEOF}
	}
	if total != chunkSize+x.chunkExtra+want {
		return corrupt(at, "a chunk that is %d bytes long, where its kind and its %d blocks make it %d", total, blocks, chunkSize+x.chunkExtra+want)
	}
	var word uint32
	if typ == chunkFill || typ == chunkCRC {
		b, err := x.file.read(x.pos, 4)
		if err != nil {
			return err
		}
		word = le.Uint32(b)
	}
	if typ == chunkCRC {
		err = x.addSum(sum{end: x.disk, at: x.pos, crc: word})
	} else if blocks > 0 {
		err = x.add(typ, blocks*x.blockSize, word)
	}
	x.pos += want
	return err
}

// add adds n bytes of the disk to the index. What continues the run before makes
// no new one.
func (x *indexer) add(typ uint16, n int64, fill uint32) error {
	r := run{start: x.disk, fill: fill}
	switch {
	case typ == chunkRaw:
		r.kind, r.at = stored, x.pos
	case typ == chunkFill && fill == 0:
		r.kind = zeros
	case typ == chunkFill:
		r.kind = filled
		x.filled += n
	}
	x.disk += n
	if k := len(x.runs); k > 0 && x.runs[k-1].kind == r.kind && x.runs[k-1].fill == fill && r.kind != stored {
		return nil
	}
	if len(x.runs) == maxRuns {
		return ErrTooMany
	}
	x.runs = append(x.runs, r)
	return nil
}

// addSum adds a checksum, which one at the same place may not contradict.
func (x *indexer) addSum(s sum) error {
	if k := len(x.sums); k > 0 && x.sums[k-1].end == s.end {
		if x.sums[k-1].crc != s.crc {
			return corrupt(s.at, "another checksum of the same bytes than the one before")
		}
		return nil
	}
	if len(x.sums) == maxRuns {
		return ErrTooMany
	}
	x.sums = append(x.sums, s)
	return nil
}

// link enters in each run where the next of another kind is.
func (m *Image) link() {
	for i := len(m.runs) - 1; i >= 0; i-- {
		r, next := &m.runs[i], uint32(i+1)
		r.nextKnown, r.nextData = next, next
		if i+1 == len(m.runs) {
			continue
		}
		n := m.runs[i+1]
		if n.kind.known() == r.kind.known() {
			r.nextKnown = n.nextKnown
		}
		if n.kind.data() == r.kind.data() {
			r.nextData = n.nextData
		}
	}
}

func corrupt(at int64, format string, args ...any) error {
	return &CorruptError{What: fmt.Sprintf(format, args...), Offset: at}
}

// A window is a piece of the file: many chunks can stand in it.
type window struct {
	r    io.ReaderAt
	size int64
	at   int64
	b    []byte
}

const windowSize = 4 << 10

// read returns the n bytes of the file at off; fewer with io.EOF at its end.
func (w *window) read(off, n int64) ([]byte, error) {
	if off < w.at || off+n > w.at+int64(len(w.b)) {
		b := w.b[:cap(w.b)]
		if b == nil {
			b = make([]byte, windowSize)
		}
		b = b[:max(min(windowSize, w.size-off), 0)]
		k, err := w.r.ReadAt(b, off)
		w.at, w.b = off, b[:k]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if have := w.b[off-w.at:]; int64(len(have)) < n {
		return have, io.EOF
	}
	return w.b[off-w.at:][:n], nil
}
