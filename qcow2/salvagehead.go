package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"e2qcow/internal/zero"
)

// A head is the beginning of a damaged file, with the fields of the header
// mended that can be told from the others, and what that means for the rest.
type head struct {
	r     io.ReaderAt
	bytes []byte // in place of those of the file

	notes       []string
	declared    uint32 // entries of the L1 table, as the file has it
	l1Lost      bool   // the header does not say where the L1 table is
	noRefcounts bool
	backingLost bool // there is a backing file, but its name cannot be read
	// guessCompression says that the header contradicts itself about how
	// clusters are compressed.
	guessCompression bool
}

// ReadAt reads the file as it should be.
func (d *head) ReadAt(b []byte, off int64) (int, error) {
	if off < int64(len(d.bytes)) && int64(len(b)) <= int64(len(d.bytes))-off {
		return copy(b, d.bytes[off:]), nil
	}
	n, err := d.r.ReadAt(b, off)
	if off < int64(len(d.bytes)) {
		copy(b, d.bytes[off:])
	}
	return n, err
}

// note records what was mended.
func (d *head) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// mendHead reads the beginning of a file of size bytes. A field that cannot be
// mended stays as it is: readHeader refuses it.
func mendHead(ctx context.Context, r io.ReaderAt, size int64) (*head, error) {
	d := &head{r: r, bytes: make([]byte, min(size, 64<<10))}
	n, err := r.ReadAt(d.bytes, 0)
	if n < len(d.bytes) && !errors.Is(err, io.EOF) && n < headerSizeFull {
		return nil, fmt.Errorf("read qcow2 header: %w", unexpectedEOF(err))
	}
	clear(d.bytes[n:])
	be, b := binary.BigEndian, d.bytes
	if len(b) < headerSizeV2 || be.Uint32(b) != magic {
		return d, nil
	}
	version, bits := be.Uint32(b[4:]), be.Uint32(b[20:])
	if bits < minClusterBits || bits > maxClusterBits || version == 3 && len(b) < headerSizeV3 {
		return d, nil
	}
	h := &Header{Version: d.mendVersion(int(version)), ClusterBits: uint(bits)}
	if h.Version == 3 {
		d.mendV3(h)
		d.mendSubclusters(h, size)
	}
	d.mendTables(h, size)
	d.mendL1(ctx, h, size)
	d.mendRest(h)
	return d, nil
}

// mendVersion mends the version from the fields that only version 3 has. In a
// file of version 2 the header extensions are there, or zeros.
func (d *head) mendVersion(version int) int {
	be, b := binary.BigEndian, d.bytes
	if len(b) < headerSizeV3 {
		return version
	}
	order, length := be.Uint32(b[96:]), be.Uint32(b[100:])
	is := version
	switch {
	case version == 2 && be.Uint32(b[72:]) == 0 && order > 0 && order <= maxRefcountBits && (length == headerSizeV3 || length == headerSizeFull):
		is = 3
	case version == 3 && zero.IsZero(b[72:headerSizeV3]):
		is = 2
	}
	if is != version {
		d.note("the header is damaged: it has the fields of version %d, not %d", is, version)
		be.PutUint32(b[4:], uint32(is))
	}
	return is
}

// mendSubclusters finds out from L2 tables whether their entries have 16 bytes:
// otherwise half of the numbers in them are no entries.
func (d *head) mendSubclusters(h *Header, size int64) {
	be, b := binary.BigEndian, d.bytes
	if h.ClusterBits < 14 {
		return
	}
	const tables = 16
	l1 := make([]byte, max(1, min(be.Uint32(b[36:]), 8<<10))*8)
	t := &tableReader{r: d.r, size: size}
	_, _ = t.ReadAt(l1, int64(be.Uint64(b[40:])&entryOffset))
	other := *h
	other.IncompatibleFeatures ^= incompatExtendedL2
	bad, otherBad := 0, 0
	buf := make([]byte, 64<<10)
	for n := 0; len(l1) > 0 && n < tables; l1 = l1[8:] {
		entry := be.Uint64(l1)
		off := int64(entry & entryOffset)
		if off == 0 || off%h.ClusterSize() != 0 || off >= size || entry&entryCopied == 0 && be.Uint32(b[60:]) == 0 {
			continue
		}
		n++
		table := buf[:min(int64(len(buf)), h.ClusterSize())]
		_, _ = t.ReadAt(table, off)
		for ; len(table) > 0; table = table[16:] {
			first, second := be.Uint64(table), be.Uint64(table[8:])
			bad += h.malformed(first, second, size)
			otherBad += other.malformed(first, second, size)
		}
	}
	if bad > maxMalformed && 4*otherBad < bad {
		d.note("the header is damaged: it is wrong about subclusters, as the L2 tables show")
		h.IncompatibleFeatures = other.IncompatibleFeatures
		be.PutUint64(b[72:], h.IncompatibleFeatures)
	}
}

