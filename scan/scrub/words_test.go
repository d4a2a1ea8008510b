package scrub

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// finds returns all places where the filter finds the beginning of a word.
func (w *words) finds(p []byte) (places []int) {
	for from := 0; ; from++ {
		at, ok := w.find(p[from:])
		if !ok {
			return places
		}
		from += at
		places = append(places, from)
	}
}

func TestWordsFind(t *testing.T) {
	const long = lettersAndDigits + "-and-twenty-more" // longer than maxWord
	w := newWords(newKeyring([KeySize]byte{}))
	for _, word := range []string{"report-2024", "report-2024.pdf", "kätzchen", "short", "aaaaaaaaaaaaaaaa", long, "one\x00two-word-value\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"} {
		w.add([]byte(word))
	}
	w.freeze(1)
	for _, test := range []struct {
		in    string
		where []int
	}{
		{"", nil},
		{"report-", nil},
		{"report-2", []int{0}},
		{"xxreport-2024.pdf", []int{2}},
		{"xxreport-202report-2024", []int{2, 12}},
		{"\x00\x00\x00kätzchen\x00", []int{3}},
		{"\x01\x00kätzchen", []int{2}},
		{"short", nil},
		{"aaaaaaaaaaaaaaaaaaaa", nil},
		{"--" + long[:maxWord], []int{2}},
		{"--" + long[maxWord:], []int{2}},
		{"-two-word-value-", []int{1}},
		{"one\x00two", nil},
		{"\x01\x02\x03\x04\x05\x06\x07\x08", []int{0}},
	} {
		if got := w.finds([]byte(test.in)); !slices.Equal(got, test.where) {
			t.Errorf("%q: found at %d, want %d", test.in, got, test.where)
		}
	}
}

// TestWordsRate measures how often the filter takes a prefix for one that was
// added: when it is full, when it has as much more as may be, and when it is
// small. What it is told to hold it always finds.
func TestWordsRate(t *testing.T) {
	const room = 500_000
	for _, test := range []struct {
		bytes, added int
		most         float64 // of others
	}{
		{8 * room, room, 1e-5}, // as reserve gives it
		{bytesPerWord * room, room, 0.0012},
		{bytesPerWord * room, room + room/4, 0.005},
	} {
		w := newWords(newKeyring([KeySize]byte{7}))
		w.reserve(room)
		w.lanes = w.lanes[:test.bytes/64*8]
		r := rand.New(rand.NewPCG(1, 2))
		var word [8]byte
		for range test.added {
			le.PutUint64(word[:], r.Uint64()|0x0101010101010101)
			w.add(word[:])
		}
		r = rand.New(rand.NewPCG(1, 2))
		for range test.added {
			if x := r.Uint64() | 0x0101010101010101; !w.hasPrefix(x) {
				le.PutUint64(word[:], x)
				if counts(word[:]) {
					t.Fatalf("%x is lost", x)
				}
			}
		}
		taken, probes := 0, 2_000_000
		for range probes {
			if w.hasPrefix(r.Uint64() | 0x0101010101010101) {
				taken++
			}
		}
		rate := float64(taken) / float64(probes)
		t.Logf("%d words in %d bytes: %d of %d others are taken for them", test.added, test.bytes, taken, probes)
		if rate > test.most {
			t.Errorf("%d words in %d bytes: %g of others are taken for them, want at most %g", test.added, test.bytes, rate, test.most)
		}
	}
}

// TestWordsRoom has more words than the filesystem was thought to have: then the
// filter is made anew.
func TestWordsRoom(t *testing.T) {
	w := newWords(newKeyring([KeySize]byte{}))
	value := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	w.add(value[:1000])
	if w.crowded() {
		t.Error("crowded by a thousand bytes")
	}
	w.add(value)
	if !w.crowded() {
		t.Errorf("not crowded by %d words in %d bytes", w.added.Load(), 8*len(w.lanes))
	}
	w.reserve(uint64(w.added.Load()))
	if size := 8 * len(w.lanes); size > max(smallFilter, len(value)*2/maxWord) {
		t.Errorf("the filter of values of %d bytes has %d", len(value), size)
	}
	w.reserve(100_000_000)
	if size := 8 * len(w.lanes); size > 200_000_000 {
		t.Errorf("the filter of 100,000,000 words has %d bytes", size)
	}
}

// TestWordsOrder has the same filter whatever the order and the number of
// threads: what is drawn depends on it.
func TestWordsOrder(t *testing.T) {
	var lanes [2][]uint64
	for i := range lanes {
		w := newWords(newKeyring([KeySize]byte{5}))
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for k := range 1000 {
					w.add(fmt.Appendf(nil, "word-%d", (k+i*77)%1000*4+g))
				}
			})
		}
		wg.Wait()
		lanes[i] = w.lanes
	}
	if !slices.Equal(lanes[0], lanes[1]) {
		t.Error("the filters differ")
	}
}

