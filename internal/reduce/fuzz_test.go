package reduce

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"e2qcow/image"
)

// sample returns the sample filesystem.
var sample = sync.OnceValues(func() ([]byte, error) {
	f, err := os.Open(filepath.Join("..", "..", "testdata", "sample.img.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
})

// A patched disk is a base with some bytes changed.
type patched struct {
	memory
	at map[int64]byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.memory.ReadAt(b, off)
	for at, v := range p.at {
		if at >= off && at < off+int64(n) {
			b[at-off] = v
		}
	}
	return n, err
}

// FuzzPasses runs all passes over a damaged filesystem, with a command that says
// the same of some of the candidates: nothing that is on the disk may stop a pass.
// The input is triples: two bytes for a place among the tables, and a value.
func FuzzPasses(f *testing.F) {
	base, err := sample()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint8(1))
	f.Add([]byte{4, 0x18, 9, 4, 0x20, 0xFF, 4, 0x28, 1}, uint8(2)) // superblock
	f.Add([]byte{8, 0, 0xFF, 8, 8, 0xFF, 8, 18, 7}, uint8(3))      // descriptors
	f.Add([]byte{0x20, 0x80, 0xFF, 0x21, 0x28, 5, 0x22, 0x2A, 9}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, every uint8) {
		p := patched{base, map[int64]byte{}}
		for ; len(b) >= 3 && len(p.at) < 200; b = b[3:] {
			p.at[(int64(b[0])<<8|int64(b[1]))*2] = b[2]
		}
		runPasses(t, p, int(every%5)+1)
	})
}

// runPasses runs the passes once, with a judge that accepts the first of every n
// candidates.
func runPasses(t *testing.T, img image.Image, every int) {
	t.Helper()
	n := 0
	r := &reducer{disk: newDisk(img), until: time.Now().Add(10 * time.Second)}
	r.want.Output = "Inode 12, block 300"
	r.judge = []judgeFunc{func(context.Context, *change) (Verdict, error) {
		v := r.want
		if n++; n%every != 0 {
			v.Exit = 1
		}
		if n > 300 {
			return v, errEnough
		}
		return v, nil
	}}
	for _, p := range passes {
		if err := p.run(t.Context(), r); err != nil {
			return // enough
		}
	}
}
