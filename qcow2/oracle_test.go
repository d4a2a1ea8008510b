package qcow2

import (
	"compress/flate"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/lima-vm/go-qcow2reader"
	other "github.com/lima-vm/go-qcow2reader/image/qcow2"
)

// A fullReader fills the buffer with each Read: the other reader calls it once
// a cluster and takes what it gets, and an end of file beside it as an error.
type fullReader struct{ io.ReadCloser }

func (f fullReader) Read(b []byte) (int, error) {
	n, err := io.ReadFull(f.ReadCloser, b)
	if n > 0 {
		err = nil
	}
	return n, err
}

// TestThirdOpinion has another reader in Go read ours, of both versions.
func TestThirdOpinion(t *testing.T) {
	other.SetDecompressor(other.CompressionTypeZlib, func(r io.Reader) (io.ReadCloser, error) {
		return fullReader{flate.NewReader(r)}, nil
	})
	other.SetDecompressor(other.CompressionTypeZstd, func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		return fullReader{d.IOReadCloser()}, err
	})
	for i, opt := range []WriteOptions{
		{ClusterSize: 4096}, {ClusterSize: 512}, {Version: 3}, {Compression: Zlib},
		{ClusterSize: 4096, Compression: Zlib}, {Compression: Zstd}, {ClusterSize: 4096, Version: 3, Compression: Zstd},
	} {
		d := randomDisk(uint64(i), 12<<20, 1024, 40)
		file, _ := writeTemp(t, d, opt)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		img, err := qcow2reader.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := img.Readable(); err != nil {
			t.Fatal(err)
		}
		if img.Size() != d.size {
			t.Errorf("size is %d, want %d", img.Size(), d.size)
		}
		sameBytes(t, img, d, d.size)
	}
}
