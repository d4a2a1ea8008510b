package advise

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// Count returns "1 block", "1,234 blocks": a number, and the thing that is
// counted in singular or plural.
func Count[T int | int64 | uint | uint64](n T, what string) string {
	return Comma(n) + " " + english.PluralWord(int(min(n, 2)), what, "")
}

// Comma returns a number with commas between thousands.
func Comma[T int | int64 | uint | uint64](n T) string {
	return humanize.Comma(int64(min(uint64(n), math.MaxInt64)))
}

// Size returns the size of n pieces of unit bytes for people, as "4.0 GiB".
func Size(n, unit uint64) string {
	if unit == 0 || n > (1<<64-1)/unit {
		return "of impossible size"
	}
	return humanize.IBytes(n * unit)
}

// Exact returns a number of bytes rounded for people, and the number itself.
func Exact(n int64) string {
	return fmt.Sprintf("%s (%s)", humanize.IBytes(uint64(max(n, 0))), ExactBytes(n))
}

// ExactBytes returns a number of bytes as offsets are written, without commas.
func ExactBytes(n int64) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(min(n, 2)), "byte", ""))
}

// Printable escapes what would change the line or the terminal rather than
// show itself, and bytes that are no text.
func Printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
