// Package e2i writes and reads the normal image of e2image (struct
// ext2_image_hdr in lib/ext2fs/e2image.h of e2fsprogs), which dumpe2fs -i and
// debugfs -i open. It holds what lies at places that the superblock and the
// descriptors name, and nothing that inodes lead to: no directories, no extent
// or indirect blocks, no attributes, no journal, no copies.
//
//	       0 ┌────────────────────────────────────────────────┐
//	         │ header, 332 bytes                              │
//	 1 block ├────────────────────────────────────────────────┤ offset_super
//	         │ superblock, 1024 bytes                         │
//	2 blocks ├────────────────────────────────────────────────┤
//	         │ descriptor blocks, all of them in order        │
//	         ├────────────────────────────────────────────────┤ offset_inode
//	         │ inode table of group 0, whole; of group 1; …   │
//	         ├────────────────────────────────────────────────┤ offset_blockmap
//	         │ block bitmaps, clusters of a group / 8 bytes   │
//	         │ each, one right behind the other               │
//	         ├────────────────────────────────────────────────┤ offset_inodemap
//	         │ inode bitmaps, inodes of a group / 8 bytes each│
//	         └────────────────────────────────────────────────┘
//
// Each part begins at a whole block and is zero to the end of its last. All is
// little-endian, the four offsets have 32 bits, so the inode tables cannot be
// larger than 4 GiB. Superblock and descriptors are found at their blocks,
// whatever offset_super says. In place of a bitmap that was never written
// (BLOCK_UNINIT, INODE_UNINIT) stands what it would be.
//
// [New] makes such an image of a filesystem, [Open] a disk of such an image.
// Both are images: any source can be written as one, and any sink takes one.
package e2i

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"e2qcow/ext"
)

// Why there is no normal image, for errors.Is.
var (
	// ErrNotE2i says that the magic number is missing.
	ErrNotE2i = errors.New("not a normal image of e2image")
	// ErrGroups says that a normal image holds more block groups than are read.
	ErrGroups = errors.New("too many block groups for a normal image")
	// ErrTooLarge says that the header cannot hold the offsets.
	ErrTooLarge = errors.New("too large for a normal image, whose header has 32 bits for an offset")
	// ErrNoTables says that the superblock is that of an external journal.
	ErrNoTables = errors.New("an external journal has no tables for a normal image to hold")
)

// A CorruptError says what of an image contradicts itself.
type CorruptError struct {
	What string
	Err  error // the cause, if there is one
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return "corrupt normal image: " + e.What + ": " + e.Err.Error()
	}
	return "corrupt normal image: " + e.What
}

func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(format string, args ...any) error {
	return &CorruptError{What: fmt.Sprintf(format, args...)}
}

// Where the fields of struct ext2_image_hdr are.
const (
	hdrMagic       = 0   // EXT2_ET_MAGIC_E2IMAGE
	hdrDescriptor  = 4   // 16 bytes
	hdrHostname    = 20  // fs_hostname, 64 bytes
	hdrDevice      = 120 // fs_device
	hdrDeviceName  = 124 // fs_device_name, 64 bytes
	hdrUUID        = 188 // fs_uuid, 16 bytes
	hdrBlockSize   = 204 // fs_blocksize
	hdrTime        = 248 // image_time
	hdrScrambled   = 252 // image_reserved, which nothing else uses: scrambled or 0
	hdrSuper       = 284 // offset_super
	hdrInodes      = 288 // offset_inode
	hdrInodeBitmap = 292 // offset_inodemap
	hdrBlockBitmap = 296 // offset_blockmap
	headerSize     = 332

	nameSize   = 64
	magic      = 0x7f2bb710
	scrambled  = 'S' | 'C'<<8 | 'R'<<16 | 'M'<<24
	descriptor = "Ext2 Image 1.0\x00\x00"
)

// HeadSize is how many bytes of a file Is looks at.
const HeadSize = hdrDescriptor + len(descriptor)

// Is reports whether head, the start of a file, is that of a normal image.
func Is(head []byte) bool {
	return len(head) >= HeadSize && binary.LittleEndian.Uint32(head) == magic &&
		bytes.HasPrefix(head[hdrDescriptor:], []byte(descriptor))
}

// OwnsSuperblock reports whether the superblock that stands at byte 1024 of a
// normal image, where a disk has its own, is the one in the image: it is where
// blocks have 1 KiB. head is the start of the image, up to the end of that
// superblock.
func OwnsSuperblock(head []byte) bool {
	const uuid = 104 // s_uuid
	return len(head) >= 2*ext.MinBlockSize && binary.LittleEndian.Uint32(head[hdrBlockSize:]) == ext.MinBlockSize &&
		bytes.Equal(head[hdrUUID:][:16], head[ext.SuperblockOffset+uuid:][:16])
}

