package scrub

import (
	"testing"

	"e2qcow/ext"
)

func TestTextual(t *testing.T) {
	for text, want := range map[string]bool{
		"abcd": true, "abc\x01": true, "\x01abc": true, "a\x00b\x00": true, "\x04\x00\x05\x00": false, "ab\x00\x00": false,
		"ab\x01c": false, "\xd0\xb4\xd0\xb0": true, "4\x040\x04": true, "\xff\xe3\x0bT": false, "\xe4\x46\xa4\xfe": false, "": false, "\xe9": false,
	} {
		if got := textual([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestFewIllegal has numbers of blocks that there are not stay where they are a
// mistake, and be others, as impossible, where they may be contents.
func TestFewIllegal(t *testing.T) {
	const blocks = 100
	text := func(s string) []uint32 {
		var words []uint32
		for len(s) >= 4 {
			words, s = append(words, le.Uint32([]byte(s))), s[4:]
		}
		return words
	}
	for _, c := range []struct {
		name  string
		words []uint32
		stay  bool
	}{
		{"one", []uint32{20, 21, 0x85000219, 22}, true},
		{"one of text", []uint32{20, 21, text("word")[0], 22}, true},
		{"small ones", []uint32{0, 101, 103, 234523, 0, 0, 200}, true},
		{"erased", []uint32{0xFFFFFFFF, 0xFFFF0000, 0xFFFF0000, 0xFF}, true},
		{"two", []uint32{20, 0x85000219, 0xFE0046E4, 22}, true},
		{"two of text", text("two word"), false},
		{"text", text("some words that are text"), false},
		{"text in UTF-32", []uint32{'w', 'o', 'r', 'd', 's'}, false},
		{"text in UTF-16", text("w\x00o\x00r\x00d\x00"), false},
		{"binary", []uint32{0x85000219, 0xFE0046E4, 0x9B108E38, 0xCF977871, 0xF5E80E38}, false},
	} {
		s := newScrubber(false)
		s.lim.blocks = blocks
		b := make([]byte, 4*len(c.words))
		for i, w := range c.words {
			le.PutUint32(b[4*i:], w)
		}
		s.pointers(s.keys.get(), b, true)
		for i, w := range c.words {
			got := le.Uint32(b[4*i:])
			if plain := plainBytes(le.AppendUint32(nil, w)); w >= blocks && !plain && (got == w) != c.stay {
				t.Errorf("%s: %#x became %#x", c.name, w, got)
			}
			if (got >= blocks) != (w >= blocks) {
				t.Errorf("%s: %#x became %#x, beyond the end is only one of them", c.name, w, got)
			}
		}
	}
}

// TestFewInodeNumbers does so with numbers of inodes in a directory.
func TestFewInodeNumbers(t *testing.T) {
	for _, c := range []struct {
		inodes []uint32
		stay   bool
	}{
		{[]uint32{19857}, true},
		{[]uint32{0x85000219, 0xFE0046E4}, true},
		{[]uint32{le.Uint32([]byte("word"))}, false},
		{[]uint32{0x85000219, 0xFE0046E4, 0x9B108E38}, false},
	} {
		s := newScrubber(false)
		s.shape = shape{blockSize: 1024, inodes: 1000}
		s.lim.inodes = 1000
		block := make([]byte, 1024)
		at := 0
		for _, ino := range c.inodes {
			le.PutUint32(block[at:], ino)
			le.PutUint16(block[at+4:], 12)
			block[at+6] = 1
			block[at+8] = 'n'
			at += 12
		}
		le.PutUint16(block[at-12+4:], uint16(1024-at+12))
		s.directoryBlock(s.keys.get(), 7, block)
		for i, ino := range c.inodes {
			if got := le.Uint32(block[12*i:]); (got == ino) != c.stay || got <= 1000 {
				t.Errorf("%#x became %#x", ino, got)
			}
		}
	}
}

// valueInode returns the inode of an attribute's value: its times are a hash and
// a count.
func valueInode() ext.Inode {
	in := make(ext.Inode, 256)
	le.PutUint16(in, ext.ModeRegular|0o600)
	le.PutUint32(in[0x04:], 4096)
	le.PutUint32(in[0x08:], 0xC503DC2A) // the hash
	le.PutUint32(in[0x10:], 1700000000)
	le.PutUint16(in[0x1A:], 1)
	le.PutUint32(in[0x1C:], 8)
	le.PutUint32(in[0x20:], ext.FlagEaInode)
	le.PutUint32(in[0x24:], 2) // how many attributes have the value
	le.PutUint32(in[ext.IBlockOffset:], 3000)
	le.PutUint16(in[inodeExtraSizeOffset:], 32)
	le.PutUint32(in[0x8C:], 0x36DC9D) // of i_atime
	return in
}

// TestValueInode has the count of an attribute's value stay, and its hash if it
// is that of a value that is known. Of another value nothing tells.
func TestValueInode(t *testing.T) {
	for _, sums := range []bool{false, true} {
		for _, known := range []bool{false, true} {
			s := newScrubber(false)
			s.sums = sums
			s.lim.lastWrite = 1700000000
			const ino = 16
			old, in := valueInode(), valueInode()
			s.values = valueHashes{}
			if known {
				s.values[ino] = []valueHash{{stored: 0xC503DC2A, change: 0x01010101}}
			}
			s.inode(s.keys.get(), ino, in)
			hash := le.Uint32(in[0x08:])
			if want := uint32(0xC503DC2A ^ 0x01010101); known && hash != want || hash == 0xC503DC2A {
				t.Errorf("checksums %v, known %v: the hash is %#x", sums, known, hash)
			}
			for _, at := range []int{0x0C, 0x24, 0x04, 0x1C} {
				if got, want := le.Uint32(in[at:]), le.Uint32(old[at:]); got != want {
					t.Errorf("checksums %v, known %v: at %#x is %#x, was %#x", sums, known, at, got, want)
				}
			}
			if in[0x8C]&epochBits != old[0x8C]&epochBits {
				t.Errorf("checksums %v: the epoch is %d", sums, in[0x8C]&epochBits)
			}
		}
	}
}

// TestNearTimes has the times of a sound inode without a checksum stay, though
// all their bytes are letters: in a text, words in a row are not as alike.
func TestNearTimes(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes string // i_atime, i_ctime and i_mtime
		stay  bool
	}{
		{"times", "Xw&-Yw&-Yw&-", true},
		{"text", "twelve_bytes", false},
		{"UTF-16", "B\x00e\x002\x00f\x00a\x00b\x00", false},
	} {
		s := newScrubber(false)
		in := make(ext.Inode, 128)
		le.PutUint16(in, ext.ModeRegular|0o600)
		le.PutUint16(in[0x1A:], 1)
		copy(in[firstTime:], c.bytes)
		s.inode(s.keys.get(), 20, in)
		if got := string(in[firstTime : lastTime+4]); (got == c.bytes) != c.stay {
			t.Errorf("%s: %q became %q", c.name, c.bytes, got)
		}
	}
}
