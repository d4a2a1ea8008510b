package move

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A mark fills the sector that would hold the magic number of a superblock. It
// begins with the magic and a text for people. The numbers follow, at a place
// where no program looks for the magic number of a filesystem.
const (
	markSize  = 512
	markMagic = "e2qcow move\n"

	markTextAt = 16
	markIDAt   = 400
	markFromAt = 416
	markToAt   = 424
	markLenAt  = 432
	markSumAt  = 440 // crc32c of all that comes before
)

// A Mark stands on a disk in place of a superblock while a filesystem is in two
// pieces.
type Mark struct {
	From, To, Size int64 // in bytes
	id             [16]byte
}

// mark returns the mark of the plan.
func (p *Plan) mark() [markSize]byte {
	var b [markSize]byte
	copy(b[:], markMagic)
	text := fmt.Sprintf("A filesystem of %d bytes is being moved from byte %d to byte %d of this disk.\n"+
		"A part of it is here, a part there: do not mount or repair it.\n"+
		"e2qcow -ra --journal=FILE DISK goes on with the move.\n", p.Size, p.From, p.To)
	copy(b[markTextAt:markIDAt], text)
	copy(b[markIDAt:], p.id[:])
	le := binary.LittleEndian
	le.PutUint64(b[markFromAt:], uint64(p.From))
	le.PutUint64(b[markToAt:], uint64(p.To))
	le.PutUint64(b[markLenAt:], uint64(p.Size))
	le.PutUint32(b[markSumAt:], crc32.Checksum(b[:markSumAt], castagnoli))
	return b
}

// decodeMark returns the mark that b holds.
func decodeMark(b [markSize]byte) (Mark, bool) {
	le := binary.LittleEndian
	if string(b[:len(markMagic)]) != markMagic || le.Uint32(b[markSumAt:]) != crc32.Checksum(b[:markSumAt], castagnoli) {
		return Mark{}, false
	}
	m := Mark{From: int64(le.Uint64(b[markFromAt:])), To: int64(le.Uint64(b[markToAt:])), Size: int64(le.Uint64(b[markLenAt:]))}
	copy(m.id[:], b[markIDAt:])
	return m, true
}

// FindMark returns the mark of a filesystem that would begin at a byte of a
// disk. What cannot be read holds none.
func FindMark(d io.ReaderAt, at int64) (Mark, bool) {
	var b [markSize]byte
	if err := readFull(d, b[:], at+superAt); err != nil {
		return Mark{}, false
	}
	return decodeMark(b)
}

// reaches reports whether a window before the k-th is written over the mark at
// the old place.
func (p *Plan) reaches(k int64) bool {
	first := p.From - p.To + superAt // as a byte of the filesystem at the new place
	for _, w := range []int64{p.windowOf(max(first, 0)), p.windowOf(min(max(first+markSize-1, 0), p.Size-1))} {
		if w < k && p.touches(w) {
			return true
		}
	}
	return false
}

// touches reports whether the k-th window is written over the mark at the old
// place.
func (p *Plan) touches(k int64) bool {
	if k < 0 || k >= p.windows() {
		return false
	}
	first := p.From - p.To + superAt
	found := false
	_ = p.parts(k, func(start, end int64) error {
		found = found || start < first+markSize && first < end
		return nil
	})
	return found
}

// marked returns the window that the mark at the new place is written with.
func (p *Plan) marked() int64 { return p.windowOf(superAt) }
