package scrub

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestWordsFind(t *testing.T) {
	const long = lettersAndDigits + "-and-twenty-more" // longer than maxWord
	w := newWords()
	for _, word := range []string{"report-2024", "report-2024.pdf", "kätzchen", "short", "aaaaaaaaaaaaaaaa", long, "one\x00two-word-value\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08"} {
		w.add([]byte(word))
	}
	w.freeze(1)
	for _, test := range []struct {
		in   string
		want string // the word found, "" for none
	}{
		{"", ""},
		{"report-202", ""},
		{"report-2024", "report-2024"},
		{"xxreport-2024.pdf", "report-2024"},
		{"xxreport-202report-2024", "report-2024"},
		{"\x00\x00\x00kätzchen\x00", "kätzchen"},
		{"\x01\x00kätzchen", "kätzchen"},
		{"short", ""},
		{"aaaaaaaaaaaaaaaaaaaa", ""},
		{"--" + long[:maxWord], long[:maxWord]},
		{long[:maxWord-1], ""},
		{"--" + long[maxWord:], long[maxWord:]},
		{"-two-word-value-", "two-word-value"},
		{"one\x00two", ""},
		{"\x01\x02\x03\x04\x05\x06\x07\x08", "\x01\x02\x03\x04\x05\x06\x07\x08"},
	} {
		off, n, ok := w.find([]byte(test.in))
		if got := test.in[off : off+n]; ok != (test.want != "") || got != test.want {
			t.Errorf("find(%q) = %q, %v; want %q", test.in, got, ok, test.want)
		}
	}
}

func TestWordsHas(t *testing.T) {
	w := newWords()
	w.add([]byte("report-2024"))
	w.add([]byte("0000000000"))
	for word, want := range map[string]bool{"report-2024": true, "report-2025": false, "report-202": false, "0000000000": false, "": false} {
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
		w := newWords()
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
		w := newWords()
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
		want := -1
		for _, word := range list {
			if i := bytes.Index(p, word); len(word) >= w.least && i >= 0 && (want < 0 || i < want) {
				want = i
			}
		}
		off, n, ok := w.find(p)
		if ok != (want >= 0) || ok && (off != want || !slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, p[off:off+n]) })) {
			t.Fatalf("find = %d, %d, %v, want %d", off, n, ok, want)
		}
	}
}

// TestWordsConcurrent is for the race detector.
func TestWordsConcurrent(t *testing.T) {
	w := newWords()
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
			if _, _, ok := w.find([]byte("---word-99-3---")); !ok {
				t.Error("not found")
			}
		})
	}
	wg.Wait()
}

func manyWords(n int) *words {
	w := newWords()
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
	w := newWords()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.add(list[i%len(list)])
	}
}

// BenchmarkWordsFind searches 1 MiB for a million words.
func BenchmarkWordsFind(b *testing.B) {
	w := newWords()
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
				if _, _, ok := w.find(p); ok {
					b.Fatal("found")
				}
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
		if _, _, ok := w.find(p); ok {
			b.Fatal("found")
		}
	}
}
