package app

import (
	"encoding/binary"

	"e2qcow/ext"
	"e2qcow/internal/advise"
	"e2qcow/internal/e2i"
	"e2qcow/internal/simg"
)

// A Format is the format of a source.
type Format uint8

// The formats of sources.
const (
	FormatAny    Format = iota // the format that the first bytes show
	FormatRaw                  // a disk, byte for byte
	FormatQCOW2                // a qcow2 image of a disk
	FormatNormal               // a normal image of e2image
	FormatSparse               // an Android sparse image of a disk
)

// HeadSize is the number of bytes that show the format of a source.
const HeadSize = ext.SuperblockOffset + ext.SuperblockSize

// The source may be an image or a disk.
var (
	errAmbiguous = advise.New("begins like a qcow2 image, but also contains an ext superblock",
		"say which it is with --source-format=raw or --source-format=qcow2")
	errAmbiguousNormal = advise.New("begins like a normal image of e2image, but also contains an ext superblock of its own",
		"say which it is with --source-format=raw or --source-format=e2image")
	errAmbiguousSparse = advise.New("begins like an Android sparse image, but also contains an ext superblock",
		"say which it is with --source-format=raw or --source-format=sparse")
)

// FormatOf returns the format that the first bytes of a source show. Somebody
// who can write to a disk can make it look like a qcow2 image, and somebody who
// sends an image can make it look like a filesystem: such a source is an error.
func FormatOf(head []byte) (Format, error) {
	disk := len(head) == HeadSize && ext.IsSuperblock(head[ext.SuperblockOffset:])
	switch {
	case hasMagic(head) && disk:
		return FormatAny, errAmbiguous
	case hasMagic(head):
		return FormatQCOW2, nil
	case e2i.Is(head) && disk && !e2i.OwnsSuperblock(head):
		return FormatAny, errAmbiguousNormal
	case e2i.Is(head):
		return FormatNormal, nil
	case simg.Is(head) && disk:
		return FormatAny, errAmbiguousSparse
	case simg.Is(head):
		return FormatSparse, nil
	}
	return FormatRaw, nil
}

// isImage reports whether a source that begins with head is an image that holds a
// disk, not a disk.
func isImage(head []byte) bool { return hasMagic(head) || e2i.Is(head) || simg.Is(head) }

func hasMagic(head []byte) bool {
	return len(head) >= 4 && binary.BigEndian.Uint32(head) == 'Q'<<24|'F'<<16|'I'<<8|0xfb
}
