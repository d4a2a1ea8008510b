package qcow2

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// pattern is a large disk whose known bytes come from one buffer: runs of a
// few blocks with gaps, as metadata has, a fifth of them zero.
type pattern struct {
	size, stride, run int64
	data              []byte
}

func newPattern(known int64) *pattern {
	p := &pattern{stride: 4 << 20, run: 2 << 20, data: make([]byte, 8<<20)}
	p.size = known / p.run * p.stride
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(p.data); i += 4096 {
		fill(rnd, p.data[i:][:4096])
	}
	return p
}

func (p *pattern) Size() int64 { return p.size }

func (p *pattern) NextRun(off int64) (int64, int64, error) {
	start := off - off%p.stride
	if off-start >= p.run {
		start += p.stride
	}
	if start >= p.size {
		return 0, 0, io.EOF
	}
	return max(start, off), start + p.run, nil
}

// ReadAt is called within a run.
func (p *pattern) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		n += copy(b[n:], p.data[(off+int64(n))%int64(len(p.data)):])
	}
	return len(b), nil
}

func benchmarkWrite(b *testing.B, opt WriteOptions) {
	p := newPattern(256 << 20)
	f, err := os.Create(filepath.Join(b.TempDir(), "image"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(256 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		if _, err := WriteFile(context.Background(), f, p, opt); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWritePlain(b *testing.B) { benchmarkWrite(b, WriteOptions{ClusterSize: 4096}) }

func BenchmarkWriteTables(b *testing.B) {
	// 60 TiB with a block here and there: tables are all there is.
	d := &disk{size: 60 << 40}
	for off := int64(0); off < d.size; off += 2 << 30 {
		d.runs = append(d.runs, diskRun{off, bytes.Repeat([]byte{1}, 4096)})
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "image"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		if _, err := WriteFile(context.Background(), f, d, WriteOptions{BlockSize: 4096}); err != nil {
			b.Fatal(err)
		}
	}
}
