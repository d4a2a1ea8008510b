package simg

import (
	"bytes"
	"testing"
)

// FuzzOpen reads any file, and compares the disk with what a naive reader makes
// of it.
func FuzzOpen(f *testing.F) {
	data := bytes.Repeat([]byte("abcd"), 16)
	f.Add(newBuilder(64).raw(data).fill(2, 7).skip(3).fill(1, 0).crc(5).bytes())
	b := newBuilder(4)
	b.headerSize, b.chunkHeaderSize = 32, 16
	f.Add(b.raw(data).skip(1).bytes())
	f.Add(newBuilder(1<<30).fill(1<<20, 0).crc(0).bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		m, err := Open(t.Context(), bytes.NewReader(file), int64(len(file)))
		var verified error
		if err == nil {
			verified = m.Verify(t.Context())
		}
		n, ok := expand(file)
		switch {
		case ok && (err != nil || verified != nil):
			t.Fatalf("%v, %v", err, verified)
		case err == nil && verified == nil && !ok && m.Size() <= mostNaive:
			t.Fatal("taken, but wrong")
		case ok:
			n.check(t, m)
		}
	})
}
