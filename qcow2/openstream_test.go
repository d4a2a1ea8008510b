package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"e2qcow/image"
	"e2qcow/internal/ordered"
)

// A collector puts the runs of an image into a buffer, slowly for some.
type collector struct{ b []byte }

func (c collector) Prepare(*ordered.Chunk) error { return nil }
func (c collector) Commit(*ordered.Chunk) error  { return nil }

func (c collector) Finish(k *ordered.Chunk) error {
	for _, s := range k.Spans {
		copy(c.b[s.Off:], s.Data)
	}
	return nil
}

func collect(t *testing.T, m image.Image, threads int) []byte {
	t.Helper()
	b := make([]byte, m.Size())
	opt := ordered.Options{Granule: 512, Threads: threads}
	if err := ordered.Run(context.Background(), m, opt, func() ordered.Worker { return collector{b} }); err != nil {
		t.Fatal(err)
	}
	return b
}

func content(t *testing.T, r io.ReaderAt, n int64) []byte {
	t.Helper()
	b := make([]byte, n)
	if k, err := r.ReadAt(b, 0); int64(k) < n {
		t.Fatal(err)
	}
	return b
}

// TestOpenStream restores images of ours from a pipe, without a spool.
func TestOpenStream(t *testing.T) {
	for i, opt := range []WriteOptions{
		{ClusterSize: 512}, {ClusterSize: 4096}, {}, {ClusterSize: 2 << 20}, {Version: 3},
		{ClusterSize: 4096, Compression: Zlib}, {Compression: Zlib}, {Compression: Zstd},
	} {
		d := randomDisk(uint64(i), 16<<20, 4096, 15)
		var b bytes.Buffer
		if _, err := WriteStream(context.Background(), &b, d, opt); err != nil {
			t.Fatal(err)
		}
		whole := bytes.Clone(b.Bytes())
		for _, r := range []io.Reader{&b, iotest.HalfReader(bytes.NewReader(whole))} {
			s, err := OpenStream(context.Background(), r, OpenOptions{Unverified: true, Spool: SpoolOptions{Dir: "/nonexistent", Memory: -1}})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(collect(t, s, 2), content(t, d, d.size)) {
				t.Errorf("%+v: bytes differ", opt)
			}
			if err := s.Drain(); err != nil {
				t.Error(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("after Drain: %d, %v", n, err)
			}
		}
		// Cut short, it fails where the data ends.
		s, err := OpenStream(context.Background(), bytes.NewReader(whole[:len(whole)*9/10]), OpenOptions{Unverified: true})
		if err == nil {
			_, err = s.ReadAt(make([]byte, s.Size()), 0)
		}
		if err == nil {
			t.Errorf("%+v: a stream cut short was read", opt)
		}
	}
}

// TestOpenStreamOrder goes back further than the window.
func TestOpenStreamOrder(t *testing.T) {
	d := &disk{size: 64 << 20, runs: []diskRun{{0, bytes.Repeat([]byte{1}, 64<<20)}}}
	var b bytes.Buffer
	if _, err := WriteStream(context.Background(), &b, d, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStream(context.Background(), &b, OpenOptions{Unverified: true, Window: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for _, c := range []struct {
		off int64
		err error
	}{{10 << 20, nil}, {9 << 20, nil}, {10 << 20, nil}, {0, ErrStreamOrder}, {60 << 20, nil}, {10 << 20, ErrStreamOrder}} {
		if _, err := s.ReadAt(buf, c.off); !errors.Is(err, c.err) {
			t.Errorf("read at %d: %v, want %v", c.off, err, c.err)
		}
	}
}

// TestOpenStreamForeign reads images of another layout through a spool.
func TestOpenStreamForeign(t *testing.T) {
	d := randomDisk(11, 20<<20, 4096, 30)
	raw := writeRaw(t, d)
	for _, args := range [][]string{nil, {"-c"}, {"-o", "cluster_size=512"}} {
		file := filepath.Join(t.TempDir(), "qemu.qcow2")
		tool(t, 0, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), raw, file)...)
		// Data out of order, behind a single table.
		tool(t, 0, "qemu-io", "-f", "qcow2", "-c", "write -P 1 18m 1m", "-c", "write -P 2 0 64k", "-c", "write -P 3 8m 1m", file)
		want := convert(t, file)
		for _, memory := range []int64{0, -1, 1 << 20} {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, err := OpenStream(context.Background(), f, OpenOptions{Unverified: true, Spool: SpoolOptions{Memory: memory, Dir: t.TempDir()}})
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, s, want, d.size)
			if err := errors.Join(s.Drain(), s.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestOpenStreamNot is for what is no image.
func TestOpenStreamNot(t *testing.T) {
	for _, in := range []string{"", "QFI", "not a qcow2 image, but longer than its magic is"} {
		if _, err := OpenStream(context.Background(), bytes.NewReader([]byte(in)), OpenOptions{Unverified: true}); !errors.Is(err, ErrNotQcow2) {
			t.Errorf("%q: %v", in, err)
		}
	}
	sick := errors.New("sick")
	if _, err := OpenStream(context.Background(), iotest.ErrReader(sick), OpenOptions{Unverified: true}); !errors.Is(err, sick) {
		t.Errorf("a pipe that fails: %v", err)
	}
}

// TestOpenStreamGaps has gaps between clusters that are in order: what workers
// read ahead of one another would not fit the window.
func TestOpenStreamGaps(t *testing.T) {
	const size, gap = 64 << 10, 3 << 20
	d := &disk{size: 32 * size, runs: []diskRun{{0, make([]byte, 32*size)}}}
	for i := range d.runs[0].data {
		d.runs[0].data[i] = byte(1 + i/size)
	}
	var b bytes.Buffer
	if _, err := WriteStream(context.Background(), &b, d, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	packed := b.Bytes()
	m, err := Open(context.Background(), bytes.NewReader(packed), int64(len(packed)), OpenOptions{Unverified: true})
	if err != nil {
		t.Fatal(err)
	}
	l2 := int64(m.l1[0] & entryOffset)
	data := l2 + size
	spread := append(make([]byte, 0, data+32*(size+gap)), packed[:data]...)
	for i := range int64(32) {
		spread = append(spread, make([]byte, gap)...)
		binary.BigEndian.PutUint64(spread[l2+8*i:], uint64(len(spread))|entryCopied)
		spread = append(spread, packed[data+i*size:][:size]...)
	}
	for _, c := range []struct {
		image   []byte
		spooled bool
	}{{packed, false}, {spread, true}} {
		s, err := OpenStream(context.Background(), bytes.NewReader(c.image), OpenOptions{Unverified: true, Window: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if spooled := s.in == nil; spooled != c.spooled {
			t.Errorf("spooled: %v, want %v", spooled, c.spooled)
		}
		if !bytes.Equal(collect(t, s, 2), d.runs[0].data) {
			t.Error("bytes differ")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
