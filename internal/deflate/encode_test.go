package deflate

import (
	"bytes"
	stdflate "compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/flate"
)

// inodes returns n bytes of an inode table: records of 256 bytes whose random
// parts are the generation and the checksums.
func inodes(n int) []byte {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+256 <= n; at += 256 {
		in := b[at:][:256]
		copy(in, "\xa4\x81\xe8\x03")
		now := 1_700_000_000 + uint32(at>>14)
		for _, field := range []int{8, 12, 16, 0x90} {
			binary.LittleEndian.PutUint32(in[field:], now)
		}
		in[26] = 1
		copy(in[40:], "\x0a\xf3\x00\x00\x04")
		binary.LittleEndian.PutUint32(in[0x64:], rnd.Uint32())
		binary.LittleEndian.PutUint16(in[0x7c:], uint16(rnd.Uint32()))
		binary.LittleEndian.PutUint32(in[0x80:], 32+rnd.Uint32()<<16)
		binary.LittleEndian.PutUint32(in[0x84:], now*2654435761)
	}
	return b
}

// names returns n bytes of a directory.
func names(n int) []byte {
	var b []byte
	rnd := rand.New(rand.NewPCG(11, 12))
	for i := uint32(0); len(b) < n; i++ {
		name := fmt.Sprintf("file-%x.txt", rnd.Uint32N(1<<20))
		b = binary.LittleEndian.AppendUint32(b, 0x10000+i)
		b = append(b, byte(8+(len(name)+3)&^3), 0, byte(len(name)), 1)
		b = append(b, name...)
		b = append(b, make([]byte, -len(name)&3)...)
	}
	return b[:n]
}

func random(n int) []byte {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// periodic returns n bytes that repeat with this period, and not earlier.
func periodic(n, period int) []byte {
	b := random(n)
	for i := period; i < n; i++ {
		b[i] = b[i-period]
	}
	return b
}

// skewed returns bytes whose frequencies are Fibonacci numbers: the shortest
// code of them is longer than the limit.
func skewed() []byte {
	var b []byte
	x, y := 1, 1
	for v := byte(0); len(b)+x <= blockLen; v++ {
		b = append(b, bytes.Repeat([]byte{v}, x)...)
		x, y = y, x+y
	}
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	return b
}

// numbers returns n bytes of an indirect block: numbers of blocks in a row.
func numbers(n int) []byte {
	b := make([]byte, n)
	for i := 0; i+4 <= n; i += 4 {
		binary.LittleEndian.PutUint32(b[i:], 0x123400+uint32(i/4))
	}
	return b
}

// samples are inputs of all kinds.
func samples() map[string][]byte {
	m := map[string][]byte{
		"inodes":       inodes(64 << 10),
		"many inodes":  inodes(200 << 10),
		"numbers":      numbers(64 << 10),
		"3 of 4 bytes": bytes.Repeat([]byte{1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 3, 7}, 4<<10),
		"zeros":        make([]byte, 128<<10),
		"ones":         bytes.Repeat([]byte{255}, 32<<10),
		"random":       random(64 << 10),
		"much random":  random(200 << 10),
		"half random":  append(random(32<<10), make([]byte, 32<<10)...),
		"random twice": append(random(blockLen), random(blockLen)...), // the table has places 64 KiB back
		"blocks differ": bytes.Join([][]byte{inodes(blockLen), random(blockLen), make([]byte, blockLen),
			bytes.Repeat([]byte("name of a file"), blockLen/14)}, nil),
		"skewed": skewed(),
	}
	step := 1
	if testing.Short() {
		step = 9
	} else {
		m["2 MiB of inodes"], m["2 MiB of zeros"] = inodes(2<<20), make([]byte, 2<<20)
	}
	for i := 0; i < 270; i += step {
		m[fmt.Sprintf("%d zeros", i)] = make([]byte, i)
		m[fmt.Sprintf("%d random", i)] = random(i)
	}
	for _, n := range []int{516, 517, 518, 519, 774, 775, 776, 777, blockLen - 1, blockLen + 1, blockLen + 8} {
		m[fmt.Sprintf("%d zeros", n)] = make([]byte, n)
		m[fmt.Sprintf("%d random", n)] = random(n)
	}
	return m
}

// decoders are others' decoders.
var decoders = map[string]func(io.Reader) io.ReadCloser{
	"klauspost": flate.NewReader,
	"std":       stdflate.NewReader,
}

// check encodes src and has all decoders decode it.
func check(t *testing.T, e *Encoder, src []byte) []byte {
	t.Helper()
	out, ok := e.Append(nil, src, len(src)+len(src)/1000+20)
	if !ok {
		t.Fatalf("%d bytes became more than %d", len(src), len(src)+len(src)/1000+20)
	}
	for name, decoder := range decoders {
		in := bytes.NewReader(append(out[:len(out):len(out)], "behind"...))
		got, err := io.ReadAll(decoder(in))
		if err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s: %d bytes, error %v; not what was encoded", name, len(got), err)
		}
		if in.Len() != len("behind") {
			t.Fatalf("%s: the end of the stream is %d bytes before that of the output", name, in.Len()-len("behind"))
		}
	}
	return out
}

func TestEncode(t *testing.T) {
	var e Encoder
	for name, src := range samples() {
		t.Run(name, func(t *testing.T) {
			out := check(t, &e, src)
			// What was encoded before changes nothing.
			if fresh, _ := new(Encoder).Append(nil, src, len(src)+1000); !bytes.Equal(fresh, out) {
				t.Error("a new encoder has another output")
			}
		})
	}
}

