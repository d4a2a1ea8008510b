// Package zero finds the zero bytes in a buffer at the speed of memory.
package zero

import "bytes"

// IsZero reports whether every byte of b is zero. An empty b is.
func IsZero(b []byte) bool {
	// A buffer is zero if its first byte is and each byte equals the next:
	// that is one memory comparison, which the runtime does with vectors.
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// NextData returns the bounds [start, end) of the first run at or after off of
// units that are not all zero, where units are unit bytes long and counted
// from the start of b; the last may be short. off is a multiple of unit.
// Where there is none, both are len(b).
func NextData(b []byte, off, unit int) (start, end int) {
	for start = off; start < len(b); start += unit {
		if !IsZero(b[start:min(start+unit, len(b))]) {
			break
		}
	}
	if start >= len(b) {
		return len(b), len(b)
	}
	for end = start + unit; end < len(b); end += unit {
		if IsZero(b[end:min(end+unit, len(b))]) {
			return start, end
		}
	}
	return start, len(b)
}
