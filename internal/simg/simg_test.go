package simg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"e2qcow/image"
)

var le = binary.LittleEndian

// A builder builds images, as they should be or not.
type builder struct {
	version                     uint16
	headerSize, chunkHeaderSize int
	blockSize, blocks, chunks   uint32
	sum                         uint32
	body                        []byte
}

func newBuilder(blockSize uint32) *builder {
	return &builder{version: 1, headerSize: headerSize, chunkHeaderSize: chunkSize, blockSize: blockSize}
}

// chunk adds a chunk of so many blocks. A checksum counts none.
func (b *builder) chunk(typ uint16, blocks uint32, data []byte) *builder {
	if typ != chunkCRC {
		b.blocks += blocks
	}
	b.chunks++
	h := make([]byte, b.chunkHeaderSize)
	le.PutUint16(h, typ)
	le.PutUint32(h[4:], blocks)
	le.PutUint32(h[8:], uint32(b.chunkHeaderSize+len(data)))
	b.body = append(append(b.body, h...), data...)
	return b
}

func word(w uint32) []byte { return le.AppendUint32(nil, w) }

func (b *builder) raw(data []byte) *builder {
	return b.chunk(chunkRaw, uint32(len(data))/b.blockSize, data)
}
func (b *builder) fill(blocks, w uint32) *builder { return b.chunk(chunkFill, blocks, word(w)) }
func (b *builder) skip(blocks uint32) *builder    { return b.chunk(chunkDontCare, blocks, nil) }
func (b *builder) crc(sum uint32) *builder        { return b.chunk(chunkCRC, 0, word(sum)) }

func (b *builder) bytes() []byte {
	h := make([]byte, b.headerSize)
	le.PutUint32(h, magic)
	le.PutUint16(h[4:], b.version)
	le.PutUint16(h[8:], uint16(b.headerSize))
	le.PutUint16(h[10:], uint16(b.chunkHeaderSize))
	le.PutUint32(h[12:], b.blockSize)
	le.PutUint32(h[16:], b.blocks)
	le.PutUint32(h[20:], b.chunks)
	le.PutUint32(h[24:], b.sum)
	return append(h, b.body...)
}

func open(t *testing.T, file []byte) *Image {
	t.Helper()
	m, err := Open(t.Context(), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A naive expands an image as the format says, one chunk after the other.
type naive struct {
	disk  []byte
	known []bool // of each byte
}

const mostNaive = 1 << 20

// expand returns ok where all of the image is as it must be.
func expand(f []byte) (n naive, ok bool) {
	if len(f) < 28 || le.Uint32(f) != magic || le.Uint16(f[4:]) != 1 {
		return n, false
	}
	fh, ch, bs, blocks, chunks := int(le.Uint16(f[8:])), int(le.Uint16(f[10:])), uint64(le.Uint32(f[12:])), uint64(le.Uint32(f[16:])), le.Uint32(f[20:])
	if fh < 28 || ch < 12 || bs == 0 || bs%4 != 0 || blocks == 0 || len(f) < fh || bs*blocks > mostNaive {
		return n, false
	}
	want := bs * blocks
	sum := le.Uint32(f[24:])
	for f = f[fh:]; chunks > 0; chunks-- {
		if len(f) < ch {
			return n, false
		}
		typ, k, total := le.Uint16(f), uint64(le.Uint32(f[4:]))*bs, uint64(le.Uint32(f[8:]))
		if total < uint64(ch) || total > uint64(len(f)) {
			return n, false
		}
		data := f[ch:total]
		f = f[total:]
		if typ != chunkCRC && uint64(len(n.disk))+k > want {
			return n, false
		}
		switch {
		case typ == chunkRaw && uint64(len(data)) == k:
			n.add(data, true)
		case typ == chunkFill && len(data) == 4:
			n.add(bytes.Repeat(data, int(k/4)), true)
		case typ == chunkDontCare && len(data) == 0:
			n.add(make([]byte, k), false)
		case typ == chunkCRC && len(data) == 4:
			if le.Uint32(data) != crc32.ChecksumIEEE(n.disk) {
				return n, false
			}
		default:
			return n, false
		}
	}
	return n, uint64(len(n.disk)) == want && (sum == 0 || sum == crc32.ChecksumIEEE(n.disk))
}

func (n *naive) add(data []byte, known bool) {
	n.disk = append(n.disk, data...)
	for range data {
		n.known = append(n.known, known)
	}
}

// check compares an image with what it should be: all of it, pieces, runs.
func (n naive) check(t *testing.T, m *Image) {
	t.Helper()
	size := int64(len(n.disk))
	if m.Size() != size {
		t.Fatalf("a disk of %d bytes, want %d", m.Size(), size)
	}
	got := make([]byte, size)
	if k, err := m.ReadAt(got, 0); k != len(got) || err != nil || !bytes.Equal(got, n.disk) {
		t.Fatalf("%d bytes, %v, equal: %v", k, err, bytes.Equal(got, n.disk))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		off := rnd.Int64N(size + 1)
		p := make([]byte, rnd.IntN(int(size)+8))
		k, err := m.ReadAt(p, off)
		if want := n.disk[off:min(off+int64(len(p)), size)]; !bytes.Equal(p[:k], want) || (k < len(p)) != errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, k, err)
		}
	}
	known, data := make([]bool, size), make([]bool, size)
	mark(t, m, known)
	mark(t, image.Data(m), data)
	for i := range n.disk {
		if known[i] != n.known[i] {
			t.Fatalf("byte %d: in a run: %v", i, known[i])
		}
		if data[i] && !known[i] || n.disk[i] != 0 && !data[i] {
			t.Fatalf("byte %d is %d: in the data: %v", i, n.disk[i], data[i])
		}
	}
}

