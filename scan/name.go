package scan

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// A Name is a name or a path as it stands on the disk: any bytes.
type Name string

// String returns the name with what is not printable escaped, and backslashes
// doubled, as in a string of Go: it says which bytes the name has.
func (n Name) String() string {
	q := make([]byte, 0, len(n))
	for i := 0; i < len(n); {
		r, size := utf8.DecodeRuneInString(string(n[i:]))
		switch {
		case r == utf8.RuneError && size == 1:
			const digits = "0123456789abcdef"
			q = append(q, '\\', 'x', digits[n[i]>>4], digits[n[i]&15])
		case r == '\\':
			q = append(q, '\\', '\\')
		case r == '"' || unicode.IsPrint(r):
			q = append(q, n[i:i+size]...)
		default:
			e := strconv.QuoteRuneToASCII(r)
			q = append(q, e[1:len(e)-1]...)
		}
		i += size
	}
	return string(q)
}

// MarshalText returns what String does.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
