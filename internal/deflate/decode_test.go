package deflate

import (
	"bytes"
	stdflate "compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// encoders are others' encoders, with windows of 32 KiB.
var encoders = map[string]func(w io.Writer) (io.WriteCloser, error){
	"std 0":        func(w io.Writer) (io.WriteCloser, error) { return stdflate.NewWriter(w, 0) },
	"std 1":        func(w io.Writer) (io.WriteCloser, error) { return stdflate.NewWriter(w, 1) },
	"std 9":        func(w io.Writer) (io.WriteCloser, error) { return stdflate.NewWriter(w, 9) },
	"std huffman":  func(w io.Writer) (io.WriteCloser, error) { return stdflate.NewWriter(w, stdflate.HuffmanOnly) },
	"klauspost 5":  func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 5) },
	"klauspost 4K": func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriterWindow(w, window) },
}

func deflated(t testing.TB, encoder string, src []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := encoders[encoder](&b)
	if err == nil {
		_, err = w.Write(src)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// agree decodes src into n bytes as the standard library does, which must say
// the same of it. It returns our error. There are three exceptions:
//
//   - Only ours bounds the blocks.
//   - Both others can miss input behind the last byte of output, which ours and
//     zlib do not need.
//   - klauspost/compress takes bits for symbols where there are none. So it counts
//     only if both succeed.
func agree(t testing.TB, d *Decoder, n int, src []byte) error {
	t.Helper()
	got := make([]byte, n)
	err := d.Decode(got, src)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("the error %v is none of those that are promised", err)
	}
	if err != nil && strings.Contains(err.Error(), "too many blocks") {
		return err
	}
	for name, decoder := range decoders {
		want := make([]byte, n)
		_, theirs := io.ReadFull(decoder(bytes.NewReader(src)), want)
		if name == "std" && (err == nil) != (theirs == nil) && (err != nil || !errors.Is(theirs, io.ErrUnexpectedEOF)) {
			t.Fatalf("%x into %d bytes: %v; %s: %v", src, n, err, name, theirs)
		}
		if err == nil && theirs == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x into %d bytes: not what %s makes of it", src, n, name)
		}
	}
	return err
}

// TestShortBlocks: a stream may end a block after each 127 bytes, with an empty
// block behind, as zlib with little memory does.
func TestShortBlocks(t *testing.T) {
	src := make([]byte, 64<<10)
	for i := range src {
		src[i] = byte(i*i>>7) ^ byte(i)
	}
	var b bytes.Buffer
	w, err := stdflate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	for p := src; len(p) > 0; p = p[min(127, len(p)):] {
		_, _ = w.Write(p[:min(127, len(p))])
		_ = w.Flush()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := agree(t, new(Decoder), len(src), b.Bytes()); err != nil {
		t.Error(err)
	}
}

func TestDecode(t *testing.T) {
	var d Decoder
	var e Encoder
	for name, src := range samples() {
		streams := map[string][]byte{"ours": check(t, &e, src)}
		for encoder := range encoders {
			streams[encoder] = deflated(t, encoder, src)
		}
		for encoder, stream := range streams {
			got := bytes.Repeat([]byte{0xa5}, len(src))
			for _, behind := range []string{"", "behind", strings.Repeat("\xff", 600)} {
				if err := d.Decode(got, append(stream[:len(stream):len(stream)], behind...)); err != nil || !bytes.Equal(got, src) {
					t.Fatalf("%s by %s, %d bytes behind: error %v, or other bytes", name, encoder, len(behind), err)
				}
			}
			// An output that is shorter than the stream is filled; one that is
			// longer is an error.
			if n := len(src) * 2 / 3; d.Decode(got[:n], stream) != nil || !bytes.Equal(got[:n], src[:n]) {
				t.Fatalf("%s by %s: not the first %d bytes", name, encoder, n)
			}
			if err := d.Decode(make([]byte, len(src)+1), stream); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s by %s into one byte more: %v", name, encoder, err)
			}
		}
	}
}

// TestDecodeCut cuts streams and outputs at every byte.
func TestDecodeCut(t *testing.T) {
	var d Decoder
	for _, src := range [][]byte{inodes(1024), []byte("abcabcabcabc"), random(80), append(random(20), make([]byte, 400)...)} {
		for encoder := range encoders {
			stream := deflated(t, encoder, src)
			for n := range stream {
				agree(t, &d, len(src), stream[:n])
			}
			for n := range len(src) + 2 {
				agree(t, &d, n, stream)
			}
		}
	}
}