// mark marks what lies in a run.
func mark(t *testing.T, img image.Image, in []bool) {
	t.Helper()
	for off := int64(0); ; {
		start, end, err := img.NextRun(off)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || start < off || end <= start || end > img.Size() {
			t.Fatalf("a run from %d to %d behind %d, %v", start, end, off, err)
		}
		for i := start; i < end; i++ {
			in[i] = true
		}
		off = end
	}
}

// TestChunks reads chunks of each kind, side by side and empty, and headers that
// are longer than usual.
func TestChunks(t *testing.T) {
	for _, extra := range []int{0, 4, 100} {
		t.Run(fmt.Sprint(extra), func(t *testing.T) {
			b := newBuilder(16)
			b.headerSize, b.chunkHeaderSize = headerSize+extra, chunkSize+extra
			b.skip(3).skip(2).fill(1, 0).fill(4, 0).skip(0).fill(2, 0x01020304).fill(1, 0x01020304).fill(1, 5)
			b.raw(bytes.Repeat([]byte("0123456789abcdef"), 3)).fill(0, 7).raw(nil).raw(make([]byte, 16)).skip(9).fill(2, 0)
			n, ok := expand(b.bytes())
			if !ok {
				t.Fatal("the test's own image is bad")
			}
			b.crc(crc32.ChecksumIEEE(n.disk)).raw(bytes.Repeat([]byte{1}, 16)).skip(1)
			if n, ok = expand(b.bytes()); !ok {
				t.Fatal("the test's own image is bad")
			}
			b.sum = crc32.ChecksumIEEE(n.disk)
			m := open(t, append(b.bytes(), "behind"...))
			n.check(t, m)
			if err := m.Verify(t.Context()); err != nil || !m.HasChecksum() {
				t.Errorf("checksums: %v, %v", m.HasChecksum(), err)
			}
			if m.Behind() != 6 || m.BlockSize() != 16 || m.Chunks() != b.chunks {
				t.Errorf("%d bytes behind, blocks of %d, %d chunks", m.Behind(), m.BlockSize(), m.Chunks())
			}
			if len(m.runs) != 10 {
				t.Errorf("%d runs: %+v", len(m.runs), m.runs)
			}
		})
	}
}

