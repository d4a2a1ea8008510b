package qcow2

import (
	"context"
	"fmt"
	"io"
	"math/bits"

	"e2qcow/internal/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/zero"
)

// WriteOptions say what kind of image is written. The zero value writes
// version 2 without compression.
type WriteOptions struct {
	// ClusterSize is the size of a cluster in bytes, a power of two of 512 to
	// 2 MiB. 0 is BlockSize, or the next larger with which qemu opens an image
	// of the size.
	ClusterSize int

	// BlockSize is the size of the pieces that the source's runs are made of,
	// if ClusterSize is 0. 0 is 64 KiB.
	BlockSize int

	// Version is 2 or 3; 0 is 2. In version 3, known clusters that are zero
	// are marked so; in version 2 they are left out like unknown ones.
	Version int

	// Threads is how many threads there are to compute on. 0 is GOMAXPROCS.
	Threads int

	// Dense has WriteFile write zeros too, for a target that may hold other
	// bytes: a device. Without it, the target must be empty.
	Dense bool

	// Info is called once, after the last byte of the source has been read,
	// for the record of how the image was made. If it is nil, there is none.
	Info func() Info

	// Spool is where WriteStream keeps data till the tables are written.
	Spool SpoolOptions

	// Progress is called now and then, from one goroutine at a time, with how
	// many of the source's known bytes have been read, in whole clusters.
	Progress func(done, total int64)
}

// Stats are the measures of an image that was written.
type Stats struct {
	ClusterSize int64
	VirtualSize int64 // of the disk
	FileSize    int64 // of the image
	KnownBytes  int64 // of the source, in whole clusters
	DataBytes   int64 // of KnownBytes, what is not zero, in whole clusters
}

// A File is what WriteFile writes to.
type File interface {
	io.WriterAt
	// Truncate sets the length of the file to what the image needs, when all
	// is written but the header. A device may ignore it.
	Truncate(size int64) error
}

// WriteFile writes an image of src to f, in parallel. The header is written
// last: what is left by an error is not an image. It does not sync.
func WriteFile(ctx context.Context, f File, src image.Image, opt WriteOptions) (Stats, error) {
	w, err := newWriter(ctx, src, opt)
	if err != nil {
		return Stats{}, err
	}
	header := make([]byte, w.layout.clusterSize())
	if opt.Dense {
		// The header of an older image must not outlive its tables.
		if err := writeAt(f, header, 0); err != nil {
			return Stats{}, err
		}
	}
	put := func(b []byte, off int64) error { return writeAt(f, b, off) }
	if err := w.writeData(ctx, put); err != nil {
		return Stats{}, err
	}
	header, err = w.header()
	if err != nil {
		return Stats{}, err
	}
	if err := w.writeTables(ctx, put, opt.Dense); err != nil {
		return Stats{}, err
	}
	if err := f.Truncate(w.fileSize()); err != nil {
		return Stats{}, err
	}
	if err := writeAt(f, header, 0); err != nil {
		return Stats{}, err
	}
	return w.stats(), nil
}

