package scrub

import (
	"bytes"
	"testing"
)

// Nothing of what was in a block before stays behind the entries of a node,
// wherever its header says that there is room to.
func TestExtentBlockUnused(t *testing.T) {
	const entries, used = 2, 12 + 2*12
	s := newScrubber(false)
	for _, room := range []uint16{0, 1, 2, 3, 40, 83, 84, 85, 1 << 15} {
		block := bytes.Repeat([]byte("private "), 128)
		le.PutUint16(block, 0xF30A)
		le.PutUint16(block[2:], entries)
		le.PutUint16(block[4:], room)
		le.PutUint16(block[6:], 0)
		old := bytes.Clone(block)
		s.extentBlock(s.keys.get(), 7, block)
		if !bytes.Equal(block[:8], old[:8]) || le.Uint32(block[8:]) != 0 {
			t.Errorf("room for %d: the header is %x", room, block[:12])
		}
		if bytes.Contains(block, []byte("vate")) {
			t.Errorf("room for %d: entries are left in %q", room, block)
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