// TestRefused opens what lies.
func TestRefused(t *testing.T) {
	page := bytes.Repeat([]byte{1}, 4096)
	good := func() *builder { return newBuilder(4096).raw(page).fill(2, 1).skip(3) }
	patch := func(at int, b ...byte) []byte {
		f := good().bytes()
		copy(f[at:], b)
		return f
	}
	cases := map[string]struct {
		file []byte
		want error // nil for damage
	}{
		"nothing":               {nil, ErrNotSparse},
		"the magic":             {good().bytes()[:4], io.ErrUnexpectedEOF},
		"half a header":         {good().bytes()[:27], io.ErrUnexpectedEOF},
		"no chunk":              {good().bytes()[:28], io.ErrUnexpectedEOF},
		"half a chunk header":   {good().bytes()[:39], io.ErrUnexpectedEOF},
		"half the data":         {good().bytes()[:2000], io.ErrUnexpectedEOF},
		"no fill":               {good().bytes()[:28+12+4096+12+3], io.ErrUnexpectedEOF},
		"the last is missing":   {good().bytes()[:28+12+4096+16], io.ErrUnexpectedEOF},
		"another file":          {bytes.Repeat([]byte("text"), 100), ErrNotSparse},
		"a small file":          {[]byte("text"), ErrNotSparse},
		"version 2":             {patch(4, 2, 0), ErrVersion},
		"version 0":             {patch(4, 0, 0), ErrVersion},
		"short header":          {patch(8, 27, 0), nil},
		"short chunk header":    {patch(10, 11, 0), nil},
		"long header":           {patch(8, 0xff, 0xff), io.ErrUnexpectedEOF},
		"long chunk header":     {patch(10, 0xff, 0xff), io.ErrUnexpectedEOF},
		"blocks of 0":           {patch(12, 0, 0, 0, 0), nil},
		"blocks of 4098":        {patch(12, 2, 16, 0, 0), nil},
		"blocks too large":      {patch(12, 0, 0, 0, 0x80), nil},
		"a disk of 0":           {patch(16, 0, 0, 0, 0), nil},
		"one block more":        {patch(16, 7, 0, 0, 0), nil},
		"one block less":        {patch(16, 5, 0, 0, 0), nil},
		"16 EiB":                {patch(12, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), nil},
		"a billion chunks":      {patch(20, 0, 0xca, 0x9a, 0x3b), io.ErrUnexpectedEOF},
		"a chunk less":          {patch(20, 2, 0, 0, 0), nil},
		"no chunks":             {patch(20, 0, 0, 0, 0), nil},
		"an unknown chunk":      {patch(28, 0xc5), nil},
		"a raw chunk too large": {patch(32, 6, 0, 0, 0), io.ErrUnexpectedEOF},
		"a raw chunk lies":      {patch(36, 13), nil},
		"a fill that lies":      {newBuilder(4096).chunk(chunkFill, 1, make([]byte, 8)).bytes(), nil},
		"an empty fill":         {append(newBuilder(4096).chunk(chunkFill, 1, nil).bytes(), "more"...), nil},
		"what is not there":     {newBuilder(4096).chunk(chunkDontCare, 1, make([]byte, 4096)).bytes(), nil},
		"a long checksum":       {newBuilder(4096).skip(1).chunk(chunkCRC, 0, make([]byte, 8)).bytes(), nil},
		"two checksums":         {newBuilder(4096).skip(1).crc(1).crc(2).bytes(), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), bytes.NewReader(c.file), int64(len(c.file)))
			var corrupt *CorruptError
			if c.want != nil && !errors.Is(err, c.want) || !errors.As(err, &corrupt) && !errors.Is(err, ErrNotSparse) && !errors.Is(err, ErrVersion) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	// The table says something only if what it changes is taken as it is.
	open(t, good().bytes())
}

// TestChecksum tells a wrong checksum from a right one, wherever it stands.
func TestChecksum(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 512)
	for _, wrong := range []bool{false, true} {
		for _, where := range []string{"header", "end", "middle"} {
			b := newBuilder(4096).raw(data).fill(3, 0x12345678).skip(4)
			n, _ := expand(b.bytes())
			sum := crc32.ChecksumIEEE(n.disk)
			if wrong {
				sum ^= 1 << 7
			}
			switch where {
			case "header":
				b.sum = sum
			case "middle":
				b.crc(sum).raw(data)
			default:
				b.crc(sum)
			}
			err := open(t, b.bytes()).Verify(t.Context())
			if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) != wrong || !wrong && err != nil {
				t.Errorf("%s, wrong %v: %v", where, wrong, err)
			}
		}
	}
}

