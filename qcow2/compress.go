package qcow2

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"e2qcow/internal/deflate"
)

// compressSlack is how many bytes behind its output a compressor may write.
const compressSlack = deflate.Slack

// MaxLevel is the highest level of Zstd that makes smaller images. The next step of
// the library, for levels from 10 on, takes several times as long for images that
// are longer.
const MaxLevel = 9

// A compressor compresses clusters. It is used by one goroutine.
type compressor interface {
	// compress appends the compressed form of src to dst, which has capacity for
	// src and compressSlack, and reports whether that form is shorter than src.
	compress(dst, src []byte) ([]byte, bool)
}

// newCompressor returns a compressor of clusters; nil for no compression.
func newCompressor(c Compression, level int, clusterSize int64) (compressor, error) {
	switch c {
	case Uncompressed:
		return nil, nil
	case Zlib:
		return new(deflater), nil
	case Zstd:
		opts := []zstd.EOption{
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(int(max(clusterSize, zstd.MinWindowSize))),
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(min(level, MaxLevel))),
		}
		w, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			return nil, err
		}
		return &zstdCompressor{w: w}, nil
	}
	return nil, fmt.Errorf("%v cannot be written", c)
}

// A deflater compresses to raw deflate, with the window that qemu writes.
type deflater struct {
	e deflate.Encoder
}

func (d *deflater) compress(dst, src []byte) ([]byte, bool) {
	return d.e.Append(dst, src, len(src)-1)
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