// TestPeriods has the bytes repeat at each distance up to more than the window.
func TestPeriods(t *testing.T) {
	step := 4
	if testing.Short() {
		step = 61
	}
	var e Encoder
	for period := 1; period <= window+1; period += step {
		src := periodic(3*period+600, period)
		out := check(t, &e, src)
		if period <= window && len(out) > period+period/2+80 {
			t.Errorf("period %d: %d bytes", period, len(out))
		}
	}
}

// TestWindow looks at all matches: none is longer or reaches back further than
// the smallest decoder allows.
func TestWindow(t *testing.T) {
	var e Encoder
	for name, src := range samples() {
		e.matches.reset()
		for start := 0; start < len(src); start += blockLen {
			end := min(start+blockLen, len(src))
			e.matches.split(src, start, end)
			at := start
			seqs := e.matches.sequences[:e.matches.n]
			for i, s := range seqs {
				at += int(s.literals)
				if i == len(seqs)-1 {
					if s.length != 0 {
						t.Fatalf("%s: the last sequence has a match", name)
					}
					continue
				}
				n, d := int(s.length), int(s.dist)
				if n < minMatch || n > maxMatch || d < 1 || d > 4096 || d > at || !bytes.Equal(src[at:at+n], src[at-d:][:n]) {
					t.Fatalf("%s: at %d a match of %d bytes, %d bytes back", name, at, n, d)
				}
				at += n
			}
			if at != end {
				t.Fatalf("%s: the sequences of a block end at %d of %d", name, at, end)
			}
		}
	}
}

// TestLimit has limits from nothing to more than enough.
func TestLimit(t *testing.T) {
	var e Encoder
	for name, src := range map[string][]byte{
		"inodes": inodes(2048), "random": random(300), "fixed": []byte("abcabcabc"), "empty": nil,
		"blocks": append(random(blockLen), make([]byte, 1000)...),
	} {
		full, ok := e.Append(nil, src, len(src)+100)
		if !ok {
			t.Fatalf("%s: no room", name)
		}
		for limit := max(0, len(full)-300); limit < len(full)+20; limit++ {
			prefix := []byte("before")
			buf := bytes.Repeat([]byte{0xa5}, len(prefix)+limit+Slack+16)
			copy(buf, prefix)
			out, ok := e.Append(buf[:len(prefix)], src, limit)
			if ok != (limit >= len(full)) {
				t.Fatalf("%s of %d bytes, limit %d: %v", name, len(full), limit, ok)
			}
			want := prefix
			if ok {
				want = slices.Concat(prefix, full)
			}
			if !bytes.Equal(out, want) {
				t.Fatalf("%s, limit %d: other output", name, limit)
			}
			for i, b := range buf[len(prefix)+limit+Slack:] {
				if b != 0xa5 {
					t.Fatalf("%s, limit %d: byte %d behind the slack was written to", name, limit, i)
				}
			}
		}
	}
	if _, ok := e.Append(nil, nil, -1); ok {
		t.Error("an empty stream has less than no bytes")
	}
}

// TestSmall compares with the length of what a library makes.
func TestSmall(t *testing.T) {
	var e Encoder
	for _, c := range []struct {
		name string
		src  []byte
	}{
		{"inodes", inodes(64 << 10)}, {"few inodes", inodes(4 << 10)}, {"zeros", make([]byte, 64<<10)},
		{"period", periodic(64<<10, 1000)}, {"numbers", numbers(16 << 10)},
		{"a block of names", append(names(4<<10), make([]byte, 60<<10)...)}, {"random", random(64 << 10)},
	} {
		out := check(t, &e, c.src)
		var b bytes.Buffer
		w, err := flate.NewWriterWindow(&b, window)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(c.src)
		w.Close()
		if len(out) > b.Len()+b.Len()/50+8 {
			t.Errorf("%s: %d bytes, the library's %d", c.name, len(out), b.Len())
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var e Encoder
	src := inodes(64 << 10)
	buf := make([]byte, 0, len(src)+Slack)
	if n := testing.AllocsPerRun(10, func() { e.Append(buf, src, len(src)) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte("abcabcabcd"), uint16(0), uint8(0))
	f.Add(inodes(1024), uint16(100), uint8(3))
	f.Add(random(200), uint16(4097), uint8(30))
	var e Encoder
	f.Fuzz(func(t *testing.T, seed []byte, period uint16, repeats uint8) {
		// Repeats at a distance, between zeros, make inputs of all lengths.
		src := bytes.Clone(seed)
		for range repeats {
			src = append(src, make([]byte, max(0, int(period)-len(seed)))...)
			src = append(src, seed[:min(len(seed), 1+len(src)%300)]...)
		}
		check(t, &e, src)
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		src  []byte
	}{{"inodes", inodes(32 << 10)}, {"random", random(32 << 10)}, {"zeros", make([]byte, 32<<10)}} {
		b.Run(c.name, func(b *testing.B) {
			var e Encoder
			buf := make([]byte, 0, len(c.src)+Slack)
			b.SetBytes(int64(len(c.src)))
			b.ReportAllocs()
			for b.Loop() {
				e.Append(buf, c.src, len(c.src)-1)
			}
		})
	}
}