// TestLongCodes has codes longer than the index of the table.
func TestLongCodes(t *testing.T) {
	var d Decoder
	src := skewed()
	stream := deflated(t, "std huffman", src)
	if err := agree(t, &d, len(src), stream); err != nil {
		t.Fatal(err)
	}
	long := 0
	for n := litLenBits + 1; n <= maxCodeLen; n++ {
		long += int(d.tables.litLen.count[n])
	}
	if long == 0 {
		t.Fatal("the stream has no long codes: it tests nothing")
	}
	for i := range stream[:60] { // the header
		for bit := range 8 {
			stream[i] ^= 1 << bit
			agree(t, &d, 2000, stream)
			stream[i] ^= 1 << bit
		}
	}
}

// TestFar has a match that reaches back 32 KiB, in outputs of all lengths around
// the end of the fast part.
func TestFar(t *testing.T) {
	var d Decoder
	src := periodic(1<<15+1000, 1<<15)
	stream := deflated(t, "std 9", src)
	if len(stream) > 1<<15+500 {
		t.Fatal("the encoder did not look back so far")
	}
	for n := range 1000 {
		got := make([]byte, 1<<15+n)
		if err := d.Decode(got, stream); err != nil || !bytes.Equal(got, src[:len(got)]) {
			t.Fatalf("%d bytes: %v", len(got), err)
		}
	}
}

// stream returns bits: of an int its lowest bits, as many as the int behind it
// says, the lowest first; of a string its zeros and ones.
func stream(parts ...any) []byte {
	b := make([]byte, 1000)
	var w bitWriter
	w.begin(b, len(b)-Slack)
	for i := 0; i < len(parts); i++ {
		switch p := parts[i].(type) {
		case int: // a number and how many bits it has
			w.put(uint64(p), uint(parts[i+1].(int)))
			i++
		case string: // a code
			for _, c := range p {
				w.put(uint64(c-'0'), 1)
			}
		}
	}
	w.align()
	return b[:len(b)-Slack-w.limit]
}

func TestDecodeCorrupt(t *testing.T) {
	fixed := func(parts ...any) []byte { return stream(append([]any{1, 1, 1, 2}, parts...)...) }
	// dynamic begins a block with codes of 2 bits for the lengths 0, 1, 18 and 16.
	dynamic := func(litLens, dists int, parts ...any) []byte {
		p := []any{1, 1, 2, 2, litLens - 257, 5, dists - 1, 5, 18 - 4, 4}
		for _, s := range codeLenOrder[:18] {
			n := 0
			if s == 0 || s == 1 || s == 18 || s == 16 {
				n = 2
			}
			p = append(p, n, 3)
		}
		return stream(append(p, parts...)...)
	}
	const zero, one, last, zeros = "00", "01", "10", "11"
	const a = "10010001" // the literal 'a' of a fixed block
	var d Decoder
	for _, c := range []struct {
		name string
		src  []byte
		n    int
		err  string // what the error says; "" for none
	}{
		{"nothing", nil, 1, "EOF"},
		{"no output", nil, 0, ""},
		{"type 3", stream(1, 1, 3, 2), 1, "type 3"},
		{"stored, no length", stream(1, 1, 0, 2), 1, "EOF"},
		{"stored, length and complement differ", stream(1, 1, 0, 2, 0, 5, 1, 16, 0xffff, 16, 7, 8), 1, "complement"},
		{"stored, cut", stream(1, 1, 0, 2, 0, 5, 2, 16, 0xfffd, 16, 7, 8), 2, "EOF"},
		{"stored", stream(1, 1, 0, 2, 0, 5, 1, 16, 0xfffe, 16, 7, 8), 1, ""},
		{"stored in the middle", stream(0, 1, 1, 2, a, "0000000", 1, 1, 0, 2, 0, 3, 1, 16, 0xfffe, 16, 7, 8), 2, ""},
		{"fixed", fixed(a), 1, ""},
		{"fixed, the end comes first", fixed("0000000"), 1, "the end"},
		{"nothing behind a block that is not the last", stream(0, 1, 1, 2, a, "0000000"), 2, "EOF"},
		{"distance 1, of one byte", fixed(a, "0000001", "00000"), 4, ""},
		{"distance 2, of one byte", fixed(a, "0000001", "00001"), 4, "back"},
		{"a match at the beginning", fixed("0000001", "00000"), 3, "back"},
		{"a match longer than the output", fixed(a, "11000101", "00000"), 9, ""},
		{"length symbol 286", fixed(a, "11000110", "00000"), 4, "symbol 286"},
		{"length symbol 287", fixed(a, "11000111", "00000"), 4, "symbol 287"},
		{"distance symbol 30", fixed(a, "0000001", "11110"), 4, "symbol 30"},
		{"287 length symbols", dynamic(287, 1), 1, "287"},
		{"31 distance symbols", dynamic(257, 31), 1, "31"},
		{"the first length repeats", dynamic(257, 1, last, 0, 2), 1, "repeat"},
		{"too many lengths", dynamic(257, 1, zeros, 127, 7, zeros, 127, 7), 1, "more lengths"},
		{"no codes", dynamic(257, 1, zeros, 127, 7, zeros, 109, 7, 0, 16), 1, "no code"},
		{"one literal, no end", dynamic(257, 1, one, zeros, 127, 7, zeros, 108, 7, "0"), 1, ""},
		{"one code, the other bit", dynamic(257, 1, one, zeros, 127, 7, zeros, 108, 7, "1", 0, 16), 1, "no code"},
		{"three codes of one bit", dynamic(257, 1, one, one, one, zeros, 127, 7, zeros, 106, 7), 1, "no code has"},
		{"two codes", dynamic(257, 1, one, zeros, 127, 7, zeros, 106, 7, one, zero, "010"), 2, "the end"},
		{"a match without distances", dynamic(258, 1, one, zeros, 127, 7, zeros, 107, 7, one, zero, "01", 0, 16), 4, "no code"},
		{"a match with one distance", dynamic(258, 1, one, zeros, 127, 7, zeros, 107, 7, one, one, "010"), 4, ""},
		{"a match with half a distance", dynamic(258, 1, one, zeros, 127, 7, zeros, 107, 7, one, one, "011", 0, 16), 4, "no code"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := agree(t, &d, c.n, c.src)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v; want %q", err, c.err)
			}
			// Far from the ends of input and output, the other loop finds the same.
			far := append(bytes.Clone(c.src), make([]byte, 100)...)
			agree(t, &d, c.n+1000, far)
		})
	}
}

