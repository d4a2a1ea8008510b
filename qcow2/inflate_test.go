package qcow2

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// inflateSlowly decodes as inflate does, with the standard library.
func inflateSlowly(out, in []byte) error {
	_, err := io.ReadFull(flate.NewReader(bytes.NewReader(in)), out)
	return err
}

// deflated returns b compressed at a level, or by fixed codes, or stored.
func deflated(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestInflate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	f := new(inflater)
	for _, size := range []int{1, 2, 15, 16, 17, 300, 4096, 65536, 300_000} {
		for range 10 {
			b := make([]byte, size)
			for i := 0; i < size; {
				n := min(size-i, 1+rnd.IntN(3000))
				fill(rnd, b[i:i+n])
				i += n
			}
			for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
				in := deflated(t, b, level)
				out := make([]byte, size)
				if err := f.inflate(out, append(in, 1, 2, 3)); err != nil {
					t.Fatalf("%d bytes at level %d: %v", size, level, err)
				}
				if !bytes.Equal(out, b) {
					t.Fatalf("%d bytes at level %d differ", size, level)
				}
				if err := f.inflate(make([]byte, size+1), in); err == nil {
					t.Fatalf("%d bytes at level %d: more were decoded", size, level)
				}
				if err := f.inflate(out, in[:len(in)*2/3]); err == nil && !bytes.Equal(out, b) {
					t.Fatalf("%d bytes at level %d: cut short without an error", size, level)
				}
			}
		}
	}
}

// FuzzInflate compares with the standard library.
func FuzzInflate(f *testing.F) {
	text := bytes.Repeat([]byte("deflate this, deflate that. "), 100)
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level += 2 {
		f.Add(deflated(f, text[:2000], level), 2000)
		f.Add(deflated(f, text[:100], level), 100)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		got, want := make([]byte, size), make([]byte, size)
		err := new(inflater).inflate(got, in)
		wantErr := inflateSlowly(want, in)
		if wantErr == nil && err != nil && !errors.Is(err, errDeflateEnd) {
			t.Fatalf("error %v, want none", err)
		}
		if err == nil && wantErr != nil {
			// The standard library reads ahead for the end of the block.
			wantErr = inflateSlowly(want, append(in[:len(in):len(in)], make([]byte, 16)...))
		}
		if err == nil && (wantErr != nil || !bytes.Equal(got, want)) {
			t.Fatalf("no error or other bytes, want %v", wantErr)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	p := newPattern(8 << 20)
	z, err := newCompressor(Zlib, 0, 64<<10)
	if err != nil {
		b.Fatal(err)
	}
	var packed [][]byte
	for i := 0; i < len(p.data); i += 64 << 10 {
		if out, ok := z.compress(make([]byte, 0, 64<<10), p.data[i:][:64<<10]); ok {
			packed = append(packed, out)
		}
	}
	out := make([]byte, 64<<10)
	for name, decode := range map[string]func(out, in []byte) error{"own": new(inflater).inflate, "std": inflateSlowly} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(packed) * len(out)))
			b.ReportAllocs()
			for b.Loop() {
				for _, in := range packed {
					if err := decode(out, in); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
