package ext

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"
)

// A directory that ignores case hashes a name in the form that all its
// spellings share: full case folding, canonical decomposition, and no character
// that is ignorable by default. The kernel's tables (fs/unicode) are those of
// Unicode 12.1; a name with another character is no name to them, and hashed as
// its bytes are.

// fold12 holds the characters of Unicode 12.1. The library has the table of
// 12.0, to which 12.1 added one character.
var fold12 = rangetable.Merge(rangetable.Assigned("12.0.0"), rangetable.New('\u32ff'))

// Casefold appends the form of a name that a casefolded directory hashes to
// dst, and returns it. Names that the kernel takes for no UTF-8 are appended as
// they are.
func Casefold(dst, name []byte) []byte {
	ascii := true
	for _, c := range name {
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		for _, c := range name {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
		}
		return dst
	}
	if !utf8.Valid(name) {
		return append(dst, name...)
	}
	kept := make([]byte, 0, len(name))
	for _, r := range string(name) {
		switch {
		case !unicode.Is(fold12, r):
			return append(dst, name...)
		case !ignorable(r):
			kept = utf8.AppendRune(kept, r)
		}
	}
	folded := cases.Fold().Bytes(norm.NFD.Bytes(kept))
	return norm.NFD.Append(dst, folded...)
}

// ignorable reports whether a character is ignorable by default: the property
// Default_Ignorable_Code_Point of Unicode 12.1, for assigned characters.
func ignorable(r rune) bool {
	switch {
	case r == 0xAD, r == 0x34F, r == 0x61C, r == 0x3164, r == 0xFEFF, r == 0xFFA0,
		0x115F <= r && r <= 0x1160, 0x17B4 <= r && r <= 0x17B5, 0x180B <= r && r <= 0x180E,
		0x200B <= r && r <= 0x200F, 0x202A <= r && r <= 0x202E, 0x2060 <= r && r <= 0x206F,
		0xFE00 <= r && r <= 0xFE0F, 0xFFF0 <= r && r <= 0xFFF8, 0x1BCA0 <= r && r <= 0x1BCA3,
		0x1D173 <= r && r <= 0x1D17A, 0xE0000 <= r && r <= 0xE0FFF:
		return true
	}
	return false
}
