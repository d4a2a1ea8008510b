package ext

import (
	"errors"
	"fmt"
	"strings"
)

// ErrBadMagic says that a superblock's magic number is not that of ext2, ext3
// or ext4.
var ErrBadMagic = errors.New("no ext2, ext3 or ext4 superblock")

// A CorruptError says which structure is damaged and where it lies. Fields
// that do not apply are zero.
type CorruptError struct {
	What   string // the structure and what is wrong with it
	Group  uint64 // block group
	Inode  uint32 // inode number
	Block  uint64 // block number
	Offset int64  // byte offset inside the structure
	Err    error  // the cause, if there is one
}

func (e *CorruptError) Error() string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Inode != 0 {
		fmt.Fprintf(&b, ", inode %d", e.Inode)
	}
	if e.Group != 0 {
		fmt.Fprintf(&b, ", group %d", e.Group)
	}
	if e.Block != 0 {
		fmt.Fprintf(&b, ", block %d", e.Block)
	}
	if e.Offset != 0 {
		fmt.Fprintf(&b, ", offset %d", e.Offset)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *CorruptError) Unwrap() error { return e.Err }