// A Header says where an image comes from. Of an image that was read it is
// untrusted text.
type Header struct {
	Hostname   string    // of the machine that made it
	DeviceName string    // as it was given
	Device     uint32    // its number as stat has it, 0 of a file
	Time       time.Time // of the making; zero where that was not recorded
	Scrambled  bool      // names and what else was private have been replaced
}

// encode returns the header for an image with that layout.
func (h Header) encode(l *layout, uuid [16]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize)
	le.PutUint32(b[hdrMagic:], magic)
	copy(b[hdrDescriptor:], descriptor)
	copy(b[hdrHostname:][:nameSize-1], h.Hostname)
	le.PutUint32(b[hdrDevice:], h.Device)
	copy(b[hdrDeviceName:][:nameSize-1], h.DeviceName)
	copy(b[hdrUUID:], uuid[:])
	le.PutUint32(b[hdrBlockSize:], l.geo.BlockSize)
	if t := h.Time.Unix(); !h.Time.IsZero() && t > 0 && t <= math.MaxUint32 {
		le.PutUint32(b[hdrTime:], uint32(t))
	}
	if h.Scrambled {
		le.PutUint32(b[hdrScrambled:], scrambled)
	}
	for field, off := range l.offsets() {
		le.PutUint32(b[field:], uint32(off))
	}
	return b
}

// decodeHeader returns what b, headerSize bytes, says of the origin.
func decodeHeader(b []byte) Header {
	h := Header{
		Hostname:   text(b[hdrHostname:]),
		DeviceName: text(b[hdrDeviceName:]),
		Device:     binary.LittleEndian.Uint32(b[hdrDevice:]),
		Scrambled:  binary.LittleEndian.Uint32(b[hdrScrambled:]) == scrambled,
	}
	if t := binary.LittleEndian.Uint32(b[hdrTime:]); t != 0 {
		h.Time = time.Unix(int64(t), 0).UTC()
	}
	return h
}

// text returns the name that b begins with.
func text(b []byte) string {
	b = b[:nameSize]
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// A layout says where in the file the parts are, in bytes.
type layout struct {
	geo       *ext.Geometry
	blockSize int64

	super, descs, inodes, blockBitmaps, inodeBitmaps, size int64 // offsets

	tableSize, blockBitmapSize, inodeBitmapSize int64 // of one group
}

// maxTable bounds how many bytes of descriptors are held: those of the four
// million groups that have room for a table of one block of 1 KiB each.
const maxTable = 256 << 20

// newLayout returns the layout for a filesystem.
func newLayout(geo *ext.Geometry) (*layout, error) {
	if geo.GroupCount == 0 {
		return nil, ErrNoTables
	}
	clusters := geo.ClustersPerGroup()
	if clusters == 0 || clusters%8 != 0 || clusters > 8*geo.BlockSize {
		return nil, corrupt("%d clusters a group", clusters)
	}
	if blocks := geo.ClusterSize / geo.BlockSize; geo.BlocksPerGroup%blocks != 0 {
		return nil, corrupt("%d blocks a group in clusters of %d", geo.BlocksPerGroup, blocks)
	}
	if geo.InodesPerGroup%8 != 0 {
		return nil, corrupt("%d inodes a group", geo.InodesPerGroup)
	}
	const limit = math.MaxUint32 // of an offset
	groups, blockSize := uint64(geo.GroupCount), uint64(geo.BlockSize)
	tables := groups * uint64(geo.TableBlocks) // at most 2⁵¹ blocks
	before := 2 + uint64(geo.DescBlocks) + tables
	if before > limit/blockSize || uint64(geo.DescBlocks)*blockSize > maxTable {
		return nil, ErrTooLarge
	}
	l := &layout{
		geo:             geo,
		blockSize:       int64(blockSize),
		tableSize:       int64(geo.TableBlocks) * int64(blockSize),
		blockBitmapSize: int64(clusters / 8),
		inodeBitmapSize: int64(geo.InodesPerGroup / 8),
	}
	l.super, l.descs = l.blockSize, 2*l.blockSize
	l.inodes = l.descs + int64(geo.DescBlocks)*l.blockSize
	l.blockBitmaps = int64(before * blockSize)
	l.inodeBitmaps = l.blockBitmaps + l.whole(int64(groups)*l.blockBitmapSize)
	l.size = l.inodeBitmaps + l.whole(int64(groups)*l.inodeBitmapSize)
	if l.inodeBitmaps > limit {
		return nil, ErrTooLarge
	}
	return l, nil
}

// whole rounds up to whole blocks.
func (l *layout) whole(n int64) int64 { return (n + l.blockSize - 1) / l.blockSize * l.blockSize }

// offsets returns what the header says of the layout, by field.
func (l *layout) offsets() map[int]int64 {
	return map[int]int64{hdrSuper: l.super, hdrInodes: l.inodes, hdrBlockBitmap: l.blockBitmaps, hdrInodeBitmap: l.inodeBitmaps}
}
