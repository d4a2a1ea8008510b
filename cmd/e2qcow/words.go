package main

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

// count returns a number of things, which what is one of.
func count[T int | int64 | uint | uint64](n T, what string) string {
	return comma(n) + " " + english.PluralWord(int(min(n, 2)), what, "")
}

// comma returns a number with commas.
func comma[T int | int64 | uint | uint64](n T) string {
	return humanize.Comma(int64(min(uint64(n), math.MaxInt64)))
}

// size returns n units of bytes for people, without overflow.
func size(n, unit uint64) string {
	if unit == 0 || n > (1<<64-1)/unit {
		return "of impossible size"
	}
	return humanize.IBytes(n * unit)
}

// exact returns a number of bytes for people and as it is.
func exact(n int64) string {
	return fmt.Sprintf("%s (%s)", humanize.IBytes(uint64(max(n, 0))), exactBytes(n))
}

// exactBytes returns a number of bytes as offsets are written, without commas.
func exactBytes(n int64) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(min(n, 2)), "byte", ""))
}

// printable escapes what would change the line or the terminal rather than
// show itself, and bytes that are no text.
func printable(s string) string {
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
