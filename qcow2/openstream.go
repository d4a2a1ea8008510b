package qcow2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"

	"e2qcow/internal/ordered"
	"e2qcow/internal/spool"
	"e2qcow/internal/zero"
)

// A Stream is an image that comes through a pipe. Its runs must be read in
// ascending order, as WriteFile, WriteStream and raw.WriteFile do. Bytes that lie
// further back than OpenOptions.Window are gone: to read them is an error that
// wraps ErrStreamOrder.
type Stream struct {
	*Image
	in    *pipeReader
	spool *spool.Spool // instead of in
}

// ErrStreamOrder says that bytes of a stream were asked for that have gone by.
var ErrStreamOrder = errors.New("not in the order of the stream")

// OpenStream opens an image that is read from a pipe. If its tables stand
// before the data, as WriteStream writes them, they are held in memory as far
// as they are not zero, and as much of the data as opt.Window says. Any other
// image is first read to its end, and kept as opt.Spool says.
func OpenStream(ctx context.Context, r io.Reader, opt OpenOptions) (*Stream, error) {
	window := opt.Window
	if window == 0 {
		window = int64(runtime.GOMAXPROCS(0)) * 4 * ordered.DefaultChunkSize
	}
	in := &pipeReader{r: r, window: window + 2*maxPipeRead, pieces: make(map[int64]*[pieceSize]byte)}
	m, err := openPiped(in, opt)
	if errors.Is(err, errNotStreamed) {
		return openSpooled(ctx, in, opt)
	}
	if err == nil {
		err = m.verify(ctx, opt)
	}
	if err != nil {
		return nil, err
	}
	return &Stream{Image: m, in: in}, nil
}

// openPiped opens an image that begins with its tables.
func openPiped(in *pipeReader, opt OpenOptions) (*Image, error) {
	h, err := readHeader(in, endless)
	if err != nil {
		return nil, err
	}
	if err := h.unsupported(); err != nil {
		return nil, err
	}
	if h.BackingFile != "" && opt.Backing == nil {
		return nil, h.backingError()
	}
	if h.BackingFile != "" || h.L1Offset > maxStreamTables {
		return nil, errNotStreamed
	}
	m := newImage(h, in, endless)
	if err := m.readL1(); err != nil {
		return nil, err
	}
	dataOffset, err := m.tablesEnd()
	if err != nil {
		return nil, err
	}
	if err := in.keepTo(dataOffset); err != nil {
		return nil, fmt.Errorf("read qcow2 tables: %w", err)
	}
	if m.tables, err = m.readAreas(); err != nil {
		return nil, err
	}
	if n := len(m.tables); m.tables[n-1].End > dataOffset || h.Snapshots > 0 || h.bitmaps != nil {
		return nil, errNotStreamed // Verify has to see all tables before the data
	}
	if err := m.checkOrder(dataOffset, in.window); err != nil {
		return nil, err
	}
	return m, nil
}

// tablesKept returns the end of the bytes of the file that can be read at any
// time: of a stream, its tables.
func (m *Image) tablesKept() int64 {
	if in, ok := m.r.(*pipeReader); ok {
		return in.kept
	}
	return m.fileSize
}

// checkOrder returns errNotStreamed if data is not in the order of the disk, or
// so far apart in the file that what is read in parallel does not fit a window:
// half of it is for gaps.
func (m *Image) checkOrder(dataOffset, window int64) error {
	last := dataOffset
	spread, least := int64(0), int64(math.MaxInt64) // bytes of the file less those of the disk; the least so far
	for off := int64(0); off < m.Size(); {
		p, err := m.find(off, m.Size()-off)
		if err != nil {
			return err
		}
		host, n := p.host, p.n
		if p.kind == mapPacked {
			host, n = packedPlace(p.desc, m.header.ClusterBits)
		}
		if p.kind == mapData || p.kind == mapPacked {
			// Packed clusters may share a sector.
			if host+512 < last {
				return errNotStreamed
			}
			// No read waits for the bytes before the first cluster.
			if least != math.MaxInt64 {
				spread += host - last
			}
			if least = min(least, spread); spread-least > window/2 {
				return errNotStreamed
			}
			last = host + n
			spread += n - p.n
		}
		off += p.n
	}
	return nil
}

// endless stands for an unknown size of a file.
const endless = 1 << 62

// openSpooled opens an image of any layout: the bytes that in has kept, and the
// rest of the pipe.
func openSpooled(ctx context.Context, in *pipeReader, opt OpenOptions) (*Stream, error) {
	s := spool.New(spool.Options(opt.Spool))
	if err := in.moveTo(s); err != nil {
		s.Close()
		return nil, err
	}
	m, err := Open(ctx, s, s.Size(), opt)
	if err != nil {
		s.Close()
		return nil, err
	}
	return &Stream{Image: m, spool: s}, nil
}

// Close removes the temporary file, if there is one. It does not close the pipe.
func (s *Stream) Close() error {
	if s.spool != nil {
		s.spool.Close()
	}
	return nil
}

// Drain reads the rest of the pipe, so that the program which writes to the pipe
// does not fail.
func (s *Stream) Drain() error {
	if s.in == nil {
		return nil
	}
	return s.in.drain()
}

// maxStreamTables bounds the tables of a stream, zeros included; maxStreamKept
// bounds the part of them in memory.
const (
	maxStreamTables = 1 << 40
	maxStreamKept   = 96 << 20
)

