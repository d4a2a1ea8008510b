package scrub

import (
	"bytes"

	"e2qcow/ext"
)

// superblockBlock scrubs a block that holds a superblock, or where a copy of
// one may stand.
func (s *scrubber) superblockBlock(d *drawer, n uint64, block []byte) {
	at := 0
	if n == 0 && len(block) > ext.SuperblockOffset {
		at = ext.SuperblockOffset
	}
	clear(block[:at]) // what a boot loader has there
	if len(block)-at < ext.SuperblockSize {
		clear(block)
		return
	}
	s.superblock(d, block[at:at+ext.SuperblockSize])
	clear(block[at+ext.SuperblockSize:])
}

// superblock scrubs a superblock. Where none stands all is zero.
func (s *scrubber) superblock(d *drawer, b []byte) {
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		clear(b)
		return
	}
	before := ext.SuperblockChecksum(b)
	s.text(d, ext.VolumeName(b), s.name)
	s.text(d, ext.LastMounted(b), s.path)
	clear(ext.MountOptions(b)) // a kernel would try to follow drawn ones
	for _, f := range ext.ErrorFunctions(b) {
		if !identifier(f) {
			clear(f)
		}
	}
	clear(ext.SuperblockReserved(b))
	if s.seeds.uuid {
		drawIdentity(d, b)
	} else if s.strict {
		s.text(d, ext.PasswordSalt(b), s.value)
	}
	if sb.HasRoCompat(ext.RoCompatMetadataCsum) {
		xor32(ext.SuperblockChecksumField(b), before^ext.SuperblockChecksum(b))
	}
}

// superblockWords adds the words in a superblock.
func (x *Index) superblockWords(b []byte) {
	x.words.add(untilNUL(ext.VolumeName(b)))
	x.pathWords(untilNUL(ext.LastMounted(b)))
	x.words.add(untilNUL(ext.MountOptions(b)))
}

// text replaces a text by what draw makes of it, and clears what is behind its
// first NUL.
func (s *scrubber) text(d *drawer, field []byte, draw func(*drawer, []byte)) {
	t := untilNUL(field)
	draw(d, t)
	clear(field[len(t):])
}

func untilNUL(b []byte) []byte {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		return b[:n]
	}
	return b
}

// identifier tells whether a field holds the name of a function and nothing
// behind it.
func identifier(field []byte) bool {
	t := untilNUL(field)
	for _, c := range t {
		if c != '_' && c != '.' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(bytes.TrimLeft(field[len(t):], "\x00")) == 0
}

// xor32 changes a checksum by a difference.
func xor32(b []byte, diff uint32) { le.PutUint32(b, le.Uint32(b)^diff) }

// mmp scrubs the block of multi-mount protection: the names of the node and of
// the device that had it mounted.
func (s *scrubber) mmp(d *drawer, block []byte) {
	if len(block) < ext.MMPSize || !ext.IsMMP(block) {
		clear(block)
		return
	}
	before := ext.MMPChecksum(0, block)
	s.text(d, ext.MMPNodeName(block), s.name)
	s.text(d, ext.MMPDeviceName(block), s.path)
	clear(ext.MMPPadding(block))
	clear(block[ext.MMPSize:])
	if s.sums {
		xor32(ext.MMPChecksumField(block), before^ext.MMPChecksum(s.seeds.block, block))
	}
}
