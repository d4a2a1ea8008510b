package scrub

import (
	"unicode/utf8"
)

// e2fsck prints numbers that cannot be. Damage to a structure makes few of its
// numbers such, and contents of a file that lie over the structure make most.
// So a number that cannot be stays where it is one of few, unless it may be a
// piece of a text.

// maxLone is how many numbers of a structure cannot be, if these stay.
const maxLone = 2

// smallNumber bounds the numbers that have no room for more than two letters.
const smallNumber = 1 << 20

// textual tells whether three letters or more, or two in UTF-16, stand in the
// bytes of a number.
func textual(b []byte) bool {
	const letters = 3
	for i, run := 0, 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r < ' ' || r > '~' && r < firstBeyondASCII || r == utf8.RuneError && n == 1 {
			run = 0
		} else if run += n; run >= letters {
			return true
		}
		i += n
	}
	for i := 0; i+4 <= len(b); i += 2 {
		if letter16(le.Uint16(b[i:])) && letter16(le.Uint16(b[i+2:])) && b[i+1] == b[i+3] {
			return true
		}
	}
	return false
}

// firstBeyondASCII is the first character behind the control characters behind
// ASCII, firstSymbol the first behind those of the alphabets.
const (
	firstBeyondASCII = 0xA0
	firstSymbol      = 0x2000
)

// letter16 tells whether a unit of UTF-16 is a letter of an alphabet.
func letter16(c uint16) bool {
	return c >= ' ' && c <= '~' || c >= firstBeyondASCII && c < firstSymbol
}

// letter32 tells whether a number may be a letter in UTF-32, or two in ASCII.
func letter32(v uint64) bool { return v >= ' ' && v < 1<<16 }

// staysAlone tells whether a number that cannot be stays, if it is one of n such
// numbers in its structure. b is its bytes.
func staysAlone(v uint64, b []byte, n int) bool {
	return n <= maxLone && (v < smallNumber && n == 1 || !textual(b))
}