var errNotStreamed = errors.New("the tables do not stand before the data, or are too large to be held")

// tablesEnd returns where the L2 tables end, which must be one behind the other
// as the writer puts them.
func (m *Image) tablesEnd() (int64, error) {
	h := m.header
	size := uint64(h.ClusterSize())
	end := h.L1Offset + (uint64(h.L1Entries)*8+size-1)&^(size-1)
	end = max(end, h.RefcountTableOffset+uint64(h.RefcountTableLength)*size)
	next := uint64(0)
	for _, entry := range m.l1 {
		off := entry & entryOffset
		if off == 0 {
			continue
		}
		if next != 0 && off != next || off < end || off > maxStreamTables {
			return 0, errNotStreamed
		}
		next = off + size
	}
	if max(end, next) > maxStreamTables {
		return 0, errNotStreamed
	}
	return int64(max(end, next)), nil
}

// maxPipeRead is how much is read from a pipe at once.
const maxPipeRead = 256 << 10

// A pipeReader reads a pipe as a file. It keeps the bytes before a certain
// offset, except zeros. Of later bytes it keeps the last ones in a ring.
type pipeReader struct {
	r      io.Reader
	window int64

	mu   sync.Mutex
	pos  int64 // how much was read
	err  error // why no more can be
	kept int64 // the bytes before are kept; pos while they are still coming
	open bool  // the window is in use
	size int64 // of kept pieces, together
	// pieces holds the kept bytes that are not zero by their offset.
	pieces map[int64]*[pieceSize]byte
	ring   []byte
	buf    []byte
}

const pieceSize = 512

// ReadAt reads bytes that were kept or are in the window, or waits until they
// arrive.
func (p *pipeReader) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(b) {
		k, err := p.readSome(b[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSome reads some bytes at off.
func (p *pipeReader) readSome(b []byte, off int64) (int, error) {
	// So much at a time that it is still in the window when it has come.
	b = b[:min(len(b), maxPipeRead)]
	for off+int64(len(b)) > p.pos {
		if err := p.fetch(); err != nil {
			if off < p.pos {
				b = b[:p.pos-off]
				break
			}
			return 0, err
		}
	}
	if off < p.kept {
		return p.readKept(b, off), nil
	}
	if off < p.pos-int64(len(p.ring)) {
		return 0, fmt.Errorf("offset %#x of a stream at %#x: %w", off, p.pos, ErrStreamOrder)
	}
	return copy(b, p.ring[off%int64(len(p.ring)):]), nil
}

// readKept reads bytes that were kept, up to the end of a piece.
func (p *pipeReader) readKept(b []byte, off int64) int {
	in := off % pieceSize
	b = b[:min(int64(len(b)), pieceSize-in, p.kept-off)]
	if piece := p.pieces[off-in]; piece != nil {
		return copy(b, piece[in:])
	}
	clear(b)
	return len(b)
}

// fetch reads the next bytes of the pipe, into the kept part or into the ring.
func (p *pipeReader) fetch() error {
	if p.err != nil {
		return p.err
	}
	if p.open {
		at := p.pos % int64(len(p.ring))
		n, err := p.r.Read(p.ring[at:min(at+maxPipeRead, int64(len(p.ring)))])
		p.pos += int64(n)
		p.err = err
		if n > 0 {
			return nil
		}
		return err
	}
	return p.fetchKept(pieceSize)
}

// fetchKept reads and keeps n bytes, a multiple of pieceSize.
func (p *pipeReader) fetchKept(n int64) error {
	if p.buf == nil {
		p.buf = make([]byte, maxPipeRead)
	}
	k, err := io.ReadFull(p.r, p.buf[:n])
	for i := 0; i < k; i += pieceSize {
		piece := p.buf[i:min(i+pieceSize, k)]
		if zero.IsZero(piece) {
			continue
		}
		p.size += pieceSize
		kept := new([pieceSize]byte)
		copy(kept[:], piece)
		p.pieces[p.pos+int64(i)] = kept
	}
	p.pos += int64(k)
	p.kept = p.pos
	if errors.Is(err, io.ErrUnexpectedEOF) && k > 0 {
		p.err = io.EOF
		return nil
	}
	if err == nil && p.size > maxStreamKept {
		err = errNotStreamed
	}
	p.err = err
	return err
}

// keepTo keeps all up to off, a multiple of 512, and opens the window.
func (p *pipeReader) keepTo(off int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.pos < off {
		if p.err != nil {
			return unexpectedEOF(p.err)
		}
		if err := p.fetchKept(min(off-p.pos, maxPipeRead)); err != nil {
			return unexpectedEOF(err)
		}
	}
	p.buf = nil
	p.ring = make([]byte, p.window)
	p.open = true
	return nil
}

// moveTo writes the kept bytes and the rest of the pipe to a spool.
func (p *pipeReader) moveTo(s *spool.Spool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for off, piece := range p.pieces {
		if _, err := s.WriteAt(piece[:min(pieceSize, p.kept-off)], off); err != nil {
			return err
		}
	}
	p.pieces = nil
	size := p.kept
	buf := make([]byte, maxPipeRead)
	for {
		n, err := p.r.Read(buf)
		if _, err := s.WriteAt(buf[:n], size); err != nil {
			return err
		}
		size += int64(n)
		if errors.Is(err, io.EOF) {
			s.Grow(size)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// drain reads to the end of the pipe.
func (p *pipeReader) drain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := p.fetch(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
