package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// seedImages are small images of each kind that the writer makes, and some
// whose header says more than the writer would.
func seedImages(f *testing.F) [][]byte {
	f.Helper()
	var seeds [][]byte
	for _, opt := range []WriteOptions{
		{ClusterSize: 512}, {ClusterSize: 512, Version: 3}, {ClusterSize: 1024, Compression: Zlib},
		{ClusterSize: 512, Compression: Zstd}, {ClusterSize: 16 << 10, Version: 3},
	} {
		opt.Info = func() Info { return testInfo }
		var b bytes.Buffer
		d := &disk{size: 40 << 10, runs: []diskRun{
			{0, bytes.Repeat([]byte("abcdefgh"), 700)}, {20 << 10, make([]byte, 2000)}, {30 << 10, []byte{1}},
		}}
		if _, err := WriteStream(context.Background(), &b, d, opt); err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, b.Bytes())
	}
	extended := bytes.Clone(seeds[4])
	extended[79] |= incompatExtendedL2
	dirty := bytes.Clone(seeds[1])
	dirty[79] |= incompatDirty | incompatCorrupt
	snapshots := bytes.Clone(seeds[0])
	binary.BigEndian.PutUint32(snapshots[60:], 2)
	binary.BigEndian.PutUint64(snapshots[64:], 1024)
	return append(seeds, extended, dirty, snapshots)
}

// known reports whether err is of a kind that images may give.
func known(err error) bool {
	var damage *CorruptError
	var unsupported *UnsupportedError
	return errors.Is(err, ErrNotQcow2) || errors.As(err, &damage) || errors.As(err, &unsupported) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

func FuzzHeader(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b[:512])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		if h.Size < 0 || h.ClusterBits < minClusterBits || h.ClusterBits > maxClusterBits || h.L1Entries > maxL1Size/8 {
			t.Fatalf("header %+v", h)
		}
		if info, ok := h.Info(); ok && info.Format < 1 {
			t.Fatalf("info %+v", info)
		}
	})
}

// FuzzRead reads an image in two ways, which must agree.
func FuzzRead(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b)
	}
	const most = 256 << 10
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		size := min(m.Size(), most)
		whole := make([]byte, size)
		n, err := m.ReadAt(whole, 0)
		if err != nil && !known(err) {
			t.Fatal(err)
		}
		piece := make([]byte, 700)
		for off := 0; off < n; off += len(piece) {
			p := piece[:min(len(piece), n-off)]
			if k, err := m.ReadAt(p, int64(off)); k < len(p) {
				t.Fatalf("read at %d again: %v", off, err)
			}
			if !bytes.Equal(p, whole[off:][:len(p)]) {
				t.Fatalf("bytes at %d differ when read again", off)
			}
		}
		for off := int64(0); off < size; {
			start, end, err := m.NextRun(off)
			if err != nil {
				if err != io.EOF && !known(err) {
					t.Fatal(err)
				}
				break
			}
			if start < off || end <= start || end > m.Size() {
				t.Fatalf("run [%d, %d) after %d of %d", start, end, off, m.Size())
			}
			off = end
		}
	})
}

// FuzzStream reads an image from a pipe, which must agree with a file.
func FuzzStream(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenStream(context.Background(), iotest.OneByteReader(bytes.NewReader(b)), OpenOptions{Unverified: true})
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		got := make([]byte, min(s.Size(), 256<<10))
		_, err = s.ReadAt(got, 0)
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true})
		if err != nil {
			return
		}
		want := make([]byte, len(got))
		if _, err := m.ReadAt(want, 0); err != nil {
			t.Fatalf("a file is not read, but a stream is: %v", err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("the stream has other bytes than the file")
		}
	})
}

// FuzzCheck checks an image. What is clean can be read.
func FuzzCheck(f *testing.F) {
	for _, b := range seedImages(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := checkBytes(b)
		if err != nil {
			if !known(err) {
				t.Fatal(err)
			}
			return
		}
		if len(r.Findings) > MaxFindings {
			t.Fatalf("%d findings", len(r.Findings))
		}
		if r.Status() != 0 && r.Status() != 3 {
			return
		}
		m, err := Open(context.Background(), bytes.NewReader(b), int64(len(b)), OpenOptions{Unverified: true, Backing: noBacking})
		if err != nil {
			t.Fatalf("clean, but: %v", err)
		}
		if _, err := m.ReadAt(make([]byte, min(m.Size(), 256<<10)), 0); err != nil {
			t.Fatalf("clean, but: %v", err)
		}
	})
}

// FuzzUnpack decompresses anything.
func FuzzUnpack(f *testing.F) {
	src := bytes.Repeat([]byte("some text to be compressed "), 40)[:1024]
	for _, c := range []Compression{Zlib, Zstd} {
		z, err := newCompressor(c, 0, 1024)
		if err != nil {
			f.Fatal(err)
		}
		out, _ := z.compress(nil, src)
		f.Add(out)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []Compression{Zlib, Zstd} {
			h := &Header{Version: 3, ClusterBits: 10, Compression: c}
			entry, err := packedEntry(0, max(1, len(b)), 10)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]byte, 1024)
			if err := unpack(dst, bytes.NewReader(b), int64(len(b)), entry, h, 0); err != nil && !known(err) {
				t.Fatal(err)
			}
		}
	})
}
