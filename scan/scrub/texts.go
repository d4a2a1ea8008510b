package scrub

import (
	"iter"
	"unicode/utf8"
)

// minText is how long what may be a text has to be not to be a number, in bytes.
const minText = 5

// texts yields where the parts of b begin and end that may be texts, in UTF-8 or
// in UTF-16 at even offsets.
func texts(b []byte) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		start := 0
		for i := 0; i <= len(b); {
			if i == start {
				i = skipNoText(b, i)
				start = i
			}
			r, n := utf8.DecodeRune(b[i:])
			if n > 0 && (r >= ' ' && r <= '~' || r >= firstBeyondASCII && !(r == utf8.RuneError && n == 1)) {
				i += n
				continue
			}
			if i-start >= minText && !yield(start, i) {
				return
			}
			i += max(n, 1)
			start = i
		}
		start = 0
		for i := 0; ; i += 2 {
			for i == start && i+8 <= len(b) && le.Uint64(b[i:]) == 0 {
				i += 8
				start = i
			}
			if i+2 <= len(b) && letter16(le.Uint16(b[i:])) && (i == start || b[i+1] == b[i-1]) {
				continue
			}
			if i-start >= minText && !yield(start, i) {
				return
			}
			if start = i; i+2 > len(b) {
				return
			}
			if !letter16(le.Uint16(b[i:])) {
				start = i + 2
			}
		}
	}
}

// skipNoText returns where behind i the first minText bytes begin that all may be
// of a text, or what is left of b where there are none.
func skipNoText(b []byte, i int) int {
	for i+minText <= len(b) {
		k := minText - 1
		for k >= 0 && (b[i+k] >= ' ' && b[i+k] <= '~' || b[i+k] >= utf8.RuneSelf) {
			k--
		}
		if k < 0 {
			break
		}
		i += k + 1
	}
	return i
}
