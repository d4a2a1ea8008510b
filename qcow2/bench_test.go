package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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

func benchmarkWrite(b *testing.B, p *pattern, opt WriteOptions) {
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

func BenchmarkWritePlain(b *testing.B) {
	benchmarkWrite(b, newPattern(256<<20), WriteOptions{ClusterSize: 4096})
}

// inodes fills the pattern with what packs as inode tables do: records of 256
// bytes, most of them zero, the numbers in them near those before.
func (p *pattern) inodes() *pattern {
	clear(p.data)
	rnd := rand.New(rand.NewPCG(3, 4))
	for at := 0; at < len(p.data); at += 256 {
		in := p.data[at:][:256]
		copy(in, "\xa4\x81\xe8\x03")
		for field := 8; field < 20; field += 4 {
			binary.LittleEndian.PutUint32(in[field:], 1_700_000_000+uint32(at>>8)+rnd.Uint32N(1000))
		}
		copy(in[40:], "\x0a\xf3\x01\x00\x04")
		binary.LittleEndian.PutUint32(in[60:], uint32(at)+rnd.Uint32N(1<<12))
		binary.LittleEndian.PutUint32(in[132:], rnd.Uint32())
	}
	return p
}

func BenchmarkWritePacked(b *testing.B) {
	for name, c := range map[string]Compression{"zlib": Zlib, "zstd": Zstd} {
		b.Run(name, func(b *testing.B) {
			benchmarkWrite(b, newPattern(256<<20).inodes(), WriteOptions{Version: 3, Compression: c, ClusterSize: 16384})
		})
	}
}

// BenchmarkRead reads all of an image, a megabyte at a time.
func BenchmarkRead(b *testing.B) {
	for name, c := range map[string]Compression{"plain": Uncompressed, "zlib": Zlib, "zstd": Zstd} {
		b.Run(name, func(b *testing.B) {
			p := newPattern(64 << 20).inodes()
			f, err := os.Create(filepath.Join(b.TempDir(), "image"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			if _, err := WriteFile(context.Background(), f, p, WriteOptions{Version: 3, Compression: c, ClusterSize: 16384}); err != nil {
				b.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				b.Fatal(err)
			}
			img, err := Open(context.Background(), f, info.Size(), OpenOptions{Unverified: true})
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 1<<20)
			b.SetBytes(64 << 20)
			b.ReportAllocs()
			for b.Loop() {
				for off := int64(0); off < p.size; off += int64(len(buf)) {
					if _, err := img.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

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
