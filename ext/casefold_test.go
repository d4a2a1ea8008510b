package ext_test

import (
	"testing"

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
