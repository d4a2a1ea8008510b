package scan

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/internal/image"
)

// A replacement says that a block of the filesystem is to be read from another
// place: its copy in the journal.
type replacement struct {
	block, from uint64
	escaped     bool
}

var errNoCopy = errors.New("the journal's copy of a block cannot be read")

// An overlay reads a filesystem as journal recovery would leave it: most of it
// for the second time, so through the page cache whatever the use is.
type overlay struct {
	base      *device
	blockSize int64
	blocks    []replacement // ascending by block
}

func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.base.r.ReadAt(p, off)
	end := off + int64(n)
	i, _ := slices.BinarySearchFunc(o.blocks, uint64(off/o.blockSize), func(r replacement, b uint64) int {
		return cmp.Compare(r.block, b)
	})
	for ; i < len(o.blocks); i++ {
		r := o.blocks[i]
		at := int64(r.block) * o.blockSize
		if at >= end {
			break
		}
		if cerr := o.copyBlock(p[:n], off, r); cerr != nil && !errors.Is(cerr, io.EOF) {
			return int(max(at-off, 0)), cerr
		}
	}
	return n, err
}

// Advice returns what the source says of how it is best read.
func (o *overlay) Advice() image.Advice { return image.AdviceOf(o.base.r) }

// NextRun returns the first run of the source, or of what is replaced, at or
// after off.
func (o *overlay) NextRun(off int64) (start, end int64, err error) {
	i, _ := slices.BinarySearchFunc(o.blocks, uint64(off/o.blockSize), func(r replacement, b uint64) int {
		return cmp.Compare(r.block, b)
	})
	start, end, err = off, o.base.size, nil
	if img, ok := o.base.r.(image.Image); ok {
		start, end, err = img.NextRun(off)
	}
	if i == len(o.blocks) || err != nil && !errors.Is(err, io.EOF) {
		return start, end, err
	}
	if at := int64(o.blocks[i].block) * o.blockSize; at < start || err != nil {
		return max(at, off), at + o.blockSize, nil
	}
	return start, end, nil
}

// Size returns the length of the source in bytes.
func (o *overlay) Size() int64 { return o.base.size }

// copyBlock puts the part of a replaced block that lies in p, which begins at
// off, in its place.
func (o *overlay) copyBlock(p []byte, off int64, r replacement) error {
	at := int64(r.block) * o.blockSize
	var block []byte
	inside := at >= off && at+o.blockSize <= off+int64(len(p))
	if inside {
		block = p[at-off:][:o.blockSize]
	} else {
		block = make([]byte, o.blockSize)
	}
	if !o.base.tryRead(block, int64(r.from)*o.blockSize) {
		return errNoCopy
	}
	if r.escaped {
		ext.Unescape(block)
	}
	switch {
	case inside:
	case at < off:
		copy(p, block[off-at:])
	default:
		copy(p[at-off:], block)
	}
	return nil
}
