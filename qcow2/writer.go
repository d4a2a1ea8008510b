package qcow2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/share"
)

// WriteOptions say which kind of image to write. The zero value writes version
// 2 without compression.
type WriteOptions struct {
	// ClusterSize is the size of a cluster in bytes, a power of two of 512 to 2
	// MiB. 0 means BlockSize, or 64 KiB if that is 0; for compressed clusters,
	// the size of 4 to 512 KiB that should give the smallest image. If qemu
	// would not open an image of that cluster size, 0 means the next larger
	// one.
	ClusterSize int

	// BlockSize is the size of the pieces that the source's runs are made of.
	BlockSize int

	// Version is 2 or 3; 0 is 2, or 3 for Zstd.
	Version int

	// MarkZeros marks the known clusters that are zero, for a reader to whom an
	// unknown one means something else. It needs version 3. Without it they are
	// left out as unknown ones are: both read as zero.
	MarkZeros bool

	// BackingFile is the name of the image that unknown clusters are those of,
	// and BackingFormat its format, raw or qcow2. A name that is relative is
	// looked for in the folder of the image. Both "" for none.
	BackingFile, BackingFormat string

	// Compression is how clusters are compressed. One that does not shrink is
	// stored as it is.
	Compression Compression

	// Level is the level of Zstd in the numbers of the zstd program. There are
	// three steps: to 2, to 5, and to MaxLevel, which higher ones mean, too. 0
	// means 1, the fastest. Zlib has one level.
	Level int

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
	PackedBytes int64 // of DataBytes, what is compressed, before it was
}

// A File is a target of WriteFile.
type File interface {
	io.WriterAt
	// Truncate sets the length of the file when everything except the header is
	// written. A device may ignore it.
	Truncate(size int64) error
}

// WriteFile writes an image of src to f, in parallel. The header is written
// last, so that a file after an error is not an image. WriteFile does not sync.
func WriteFile(ctx context.Context, f File, src image.Image, opt WriteOptions) (Stats, error) {
	w, err := newWriter(ctx, src, opt)
	if err != nil {
		return Stats{}, err
	}
	w.fillPads = opt.Dense
	put := putTo(f, 0)
	header := make([]byte, w.layout.clusterSize())
	if opt.Dense {
		// The header of an older image must not outlive its tables.
		if err := put(header, 0); err != nil {
			return Stats{}, err
		}
	}
	w.target = f
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
	if opt.Dense {
		err = put(header, 0)
	} else {
		err = putPages(put, header, 0)
	}
	if err != nil {
		return Stats{}, err
	}
	return w.stats(), nil
}

// putTo returns a function that writes to w the bytes of the image from base
// on.
func putTo(w io.WriterAt, base int64) func(b []byte, off int64) error {
	return func(b []byte, off int64) error {
		_, err := w.WriteAt(b, off-base)
		return err
	}
}

// A writer is the state of one image being written.
type writer struct {
	opt    WriteOptions
	src    image.Image
	layout *layout
	// fillPads makes the writer write zeros between compressed and other clusters.
	fillPads bool

	// What follows changes in the ordered stage only.
	mapping mapping
	end     int64    // of the data so far, in the file
	shared  []uint16 // refcounts of the clusters of data, if they are not all 1
	target  File     // nil for a stream
	read    int64    // bytes of the source so far
	total   int64    // bytes of the source to be read; 0 if nobody wants to know
	data    int64    // of these, not zero
	packed  int64    // of these, compressed
}

func newWriter(ctx context.Context, src image.Image, opt WriteOptions) (*writer, error) {
	switch {
	case opt.Compression < Uncompressed || opt.Compression > Zstd:
		return nil, fmt.Errorf("%v cannot be written", opt.Compression)
	case opt.Version == 0 && opt.Compression == Zstd:
		opt.Version = 3
	case opt.Version == 0:
		opt.Version = 2
	case opt.Version == 2 && opt.Compression == Zstd:
		return nil, errors.New("zstd needs qcow2 version 3")
	case opt.Version == 2 && opt.MarkZeros:
		return nil, errors.New("marks of zero clusters need qcow2 version 3")
	case opt.Version != 2 && opt.Version != 3:
		return nil, fmt.Errorf("qcow2 version %d cannot be written", opt.Version)
	}
	if size := src.Size(); size < 0 || size%512 != 0 {
		return nil, fmt.Errorf("disk size %d is not a multiple of 512", size)
	}
	size, grow := opt.ClusterSize, false
	if size == 0 {
		size, grow = opt.BlockSize, true
		switch {
		case opt.Compression != Uncompressed:
			packed, err := packedClusterBits(ctx, src, opt.Compression)
			if err != nil {
				return nil, err
			}
			size = max(size, 1<<packed)
		case size == 0:
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
	// The layout follows the known runs, so that the bytes of the image do not
	// depend on holes of the source. Zeros in holes are not read.
	data := w.src
	if !w.opt.MarkZeros {
		data = image.Data(data)
	}
	if err := w.plan(ctx, data); err != nil {
		return err
	}
	var sharer *share.Sharer
	if w.target != nil && !w.opt.Dense {
		sharer = share.New(w.target, data)
	}
	opt := ordered.Options{Granule: int(w.layout.clusterSize()), Threads: w.opt.Threads}
	err := ordered.Run(ctx, data, opt, func() ordered.Worker { return &dataWorker{writer: w, put: put, sharer: sharer} })
	if err != nil {
		return err
	}
	w.read = w.total
	w.progress()
	if pad := w.fileSize() - w.end; pad > 0 && w.fillPads {
		return put(make([]byte, pad), w.end)
	}
	return nil
}

// plan finds out how many bytes there are to read, if anyone wants to know.
func (w *writer) plan(ctx context.Context, data image.Image) error {
	if w.opt.Progress == nil {
		return nil
	}
	for runs := ordered.NewRuns(data, int(w.layout.clusterSize())); ; {
		start, end, err := runs.Next()
		switch {
		case errors.Is(err, io.EOF):
			w.progress()
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		w.total += end - start
	}
}

func (w *writer) progress() {
	if w.opt.Progress != nil {
		w.opt.Progress(min(w.read, w.total), w.total)
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
		Compression:         Zlib,
		BackingFile:         w.opt.BackingFile,
		BackingFormat:       w.opt.BackingFormat,
	}
	if h.Version == 3 {
		h.Length = headerSizeFull
	}
	if w.opt.Compression == Zstd {
		h.Compression = Zstd
		h.IncompatibleFeatures = incompatCompression
	}
	var info []byte
	if w.opt.Info != nil {
		var err error
		if info, err = w.opt.Info().encode(); err != nil {
			return nil, err
		}
	}
	if len(h.BackingFile) > maxBackingName || h.BackingFile != "" && h.headRoom(info) > h.ClusterSize() {
		return nil, fmt.Errorf("the name of the backing file, of %d bytes, does not fit the first cluster", len(h.BackingFile))
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
		PackedBytes: w.packed,
	}
}
