package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"e2qcow/image"
)

// OpenOptions say how an image is opened.
type OpenOptions struct {
	// Backing opens the backing file, if the header names one. name and format
	// come from the header. The maker of the file can have written anything
	// there, so Backing decides which files may be opened. It returns the disk
	// in that file; for a qcow2 file, that is the result of Open. If Backing is
	// nil, Open returns an *UnsupportedError for a file that has a backing
	// file.
	Backing func(name, format string) (image.Image, error)

	// Unverified leaves out Image.Verify, which Open and OpenStream call
	// otherwise. Without Verify, one flipped bit in a table can have ReadAt return
	// wrong bytes, and no error.
	Unverified bool

	// Window is how many bytes of the disk OpenStream keeps behind the last byte
	// that was read, at least, for reads that are not quite in order. 0 is enough
	// for the writers of this module with as many threads as processors.
	Window int64

	// Spool says where OpenStream keeps an image whose tables do not stand before
	// its data, so that it has to be read to its end first.
	Spool SpoolOptions
}

// An Image is the virtual disk of a qcow2 file. Its runs are the clusters that
// are allocated or known to be zero, and the runs of a backing file. Its
// methods are safe for concurrent use.
type Image struct {
	header   *Header
	r        io.ReaderAt
	fileSize int64
	tableEnd int64 // where L2 tables end at the latest
	l1       []uint64
	gap      l1Gap
	l2       *tableCache
	unpacked *clusterCache
	tables   areas
	runs     fileRuns
	backing  image.Image
	damage   damage

	backingRun backingRun // the last one that was asked for
}

var _ image.Image = (*Image)(nil)

// Open opens the image in the first size bytes of r. The error is ErrNotQcow2
// if the magic is missing, an *UnsupportedError for an unsupported feature, or
// a *CorruptError for damage that Image.Verify finds. Only opt.Backing opens
// another file that the header names.
func Open(ctx context.Context, r io.ReaderAt, size int64, opt OpenOptions) (*Image, error) {
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
	if m.tables, err = m.readAreas(); err != nil {
		return nil, err
	}
	if h.BackingFile != "" {
		if m.backing, err = opt.Backing(h.BackingFile, h.BackingFormat); err != nil {
			return nil, fmt.Errorf("backing file %q: %w", h.BackingFile, err)
		}
	}
	if err := m.verify(ctx, opt); err != nil {
		return nil, err
	}
	return m, nil
}

// verify verifies the image unless the options leave that out.
func (m *Image) verify(ctx context.Context, opt OpenOptions) error {
	if opt.Unverified {
		return nil
	}
	return m.Verify(ctx)
}

func newImage(h *Header, r io.ReaderAt, size int64) *Image {
	return &Image{
		header:   h,
		r:        r,
		fileSize: size,
		tableEnd: size,
		l2:       newTableCache(r, h.ClusterSize()),
		unpacked: newClusterCache(h.ClusterSize()),
		runs:     fileRuns{holes: holesOf(r)},
	}
}

// readL1 reads as much of the L1 table as the size of the disk needs, which
// is bounded by the header's checks.
func (m *Image) readL1() error {
	h := m.header
	n := h.l1Needed()
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
	return nil
}

// Header returns the header of the file.
func (m *Image) Header() *Header { return m.header }

// Notes returns messages about parts of the image that are ignored, or that
// make its contents doubtful.
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

// ReadAt reads the virtual disk.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	n, err := m.readAt(b, off)
	return n, m.damage.note(err)
}

func (m *Image) readAt(b []byte, off int64) (int, error) {
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

// An overlapError says that data would be in a table.
type overlapError struct{ area area }

func (e *overlapError) Error() string {
	return fmt.Sprintf("it overlaps the %v at %#x", e.area.kind, e.area.Start)
}

// readData reads the clusters at host in the file.
func (m *Image) readData(b []byte, off, host int64) error {
	if host > m.fileSize || int64(len(b)) > m.fileSize-host {
		return &CorruptError{What: "data cluster", Offset: host, Guest: off,
			Err: fmt.Errorf("it lies beyond the end of the file, %#x", m.fileSize)}
	}
	if table, ok := m.tables.hit(host, int64(len(b))); ok {
		return &CorruptError{What: "data cluster", Offset: host, Guest: off, Err: &overlapError{table}}
	}
	if n, err := m.r.ReadAt(b, host); n < len(b) {
		return fmt.Errorf("read qcow2 data at %#x: %w", host+int64(n), unexpectedEOF(err))
	}
	return nil
}

// readBacking reads from the backing file. Bytes behind its end are zero.
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
