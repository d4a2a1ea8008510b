package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
)

const (
	magic = 0x514649fb // "QFI\xfb"

	headerSizeV2    = 72
	headerSizeV3    = 104 // the least a version 3 header has
	headerSizeFull  = 112 // with the compression type
	minClusterBits  = 9
	maxClusterBits  = 21
	maxRefcountBits = 6 // as a power of two: 64 bits wide

	// What qemu opens at most, in bytes.
	maxL1Size       = 32 << 20
	maxRefcountSize = 8 << 20
	maxBackingName  = 1023
)

// Incompatible features of a version 3 header.
const (
	incompatDirty       = 1 << 0
	incompatCorrupt     = 1 << 1
	incompatDataFile    = 1 << 2
	incompatCompression = 1 << 3
	incompatExtendedL2  = 1 << 4
)

// autoclearBitmaps says that the bitmaps extension is up to date.
const autoclearBitmaps = 1 << 0

// Bits of the entries of L1 and L2 tables.
const (
	entryCopied     = 1 << 63 // the refcount is exactly 1
	entryCompressed = 1 << 62 // L2 only
	entryZero       = 1 << 0  // L2 only, version 3 only
	entryOffset     = 0x00fffffffffffe00
)

// Compression is how clusters are compressed.
type Compression int

const (
	// Uncompressed writes clusters as they are.
	Uncompressed Compression = iota
	// Zlib is raw deflate in a window of 4 KiB, which every qemu reads.
	Zlib
	// Zstd is one zstd frame a cluster; it needs version 3.
	Zstd
)

func (c Compression) String() string {
	switch c {
	case Uncompressed:
		return "none"
	case Zlib:
		return "zlib"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression type %d", c.field())
}

// field returns the value of the header field compression_type; Zlib is 0.
func (c Compression) field() byte { return byte(c - Zlib) }

// A Header is the header of an image, as it is in the file: QCowHeader in
// qemu's docs/interop/qcow2.txt.
type Header struct {
	Version              int
	ClusterBits          uint
	Size                 int64 // of the virtual disk, in bytes
	CryptMethod          uint32
	L1Entries            uint32
	L1Offset             uint64
	RefcountTableOffset  uint64
	RefcountTableLength  uint32 // in clusters
	Snapshots            uint32
	SnapshotsOffset      uint64
	IncompatibleFeatures uint64
	CompatibleFeatures   uint64
	AutoclearFeatures    uint64
	RefcountBits         uint // 1, 2, 4 ... 64
	Length               uint32
	Compression          Compression // of those clusters that are compressed
	BackingFile          string      // as named in the file: not to be trusted
	BackingFormat        string

	featureNames map[feature]string
	info         []byte
	bitmaps      []byte
}

// A feature is a bit of one of the three feature fields: type 0 is
// incompatible, 1 compatible, 2 autoclear.
type feature struct{ kind, bit uint8 }

// ClusterSize returns the size of a cluster in bytes.
func (h *Header) ClusterSize() int64 { return 1 << h.ClusterBits }

// ExtendedL2 reports whether L2 entries are 16 bytes long and clusters have 32
// subclusters.
func (h *Header) ExtendedL2() bool { return h.IncompatibleFeatures&incompatExtendedL2 != 0 }

// Dirty reports whether refcounts may be stale: lazy refcounts, not closed well.
func (h *Header) Dirty() bool { return h.IncompatibleFeatures&incompatDirty != 0 }

// MarkedCorrupt reports whether a program found damage and said so.
func (h *Header) MarkedCorrupt() bool { return h.IncompatibleFeatures&incompatCorrupt != 0 }

// l2EntryBits returns the size of an L2 entry as a power of two.
func (h *Header) l2EntryBits() uint {
	if h.ExtendedL2() {
		return 4
	}
	return 3
}

// l2CoverBits returns how many bytes one L2 table maps, as a power of two.
func (h *Header) l2CoverBits() uint { return 2*h.ClusterBits - h.l2EntryBits() }

// l1Needed returns how many L1 entries map the disk.
func (h *Header) l1Needed() uint64 {
	cover := h.l2CoverBits()
	return (uint64(h.Size) + 1<<cover - 1) >> cover
}

// refcountsPerBlock returns how many clusters a refcount block counts.
func (h *Header) refcountsPerBlock() uint64 {
	return uint64(h.ClusterSize()) * 8 / uint64(h.RefcountBits)
}

// readHeader reads and checks the header of a file of size bytes.
func readHeader(r io.ReaderAt, size int64) (*Header, error) {
	var b [headerSizeFull]byte
	n, err := r.ReadAt(b[:min(size, headerSizeFull)], 0)
	if n < len(b) && int64(n) < size && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read qcow2 header: %w", unexpectedEOF(err))
	}
	be := binary.BigEndian
	if n < 8 || be.Uint32(b[0:]) != magic {
		return nil, ErrNotQcow2
	}
	version := be.Uint32(b[4:])
	if version != 2 && version != 3 {
		return nil, &UnsupportedError{Feature: fmt.Sprintf("version %d", version)}
	}
	if n < headerSizeV2 || version == 3 && n < headerSizeV3 {
		return nil, corrupt("header", 0, "the file is cut short, after %d bytes", n)
	}
	backingOffset, backingLength := be.Uint64(b[8:]), be.Uint32(b[16:])
	h := &Header{
		Version:             int(version),
		CryptMethod:         be.Uint32(b[32:]),
		L1Entries:           be.Uint32(b[36:]),
		L1Offset:            be.Uint64(b[40:]),
		RefcountTableOffset: be.Uint64(b[48:]),
		RefcountTableLength: be.Uint32(b[56:]),
		Snapshots:           be.Uint32(b[60:]),
		SnapshotsOffset:     be.Uint64(b[64:]),
		RefcountBits:        16,
		Length:              headerSizeV2,
		Compression:         Zlib,
	}
	clusterBits := be.Uint32(b[20:])
	if clusterBits < minClusterBits || clusterBits > maxClusterBits {
		return nil, corrupt("header", 20, "cluster bits %d are not within %d and %d", clusterBits, minClusterBits, maxClusterBits)
	}
	h.ClusterBits = uint(clusterBits)
	if version == 3 {
		h.IncompatibleFeatures = be.Uint64(b[72:])
		h.CompatibleFeatures = be.Uint64(b[80:])
		h.AutoclearFeatures = be.Uint64(b[88:])
		order := be.Uint32(b[96:])
		if order > maxRefcountBits {
			return nil, corrupt("header", 96, "refcount order %d is more than %d", order, maxRefcountBits)
		}
		h.RefcountBits = 1 << order
		h.Length = be.Uint32(b[100:])
		if h.Length < headerSizeV3 || h.Length%8 != 0 || int64(h.Length) > h.ClusterSize() {
			return nil, corrupt("header", 100, "header length %d", h.Length)
		}
		if h.Length > headerSizeV3 && n > headerSizeV3 {
			h.Compression = Zlib + Compression(b[headerSizeV3])
		}
	}
	vsize := be.Uint64(b[24:])
	if vsize > maxVirtualSize(h) {
		return nil, corrupt("header", 24, "virtual size %d does not fit an L1 table of %d bytes", vsize, maxL1Size)
	}
	h.Size = int64(vsize)
	if err := h.checkTables(); err != nil {
		return nil, err
	}
	if err := h.readRest(r, size, backingOffset, backingLength); err != nil {
		return nil, err
	}
	return h, nil
}

