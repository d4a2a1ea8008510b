package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A sparseDisk knows some runs of a large disk; a part of them is zero.
type sparseDisk struct{ size int64 }

func (d sparseDisk) Size() int64 { return d.size }

func (d sparseDisk) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = 0
		if at := off + int64(i); at%(8<<20) < 4096 {
			p[i] = byte(at>>9) | 1
		}
	}
	return len(p), nil
}

func (d sparseDisk) NextRun(off int64) (start, end int64, err error) {
	const each, run = 8 << 20, 5 << 20
	at := off / each * each
	if off >= at+run {
		at, off = at+each, at+each
	}
	if at >= d.size {
		return 0, 0, io.EOF
	}
	return max(off, at), min(at+run, d.size), nil
}

// TestSalvageSound: of what WriteFile writes nothing is lost.
func TestSalvageSound(t *testing.T) {
	for _, opt := range []WriteOptions{
		{}, {ClusterSize: 512}, {ClusterSize: 1024, Version: 3}, {ClusterSize: 65536}, {Dense: true, ClusterSize: 4096},
		{Compression: Zlib, ClusterSize: 4096}, {Compression: Zstd}, {Compression: Zlib, ClusterSize: 1024},
	} {
		t.Run(fmt.Sprintf("%d %v v%d dense %v", opt.ClusterSize, opt.Compression, opt.Version, opt.Dense), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := WriteFile(t.Context(), f, sparseDisk{100 << 20}, opt); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			v, err := OpenSalvage(t.Context(), bytes.NewReader(b), int64(len(b)), SalvageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if l := v.Loss(); l.Bytes() > 0 || l.Astray > 0 {
				t.Errorf("%d bytes are lost, %d clusters astray", l.Bytes(), l.Astray)
			}
		})
	}
}