// mendV3 mends the fields of version 3.
func (d *head) mendV3(h *Header) {
	be, b := binary.BigEndian, d.bytes
	if order := be.Uint32(b[96:]); order > maxRefcountBits {
		d.note("the header is damaged: it has refcounts of 2^%d bits; refcounts are ignored", order)
		be.PutUint32(b[96:], 4)
		d.noRefcounts = true
	}
	h.IncompatibleFeatures = be.Uint64(b[72:])
	if h.ExtendedL2() && h.ClusterBits < 14 {
		d.note("the header is damaged: clusters of %d bytes cannot have subclusters, and are taken to have none", h.ClusterSize())
		h.IncompatibleFeatures &^= incompatExtendedL2
	}
	length := be.Uint32(b[100:])
	if length < headerSizeV3 || length%8 != 0 || int64(length) > min(h.ClusterSize(), int64(len(b))) {
		d.note("the header is damaged: it says that it has %d bytes", length)
		length = headerSizeV3
		if h.IncompatibleFeatures&incompatCompression != 0 {
			length = headerSizeFull
		}
		be.PutUint32(b[100:], length)
	}
	h.Length = length
	zstd := byte(0)
	if length > headerSizeV3 {
		zstd = b[headerSizeV3]
	}
	if marked := h.IncompatibleFeatures&incompatCompression != 0; zstd > 1 || marked != (zstd == 1) {
		d.note("the header is damaged: it contradicts itself about how clusters are compressed; the clusters tell")
		d.guessCompression = true
		h.IncompatibleFeatures &^= incompatCompression
		if length > headerSizeV3 {
			b[headerSizeV3] = 0
		}
	}
	be.PutUint64(b[72:], h.IncompatibleFeatures)
}

// mendTables mends size and place of the disk and of the tables.
func (d *head) mendTables(h *Header, fileSize int64) {
	be, b := binary.BigEndian, d.bytes
	cluster := uint64(h.ClusterSize())
	d.declared = be.Uint32(b[36:])
	size := be.Uint64(b[24:])
	if mapped := uint64(d.declared) << h.l2CoverBits(); size > maxVirtualSize(h) && d.declared > 0 && d.declared <= maxL1Size/8 {
		d.note("the header is damaged: it says that the disk has %d bytes; the disk is taken to have %d, which the L1 table maps", size, mapped)
		size = mapped
		be.PutUint64(b[24:], size)
	}
	if size <= maxVirtualSize(h) {
		h.Size = int64(size)
		need := uint32(h.l1Needed())
		if d.declared > maxL1Size/8 || d.declared < need {
			d.note("the header is damaged: it says that the L1 table has %d entries, while the disk needs %d", d.declared, need)
			be.PutUint32(b[36:], need)
			if d.declared > need {
				d.declared = need
			}
		}
	}
	if off := be.Uint64(b[40:]); off == 0 || off%cluster != 0 || off >= uint64(fileSize) {
		d.note("the header is damaged: it says that the L1 table is at %#x", off)
		be.PutUint64(b[40:], cluster)
		d.l1Lost = true
	}
	if off, n := be.Uint64(b[48:]), uint64(be.Uint32(b[56:])); off == 0 || n == 0 || off%cluster != 0 || off >= uint64(fileSize) || n*cluster > maxRefcountSize {
		d.note("the header is damaged: it says that the refcount table has %d clusters at %#x; refcounts are ignored", n, off)
		be.PutUint64(b[48:], 0)
		be.PutUint32(b[56:], 0)
		d.noRefcounts = true
	}
}

// mendRest mends the extensions of the header and the name of the backing file.
func (d *head) mendRest(h *Header) {
	be, b := binary.BigEndian, d.bytes
	end := uint64(min(int64(len(b)), h.ClusterSize()))
	if off, n := be.Uint64(b[8:]), uint64(be.Uint32(b[16:])); off != 0 {
		if n > maxBackingName || off > end || n > end-off {
			d.note("the header is damaged: it says that the name of the backing file has %d bytes at %#x", n, off)
			be.PutUint64(b[8:], 0)
			d.backingLost = true
		} else {
			end = min(end, off)
		}
	}
	pos := uint64(headerSizeV2)
	if h.Version == 3 {
		pos = uint64(h.Length)
	}
	for pos+8 <= end && be.Uint32(b[pos:]) != extensionEnd {
		n := uint64(be.Uint32(b[pos+4:]))
		if n > end-pos-8 {
			d.note("the header is damaged: its extensions from byte %d on are ignored", pos)
			be.PutUint32(b[pos:], extensionEnd)
			return
		}
		pos += 8 + (n+7)&^7
	}
}
