package ext_test

import (
	"testing"
	"unicode"

	"golang.org/x/text/unicode/rangetable"

	"e2qcow/ext"
)

// TestCasefold compares spellings of a name that a casefolded directory takes
// for the same, and such as it does not.
func TestCasefold(t *testing.T) {
	fold := func(s string) string { return string(ext.Casefold(nil, []byte(s))) }
	for _, c := range []struct{ name, want string }{
		{"ABC-1.Txt", "abc-1.txt"},
		{"\u00c4", "a\u0308"},      // composed, upper case
		{"A\u0308", "a\u0308"},     // decomposed
		{"Stra\u00dfe", "strasse"}, // full folding
		{"a\u00adb\u200dc", "abc"}, // ignorable
		{"\u1e9e", "ss"},
		{"caf\xe9", "caf\xe9"},             // no UTF-8
		{"A\U0001fae8", "A\U0001fae8"},     // assigned after Unicode 12.1
		{"a\u0307\u0323", "a\u0323\u0307"}, // canonical order of marks
		{"\uac01", "\u1100\u1161\u11a8"},   // Hangul
		{"\u212b\u2126", "a\u030a\u03c9"},  // singletons
		{"\u01c4", "\u01c6"},               // a digraph has no canonical parts
	} {
		if got := fold(c.name); got != c.want {
			t.Errorf("%q folds to %q, want %q", c.name, got, c.want)
		}
	}
}

// TestIgnorable compares what is ignored with the derivation that Unicode gives
// for Default_Ignorable_Code_Point.
func TestIgnorable(t *testing.T) {
	assigned := rangetable.Assigned("12.0.0")
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if !unicode.Is(assigned, r) || 0xD800 <= r && r < 0xE000 {
			continue
		}
		want := unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Cf, unicode.Variation_Selector) &&
			!unicode.In(r, unicode.White_Space, unicode.Prepended_Concatenation_Mark) &&
			(r < 0xFFF9 || r > 0xFFFB) && (r < 0x13430 || r > 0x13440)
		folded := ext.Casefold(nil, []byte("a"+string(r)+"b"))
		if got := string(folded) == "ab"; got != want {
			t.Errorf("%U is ignored: %t, want %t", r, got, want)
		}
	}
}
