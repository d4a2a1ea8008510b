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