// TestRepeat compares the checksum of a fill with that of its bytes.
func TestRepeat(t *testing.T) {
	for _, w := range []uint32{0, 1, 0xdeadbeef, math.MaxUint32} {
		for _, n := range []int{0, 1, 2, 3, 1000, 1 << 15} {
			b := []byte("before")
			reg := repeat(^crc32.ChecksumIEEE(b), w, uint64(n))
			if want := crc32.ChecksumIEEE(append(b, bytes.Repeat(word(w), n)...)); ^reg != want {
				t.Errorf("%d times %08x: %08x, want %08x", n, w, ^reg, want)
			}
		}
	}
}

// TestLongFills has exabytes of fills summed and skipped at once, and refused
// where they would be written.
func TestLongFills(t *testing.T) {
	b := newBuilder(1 << 30)
	for range 1000 {
		b.fill(1<<20, 0).skip(1 << 10)
	}
	m := open(t, b.crc(1).bytes())
	if err := m.Verify(t.Context()); err == nil || errors.Is(err, ErrFills) {
		t.Errorf("zeros: %v", err)
	}
	if _, _, err := m.NextData(0); !errors.Is(err, io.EOF) {
		t.Errorf("zeros are data: %v", err)
	}
	m = open(t, newBuilder(1<<30).fill(1<<10, 1).bytes())
	if err := m.Verify(t.Context()); !errors.Is(err, ErrFills) {
		t.Errorf("a terabyte that is not zero: %v", err)
	}
	if m = open(t, newBuilder(1<<20).fill(1<<10, 1).bytes()); m.Verify(t.Context()) != nil {
		t.Errorf("a gibibyte: %v", m.Verify(t.Context()))
	}
}

// TestManyChunks has chunks counted till there are too many, each of them at a
// price.
func TestManyChunks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 200 MB")
	}
	pair := newBuilder(4).fill(1, 1).skip(1).body
	b := newBuilder(4)
	b.body = bytes.Repeat(pair, maxRuns/2+1)
	b.blocks, b.chunks = maxRuns+2, maxRuns+2
	f := b.bytes()
	if _, err := Open(t.Context(), bytes.NewReader(f), int64(len(f))); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
	b.body = bytes.Repeat(newBuilder(4).skip(0).body, 2*maxRuns)
	b.blocks, b.chunks = 0, 2*maxRuns+1
	f = b.skip(1).bytes()
	le.PutUint32(f[20:], 2*maxRuns+1)
	if m := open(t, f); len(m.runs) != 1 {
		t.Errorf("%d runs", len(m.runs))
	}
}

// TestReadError names the place in the file.
func TestReadError(t *testing.T) {
	f := newBuilder(4096).raw(make([]byte, 8192)).bytes()
	m := open(t, f)
	m.r = bytes.NewReader(f[:5000])
	n, err := m.ReadAt(make([]byte, 8192), 0)
	if n != 5000-40 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestRealTool reads what img2simg makes of a filesystem.
func TestRealTool(t *testing.T) {
	if _, err := exec.LookPath("img2simg"); err != nil {
		t.Skip("img2simg is not installed")
	}
	folder := t.TempDir()
	raw, sparse := filepath.Join(folder, "fs.img"), filepath.Join(folder, "fs.simg")
	if err := os.WriteFile(raw, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 16<<20); err != nil {
		t.Fatal(err)
	}
	for _, blockSize := range []string{"1024", "4096", "65536"} {
		for _, args := range [][]string{{"mke2fs", "-qF", "-t", "ext4", raw}, {"img2simg", raw, sparse, blockSize}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
		}
		want, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(sparse)
		if err != nil {
			t.Fatal(err)
		}
		m := open(t, file)
		got := make([]byte, m.Size())
		if _, err := m.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("blocks of %s: %v, equal: %v", blockSize, err, bytes.Equal(got, want))
		}
		if err := m.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
