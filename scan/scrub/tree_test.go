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

// Nothing of what was in a block before stays behind the entries of a node,
// wherever its header says that there is room to.
func TestExtentBlockUnused(t *testing.T) {
	const entries, used = 2, 12 + 2*12
	s := &scrubber{shape: shape{blockSize: 1024}, keys: newKeyring([KeySize]byte{1}), words: newWords(), sums: true}
	for _, room := range []uint16{0, 1, 2, 3, 40, 83, 84, 85, 1 << 15} {
		block := bytes.Repeat([]byte("private "), 128)
		le.PutUint16(block, 0xF30A)
		le.PutUint16(block[2:], entries)
		le.PutUint16(block[4:], room)
		le.PutUint16(block[6:], 0)
		old := bytes.Clone(block)
		s.extentBlock(block)
		if !bytes.Equal(block[:12], old[:12]) {
			t.Errorf("room for %d: the header is %x", room, block[:12])
		}
		tail := 12 + 12*max(int(room), entries)
		for at := used; at < len(block); at++ {
			if block[at] != 0 && (at < tail || at >= tail+4) {
				t.Errorf("room for %d: %q is left at %d", room, block[at:], at)
				break
			}
		}
	}
}