func TestWordsHas(t *testing.T) {
	w := newWords(newKeyring([KeySize]byte{}))
	w.add([]byte("report-2024"))
	w.add([]byte("0000000000"))
	for word, want := range map[string]bool{"report-2024": true, "report-2": true, "Report-2024": false, "report-": false, "0000000000": false, "": false} {
		if w.has([]byte(word)) != want {
			t.Errorf("has(%q) is not %v", word, want)
		}
	}
}

// TestWordsLeast checks the least length against what it is to guarantee.
func TestWordsLeast(t *testing.T) {
	for _, test := range []struct {
		words int
		bytes int64
		want  int
	}{
		{0, 1 << 40, 8},
		{1, 1 << 20, 8},      // 62⁸ is 2·10¹⁴
		{10, 100_000_000, 9}, // 10¹⁵ trials in a million
		{1000, 1 << 40, 12},  // 10²¹
		{100_000, 1 << 30, 12},
	} {
		w := newWords(newKeyring([KeySize]byte{}))
		for i := range test.words {
			w.add(fmt.Appendf(nil, "word-%08d", i))
		}
		w.freeze(test.bytes)
		if w.least != test.want {
			t.Errorf("%d words in %d bytes: from %d bytes on, want %d", test.words, test.bytes, w.least, test.want)
		}
	}
}

// TestWordsAgainstSearch compares with a search for each word by itself.
func TestWordsAgainstSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcd\x00"[min(r.IntN(24)/5, 4)]
		}
		return b
	}
	for range 300 {
		w := newWords(newKeyring([KeySize]byte{}))
		var list [][]byte
		for range 1 + r.IntN(40) {
			word := bytes.ReplaceAll(text(minWord+r.IntN(4)), []byte{0}, []byte{'e'})
			w.add(word)
			if counts(word) {
				list = append(list, word)
			}
		}
		w.freeze(1)
		p := text(3000)
		places := w.finds(p)
		for _, word := range list {
			for at := 0; len(word) >= w.least; at++ {
				i := bytes.Index(p[at:], word)
				if i < 0 {
					break
				}
				if at += i; !slices.Contains(places, at) {
					t.Fatalf("%q at %d is not found", word, at)
				}
			}
		}
	}
}

// TestWordsConcurrent is for the race detector.
func TestWordsConcurrent(t *testing.T) {
	w := newWords(newKeyring([KeySize]byte{}))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				word := fmt.Appendf(nil, "word-%d-%d", i%100, g)
				w.add(word)
				if !w.has(word) && len(word) >= minWord {
					t.Errorf("%s is lost", word)
				}
			}
		})
	}
	wg.Wait()
	w.freeze(1)
	for range 4 {
		wg.Go(func() {
			if _, ok := w.find([]byte("---word-99-3---")); !ok {
				t.Error("not found")
			}
		})
	}
	wg.Wait()
}

func manyWords(n int) *words {
	w := newWords(newKeyring([KeySize]byte{}))
	for i := range n {
		w.add(fmt.Appendf(nil, "IMG_2024%08d.jpeg", i*7919%n))
	}
	w.freeze(1 << 30)
	return w
}

func BenchmarkWordsAdd(b *testing.B) {
	list := make([][]byte, 1<<16)
	for i := range list {
		list[i] = fmt.Appendf(nil, "%08x-file-name", uint32(i)*2654435761)
	}
	w := newWords(newKeyring([KeySize]byte{}))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.add(list[i%len(list)])
	}
}

// BenchmarkWordsFind searches 1 MiB for a million words.
func BenchmarkWordsFind(b *testing.B) {
	w := newWords(newKeyring([KeySize]byte{}))
	r := rand.New(rand.NewPCG(1, 2))
	word := func(b []byte) {
		for i := range b {
			b[i] = lettersAndDigits[r.IntN(len(lettersAndDigits))]
		}
	}
	name := make([]byte, 20)
	for range 1_000_000 {
		word(name)
		w.add(name)
	}
	w.freeze(1 << 30)
	names := make([]byte, 1<<20)
	word(names)
	for i := 0; i+8 < len(names); i += 28 {
		copy(names[i:], []byte{1, 2, 3, 0, 28, 0, 20, 1}) // as a directory entry has before its name
	}
	table := make([]byte, 1<<20)
	for i := 0; i < len(table); i += 256 {
		for j := range 100 {
			if j%4 < 2 {
				table[i+j] = byte(r.Uint32())
			}
		}
	}
	for name, p := range map[string][]byte{"names": names, "table": table, "zero": make([]byte, 1<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				w.finds(p)
			}
		})
	}
}

// BenchmarkWordsCommonPrefix searches for words that all begin alike, in a
// text full of their beginnings.
func BenchmarkWordsCommonPrefix(b *testing.B) {
	w := manyWords(100_000)
	p := bytes.Repeat([]byte("IMG_2024-"), 1<<17)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		w.finds(p)
	}
}
