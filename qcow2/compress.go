package qcow2

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// deflateWindow is the window that qemu writes, and some readers have.
const deflateWindow = 4 << 10

// A compressor compresses clusters. It is used by one goroutine.
type compressor interface {
	// compress appends the compressed form of src to dst, which has enough
	// capacity, and reports whether that form is shorter than src.
	compress(dst, src []byte) ([]byte, bool)
}

// newCompressor returns a compressor of clusters; nil for no compression.
func newCompressor(c Compression, level int, clusterSize int64) (compressor, error) {
	switch c {
	case Uncompressed:
		return nil, nil
	case Zlib:
		w, err := flate.NewWriterWindow(nil, deflateWindow)
		if err != nil {
			return nil, err
		}
		return &deflater{w: w}, nil
	case Zstd:
		opts := []zstd.EOption{
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(int(max(clusterSize, zstd.MinWindowSize))),
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		}
		w, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			return nil, err
		}
		return &zstdCompressor{w: w}, nil
	}
	return nil, fmt.Errorf("%v cannot be written", c)
}

// A deflater compresses to raw deflate.
type deflater struct {
	w   *flate.Writer
	out limitedBuffer
}

func (d *deflater) compress(dst, src []byte) ([]byte, bool) {
	d.out = limitedBuffer{b: dst, limit: len(dst) + len(src) - 1}
	d.w.Reset(&d.out)
	if _, err := d.w.Write(src); err != nil {
		return dst, false
	}
	if err := d.w.Close(); err != nil {
		return dst, false
	}
	return d.out.b, true
}

// A limitedBuffer takes bytes up to a length, then fails.
type limitedBuffer struct {
	b     []byte
	limit int
}

var errFull = errors.New("no room for compressed data")

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > l.limit {
		return 0, errFull
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// A zstdCompressor compresses to zstd frames.
type zstdCompressor struct {
	w       *zstd.Encoder
	scratch []byte
}

func (z *zstdCompressor) compress(dst, src []byte) ([]byte, bool) {
	z.scratch = z.w.EncodeAll(src, z.scratch[:0])
	if len(z.scratch) >= len(src) {
		return dst, false
	}
	return append(dst, z.scratch...), true
}