// maxVirtualSize returns the size that an L1 table of the largest size maps.
func maxVirtualSize(h *Header) uint64 { return (maxL1Size / 8) << h.l2CoverBits() }

// checkTables checks place and size of the L1 and refcount tables, but not
// whether the file is as long.
func (h *Header) checkTables() error {
	cluster := uint64(h.ClusterSize())
	switch need := h.l1Needed(); {
	case h.L1Entries > maxL1Size/8:
		return corrupt("header", 36, "L1 table of %d entries is too large", h.L1Entries)
	case uint64(h.L1Entries) < need:
		return corrupt("header", 36, "L1 table of %d entries is too small for %d bytes", h.L1Entries, h.Size)
	case h.L1Offset%cluster != 0 || h.L1Offset > 1<<62:
		return corrupt("header", 40, "L1 table offset %#x is not aligned", h.L1Offset)
	case uint64(h.RefcountTableLength)*cluster > maxRefcountSize:
		return corrupt("header", 56, "refcount table of %d clusters is too large", h.RefcountTableLength)
	case h.RefcountTableOffset%cluster != 0 || h.RefcountTableOffset > 1<<62:
		return corrupt("header", 48, "refcount table offset %#x is not aligned", h.RefcountTableOffset)
	}
	return nil
}

// Types of header extensions.
const (
	extensionEnd           = 0
	extensionBackingFormat = 0xe2792aca
	extensionBitmaps       = 0x23852875
	extensionFeatureNames  = 0x6803f857
	extensionInfo          = 0x65327163 // "e2qc": ours
)

// readRest reads the header extensions and the name of the backing file, both
// of which lie within the first cluster.
func (h *Header) readRest(r io.ReaderAt, size int64, backingOffset uint64, backingLength uint32) error {
	// Extensions are few and short. qemu allows for a whole cluster of them,
	// but no writer puts ours, or any of qemu's own, behind 64 KiB.
	b := make([]byte, min(size, h.ClusterSize(), 64<<10))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return fmt.Errorf("read qcow2 header: %w", unexpectedEOF(err))
	}
	end := uint64(len(b))
	if backingOffset != 0 {
		if backingLength > maxBackingName || backingOffset > end || uint64(backingLength) > end-backingOffset {
			return corrupt("header", 8, "backing file name of %d bytes at %#x", backingLength, backingOffset)
		}
		h.BackingFile = string(b[backingOffset:][:backingLength])
		end = min(end, backingOffset)
	}
	be := binary.BigEndian
	for pos := uint64(h.Length); pos+8 <= end; {
		kind, length := be.Uint32(b[pos:]), uint64(be.Uint32(b[pos+4:]))
		if kind == extensionEnd {
			break
		}
		if length > end-pos-8 {
			return corrupt("header extension", pos, "type %#x of %d bytes does not fit the first cluster", kind, length)
		}
		data := b[pos+8:][:length]
		switch kind {
		case extensionBackingFormat:
			h.BackingFormat = string(data)
		case extensionFeatureNames:
			h.readFeatureNames(data)
		case extensionInfo:
			h.info = data
		case extensionBitmaps:
			h.bitmaps = data
		}
		pos += 8 + (length+7)&^7
	}
	return nil
}

