package scrub

import (
	"bytes"
	"testing"
)

// TestUntext finds text among numbers at every place and of every length, and
// leaves numbers alone.
func TestUntext(t *testing.T) {
	s := &scrubber{keys: newKeyring([KeySize]byte{1}), words: newWords()}
	d := s.keys.get()
	const text = "The quick brown fox jumps over the lazy dog, twice."
	for at := range 60 {
		for n := range len(text) + 1 {
			b := bytes.Repeat([]byte{0, 1, 0xFF}, 50)
			copy(b[at:], text[:n])
			old := bytes.Clone(b)
			s.untext(d, b)
			found := !bytes.Equal(b, old)
			if want := n >= minTextInNumbers; found != want {
				t.Fatalf("%d bytes of text at %d: found %v", n, at, found)
			}
			copy(b[at:], old[at:at+n])
			if !bytes.Equal(b, old) {
				t.Fatalf("%d bytes of text at %d: more is changed", n, at)
			}
		}
	}
}