// TestBlocks has as many blocks as the output allows, and one more.
func TestBlocks(t *testing.T) {
	var d Decoder
	for _, n := range []int{1, 4096, 2 << 20} {
		most := leastBlocks + n/blockRatio
		zeros, _ := new(Encoder).Append(nil, make([]byte, n), n+10)
		last := (n + blockLen - 1) / blockLen // blocks of zeros
		for _, blocks := range []int{most, most + 1} {
			empty := stream(0, 1, 1, 2, "0000000", 0, 1, 1, 2, "0000000", 0, 1, 1, 2, "0000000", 0, 1, 1, 2, "0000000")
			src := bytes.Repeat(empty, (blocks-last)/4)
			for range (blocks - last) % 4 {
				src = append(src, 0, 0, 0, 0xff, 0xff) // an empty stored block
			}
			src = append(src, zeros...)
			err := d.Decode(make([]byte, n), src)
			if (err == nil) != (blocks == most) {
				t.Errorf("%d blocks for %d bytes: %v", blocks, n, err)
			}
		}
	}
}

// TestDecodeDamaged changes bits of streams; the decoders agree on the rest.
func TestDecodeDamaged(t *testing.T) {
	rounds := 20000
	if testing.Short() {
		rounds = 1000
	}
	rnd := rand.New(rand.NewPCG(9, 10))
	var d Decoder
	src := append(inodes(1500), random(300)...)
	var streams [][]byte
	for encoder := range encoders {
		streams = append(streams, deflated(t, encoder, src))
	}
	for range rounds {
		s := bytes.Clone(streams[rnd.IntN(len(streams))])
		for range 1 + rnd.IntN(3) {
			s[rnd.IntN(min(len(s), 1<<rnd.IntN(12)))] ^= 1 << rnd.IntN(8)
		}
		agree(t, &d, len(src), s)
	}
}

func TestDecodeNoAllocations(t *testing.T) {
	var d Decoder
	src := inodes(64 << 10)
	in := deflated(t, "std 9", src)
	if n := testing.AllocsPerRun(10, func() { d.Decode(src, in) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// FuzzDecode has any bytes, and any output. Zlib, which qemu reads with, is
// stricter in two ways: it wants a code for the end of each block, and two
// symbols in the code for lengths.
func FuzzDecode(f *testing.F) {
	for encoder := range encoders {
		f.Add(deflated(f, encoder, inodes(600)), uint16(600))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, src []byte, n uint16) { agree(t, &d, int(n), src) })
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		src  []byte
	}{{"inodes", inodes(32 << 10)}, {"zeros", make([]byte, 32<<10)}} {
		in := deflated(b, "klauspost 4K", c.src)
		b.Run(c.name, func(b *testing.B) {
			var d Decoder
			b.SetBytes(int64(len(c.src)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Decode(c.src, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