// writeAt writes b and returns an error also for a short write without one.
func writeAt(w io.WriterAt, b []byte, off int64) error {
	n, err := w.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// A writer is the state of one image being written.
type writer struct {
	opt    WriteOptions
	src    image.Image
	layout *layout

	// What follows changes in the ordered stage only.
	mapping mapping
	end     int64    // of the data so far, in the file
	shared  []uint16 // refcounts of the clusters of data, if they are not all 1
	read    int64    // known bytes of the source so far
	data    int64    // of these, not zero
}

func newWriter(ctx context.Context, src image.Image, opt WriteOptions) (*writer, error) {
	switch opt.Version {
	case 0:
		opt.Version = 2
	case 2, 3:
	default:
		return nil, fmt.Errorf("qcow2 version %d cannot be written", opt.Version)
	}
	if size := src.Size(); size < 0 || size%512 != 0 {
		return nil, fmt.Errorf("disk size %d is not a multiple of 512", size)
	}
	size, grow := opt.ClusterSize, false
	if size == 0 {
		size, grow = max(opt.BlockSize, 1<<minClusterBits), true
		if opt.BlockSize == 0 {
			size = 64 << 10
		}
	}
	clusterBits := uint(bits.TrailingZeros(uint(size)))
	if size != 1<<clusterBits || clusterBits < minClusterBits || clusterBits > maxClusterBits {
		return nil, fmt.Errorf("cluster size %d is not a power of two from 512 bytes to 2 MiB", size)
	}
	l, err := newLayout(ctx, src, clusterBits, grow)
	if err != nil {
		return nil, err
	}
	return &writer{opt: opt, src: src, layout: l, end: l.dataOffset}, nil
}

// writeData puts the data through put, which is called in parallel, and learns
// the mapping.
func (w *writer) writeData(ctx context.Context, put func(b []byte, off int64) error) error {
	w.progress()
	return ordered.Run(ctx, w.src, ordered.Options{Granule: int(w.layout.clusterSize()), Threads: w.opt.Threads},
		func() ordered.Worker { return &dataWorker{writer: w, put: put} })
}

func (w *writer) progress() {
	if w.opt.Progress != nil {
		w.opt.Progress(w.read, w.layout.knownBytes)
	}
}

// fileSize returns the length of the file: whole clusters.
func (w *writer) fileSize() int64 {
	size := w.layout.clusterSize()
	return (w.end + size - 1) &^ (size - 1)
}

// writeTables puts all tables, in ascending order.
func (w *writer) writeTables(ctx context.Context, put func(b []byte, off int64) error, dense bool) error {
	l := w.layout
	t := newTableWriter(put, l.l1Offset, dense)
	if err := writeTables(ctx, t, l, &w.mapping, w.shared, uint64(w.fileSize())>>l.clusterBits); err != nil {
		return err
	}
	return t.finish(l.dataOffset)
}

// header returns the first cluster. The source has been read.
func (w *writer) header() ([]byte, error) {
	l := w.layout
	h := &Header{
		Version:             w.opt.Version,
		ClusterBits:         l.clusterBits,
		Size:                l.size,
		L1Entries:           uint32(l.l1Entries),
		L1Offset:            uint64(l.l1Offset),
		RefcountTableOffset: uint64(l.rtOffset),
		RefcountTableLength: uint32(l.rtClusters),
		RefcountBits:        refcountBytes * 8,
		Length:              headerSizeV2,
	}
	if h.Version == 3 {
		h.Length = headerSizeFull
	}
	var info []byte
	if w.opt.Info != nil {
		var err error
		if info, err = w.opt.Info().encode(); err != nil {
			return nil, err
		}
	}
	return h.encode(info), nil
}

func (w *writer) stats() Stats {
	return Stats{
		ClusterSize: w.layout.clusterSize(),
		VirtualSize: w.layout.size,
		FileSize:    w.fileSize(),
		KnownBytes:  w.layout.knownBytes,
		DataBytes:   w.data,
	}
}

// A segment is a run of clusters of one chunk that are alike.
type segment struct {
	kind  clusterKind
	guest uint64 // number of the first cluster
	n     uint32
	data  []byte // in the buffer of the chunk
	host  int64
}

// A dataWorker writes chunks of data.
type dataWorker struct {
	*writer
	put      func(b []byte, off int64) error
	segments []segment
}

// Prepare parts the chunk into segments.
func (d *dataWorker) Prepare(c *ordered.Chunk) error {
	d.segments = d.segments[:0]
	unit := int(d.layout.clusterSize())
	for _, s := range c.Spans {
		for pos := 0; pos < len(s.Data); {
			start, end := zero.NextData(s.Data, pos, unit)
			d.addZero(s, pos, start)
			d.addPlain(s, start, end)
			pos = end
		}
	}
	return nil
}

// addZero adds the bytes [start, end) of s, which are zero.
func (d *dataWorker) addZero(s ordered.Span, start, end int) {
	if start == end || d.opt.Version < 3 {
		return
	}
	bits := d.layout.clusterBits
	d.segments = append(d.segments, segment{
		kind:  zeroClusters,
		guest: uint64(s.Off+int64(start)) >> bits,
		n:     uint32((end - start) >> bits),
	})
}

// addPlain adds the bytes [start, end) of s, to be stored as they are.
func (d *dataWorker) addPlain(s ordered.Span, start, end int) {
	if start == end {
		return
	}
	bits := d.layout.clusterBits
	d.segments = append(d.segments, segment{
		kind:  plainClusters,
		guest: uint64(s.Off+int64(start)) >> bits,
		n:     uint32((end - start) >> bits),
		data:  s.Data[start:end],
	})
}

// Commit gives each segment its place in the file.
func (d *dataWorker) Commit(c *ordered.Chunk) error {
	w := d.writer
	bits := w.layout.clusterBits
	for i := range d.segments {
		s := &d.segments[i]
		switch s.kind {
		case zeroClusters:
			w.mapping.add(zeroClusters, s.guest, s.n, 0, bits)
		case plainClusters:
			s.host = w.end
			w.mapping.add(plainClusters, s.guest, s.n, uint64(s.host), bits)
			w.end += int64(len(s.data))
			w.data += int64(len(s.data))
		}
	}
	for _, s := range c.Spans {
		w.read += int64(len(s.Data))
	}
	w.progress()
	return nil
}

// A segment up to this size is moved beside the one before it, so that both
// are written with one call: a call costs more than the copy.
const smallSegment = 32 << 10

// Finish writes the segments, few large writes for many small segments.
func (d *dataWorker) Finish(*ordered.Chunk) error {
	var (
		run  []byte // data of consecutive segments, adjacent in the file
		host int64  // where run begins
	)
	for i := range d.segments {
		s := &d.segments[i]
		if len(s.data) == 0 {
			continue
		}
		if len(run) > 0 && s.host == host+int64(len(run)) && len(s.data) <= smallSegment {
			run = run[:len(run)+len(s.data)]
			copy(run[len(run)-len(s.data):], s.data)
			continue
		}
		if err := d.write(run, host); err != nil {
			return err
		}
		run, host = s.data, s.host
	}
	return d.write(run, host)
}

func (d *dataWorker) write(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	return d.put(b, off)
}