// readFeatureNames reads a feature name table: 48 bytes a feature.
func (h *Header) readFeatureNames(data []byte) {
	h.featureNames = make(map[feature]string)
	for ; len(data) >= 48; data = data[48:] {
		name, _, _ := strings.Cut(string(data[2:48]), "\x00")
		h.featureNames[feature{data[0], data[1]}] = name
	}
}

// unsupported returns an UnsupportedError if a feature in the header makes the
// disk unreadable, a CorruptError for impossible values, or nil.
func (h *Header) unsupported() error {
	if feature := h.unsupportedFeature(); feature != "" {
		return &UnsupportedError{Feature: feature, Header: h}
	}
	if h.Compression != Zlib != (h.IncompatibleFeatures&incompatCompression != 0) {
		return corrupt("header", headerSizeV3, "%v contradicts the incompatible features %#x", h.Compression, h.IncompatibleFeatures)
	}
	if h.ExtendedL2() && h.ClusterBits < 14 {
		return corrupt("header", 72, "subclusters in clusters of %d bytes", h.ClusterSize())
	}
	return nil
}

// backingError says that the backing file is not opened.
func (h *Header) backingError() error {
	return &UnsupportedError{Feature: fmt.Sprintf("backing file %q", h.BackingFile), BackingFile: h.BackingFile, Header: h}
}

// unsupportedFeature returns the name of a feature that cannot be read, or "".
func (h *Header) unsupportedFeature() string {
	switch {
	case h.CryptMethod == 1:
		return "encrypted (AES)"
	case h.CryptMethod == 2:
		return "encrypted (LUKS)"
	case h.CryptMethod != 0:
		return fmt.Sprintf("encryption method %d", h.CryptMethod)
	case h.IncompatibleFeatures&incompatDataFile != 0:
		return "external data file"
	}
	const known = incompatDirty | incompatCorrupt | incompatCompression | incompatExtendedL2
	if unknown := h.IncompatibleFeatures &^ known; unknown != 0 {
		bit := uint8(bits.TrailingZeros64(unknown))
		if name := h.featureNames[feature{0, bit}]; name != "" {
			return fmt.Sprintf("incompatible feature %d (%q)", bit, name)
		}
		return fmt.Sprintf("incompatible feature %d", bit)
	}
	if h.Compression != Zlib && h.Compression != Zstd {
		return h.Compression.String()
	}
	return ""
}

// headRoom returns how many bytes of the first cluster encode needs.
func (h *Header) headRoom(info []byte) int64 {
	return int64(h.Length) + 8 + int64(len(h.BackingFormat)+7) + 8 + int64(len(info)+7) + 8 + int64(len(h.BackingFile))
}

// encode returns the first cluster of an image: the header, an extension of ours
// with info, if that is not empty, and the name of a backing file with its format.
func (h *Header) encode(info []byte) []byte {
	b := make([]byte, h.ClusterSize())
	be := binary.BigEndian
	be.PutUint32(b[0:], magic)
	be.PutUint32(b[4:], uint32(h.Version))
	be.PutUint32(b[20:], uint32(h.ClusterBits))
	be.PutUint64(b[24:], uint64(h.Size))
	be.PutUint32(b[36:], h.L1Entries)
	be.PutUint64(b[40:], h.L1Offset)
	be.PutUint64(b[48:], h.RefcountTableOffset)
	be.PutUint32(b[56:], h.RefcountTableLength)
	if h.Version == 3 {
		be.PutUint64(b[72:], h.IncompatibleFeatures)
		be.PutUint32(b[96:], uint32(bits.TrailingZeros(h.RefcountBits)))
		be.PutUint32(b[100:], h.Length)
		b[headerSizeV3] = h.Compression.field()
	}
	pos := int(h.Length)
	extension := func(kind uint32, data []byte) {
		if len(data) > 0 {
			be.PutUint32(b[pos:], kind)
			be.PutUint32(b[pos+4:], uint32(len(data)))
			pos += 8 + (copy(b[pos+8:], data)+7)&^7
		}
	}
	extension(extensionBackingFormat, []byte(h.BackingFormat))
	extension(extensionInfo, info)
	if h.BackingFile != "" {
		pos += 8 // the end of the extensions, which is zero
		be.PutUint64(b[8:], uint64(pos))
		be.PutUint32(b[16:], uint32(copy(b[pos:], h.BackingFile)))
	}
	return b
}

// unexpectedEOF returns err, or io.ErrUnexpectedEOF for the end of a file
// where it must not end.
func unexpectedEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
