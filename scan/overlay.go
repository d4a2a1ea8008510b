package scan

import (
	"errors"
	"io"
	"iter"

	"e2qcow/ext"
	"e2qcow/image"
)

var errNoCopy = errors.New("the journal's copy of a block cannot be read")

// A replay yields the copies that replace blocks, from block first on.
type replay interface {
	From(first uint64) iter.Seq2[uint64, ext.JournalCopy]
}

// An overlay reads a filesystem as journal recovery would leave it: most of it
// for the second time, so through the page cache whatever the use is.
type overlay struct {
	base      *device
	blockSize int64
	replay    replay
	journal   FileMap
	end       uint64 // first block that is not replaced
}

func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.base.r.ReadAt(p, off)
	end := off + int64(n)
	for block, from := range o.replaced(off) {
		at := int64(block) * o.blockSize
		if at >= end {
			break
		}
		if cerr := o.copyBlock(p[:n], off, at, from); cerr != nil && !errors.Is(cerr, io.EOF) {
			return int(max(at-off, 0)), cerr
		}
	}
	return n, err
}

// Advice returns the advice of the source on how to read it.
func (o *overlay) Advice() image.Advice { return image.AdviceOf(o.base.r) }

// NextRun returns the first run of the source, or of replaced blocks, at or
// after off.
func (o *overlay) NextRun(off int64) (start, end int64, err error) {
	start, end, err = off, o.base.size, nil
	if img, ok := o.base.r.(image.Image); ok {
		start, end, err = img.NextRun(off)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return start, end, err
	}
	for block := range o.replaced(off) {
		if at := int64(block) * o.blockSize; at < start || err != nil {
			return max(at, off), at + o.blockSize, nil
		}
		break
	}
	return start, end, err
}

// A replacement is where the copy of a block lies, in the filesystem.
type replacement struct {
	block   uint64
	escaped bool
}

// replaced yields the blocks that are replaced from the one at off on. Block 0
// too: it holds the superblock, unless blocks are of 1 KiB.
func (o *overlay) replaced(off int64) iter.Seq2[uint64, replacement] {
	return func(yield func(uint64, replacement) bool) {
		for block, c := range o.replay.From(uint64(off / o.blockSize)) {
			if block >= o.end {
				return
			}
			if from, ok := o.journal.Block(c.Block); ok && !yield(block, replacement{from, c.Escaped}) {
				return
			}
		}
	}
}

// Size returns the length of the source in bytes.
func (o *overlay) Size() int64 { return o.base.size }

// copyBlock puts the part of a block that lies in p, which begins at off, in
// its place: the block at byte at, which is replaced.
func (o *overlay) copyBlock(p []byte, off, at int64, r replacement) error {
	var block []byte
	inside := at >= off && at+o.blockSize <= off+int64(len(p))
	if inside {
		block = p[at-off:][:o.blockSize]
	} else {
		block = make([]byte, o.blockSize)
	}
	if !o.base.tryRead(block, int64(r.block)*o.blockSize) {
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
