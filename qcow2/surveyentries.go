package qcow2

import "encoding/binary"

// eachEntry calls f with the entries of a part of an L2 table that are not zero.
func (h *Header) eachEntry(b []byte, at, guest int64, f func(e l2Entry)) {
	size := 1 << h.l2EntryBits()
	for i := 0; i < len(b); i += size {
		e := l2Entry{at: at + int64(i), guest: guest, entry: binary.BigEndian.Uint64(b[i:])}
		if size == 16 {
			e.bitmap = binary.BigEndian.Uint64(b[i+8:])
		}
		if e.entry != 0 || e.bitmap != 0 {
			f(e)
		}
		guest += h.ClusterSize()
	}
}

// longestFile is behind the end of every file: text that is taken for an entry
// leads there.
const longestFile = 1 << 50

// An entryForm is what an L2 entry looks like.
type entryForm int

const (
	malformed  entryForm = iota
	beyondFile           // well-formed, but what it leads to is behind the end of the file
	noCluster            // it leads nowhere: zero
	plainForm
	packedForm
)

// entryForm returns what an L2 entry looks like in a file of size bytes, and why
// it is not good.
func (h *Header) entryForm(e l2Entry, fileSize int64) (entryForm, string) {
	size := h.ClusterSize()
	if e.entry&entryCompressed != 0 {
		off, _ := packedPlace(e.entry, h.ClusterBits)
		switch {
		case e.entry&entryCopied != 0:
			return malformed, "the compressed cluster is marked as copied"
		case e.bitmap != 0:
			return malformed, "the compressed cluster has subclusters"
		case off < size:
			return malformed, "the compressed cluster would be in the header"
		case off >= longestFile:
			return malformed, "the compressed cluster lies beyond any file"
		case off >= fileSize:
			return beyondFile, "the compressed cluster lies beyond the end of the file"
		}
		return packedForm, ""
	}
	host := int64(e.entry & entryOffset)
	alloc, zeros := uint32(e.bitmap), uint32(e.bitmap>>32)
	isZero := e.entry&entryZero != 0 && !h.ExtendedL2()
	switch {
	case e.entry&l2Reserved != 0:
		return malformed, "reserved bits are set"
	case host%size != 0:
		return malformed, "the cluster is not aligned"
	case host >= longestFile:
		return malformed, "the cluster lies beyond any file"
	case isZero && h.Version == 2:
		return malformed, "a zero flag in version 2"
	case alloc&zeros != 0:
		return malformed, "subclusters are both allocated and zero"
	case host == 0 && (e.entry&entryCopied != 0 || alloc != 0):
		return malformed, "the cluster is in use and nowhere"
	case host == 0, isZero && host >= fileSize:
		return noCluster, ""
	case host >= fileSize:
		return beyondFile, "the cluster lies beyond the end of the file"
	}
	return plainForm, ""
}

// malformed returns how many of the L2 entries in two numbers of a table cannot be
// good.
func (h *Header) malformed(first, second uint64, fileSize int64) (n int) {
	entries := []l2Entry{{entry: first}, {entry: second}}
	if h.ExtendedL2() {
		entries = []l2Entry{{entry: first, bitmap: second}}
	}
	for _, e := range entries {
		if form, _ := h.entryForm(e, fileSize); form == malformed || form == beyondFile {
			n++
		}
	}
	return n
}

// judgeEntries reports whether a sector may be of an L2 table in a file of size
// bytes, and whether it certainly is: numbers in a file can look like entries, but
// not like entries with flags.
func (h *Header) judgeEntries(b []byte, fileSize int64) (may, certainly bool) {
	good, bad, flagged := 0, 0, 0
	h.eachEntry(b, 0, 0, func(e l2Entry) {
		switch form, _ := h.entryForm(e, fileSize); {
		case form == malformed:
			bad++
			return
		case form == packedForm, form == plainForm && (e.entry&entryCopied != 0 || h.Snapshots > 0):
			flagged++
		}
		good++
	})
	return bad <= maxMalformed || bad <= good, flagged > 0 && 2*flagged >= good
}
