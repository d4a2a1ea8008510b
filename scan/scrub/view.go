package scrub

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"e2qcow/internal/image"
	"e2qcow/scan"
)

// A Summary says what scrubbing did, and could not do.
type Summary struct {
	Placed

	// Overwritten counts the words that stood where damage passes text off as
	// numbers.
	Overwritten uint64
}

// A LeakError is a word of the source that would have been written.
type LeakError struct {
	Offset int64 // in the image, bytes
	Length int   // of the word, bytes
}

func (e *LeakError) Error() string {
	return fmt.Sprintf("a word of %d bytes of the source is left at byte %d of the scrambled image", e.Length, e.Offset)
}

// A View is the scrubbed image of a filesystem's metadata.
type View struct {
	base      *scan.View
	s         *scrubber
	blockSize int64
	summary   Summary
	buffers   sync.Pool

	overwritten atomic.Uint64
}

// Summary returns what scrubbing did so far.
func (v *View) Summary() Summary {
	s := v.summary
	s.Overwritten = v.overwritten.Load()
	return s
}

// Size returns the virtual size in bytes.
func (v *View) Size() int64 { return v.base.Size() }

// Advice returns what the source says of how it is best read.
func (v *View) Advice() image.Advice { return v.base.Advice() }

// NextRun returns the next run of metadata as image.Image says.
func (v *View) NextRun(off int64) (start, end int64, err error) { return v.base.NextRun(off) }

// ReadAt reads as io.ReaderAt does. A word that is left is a *LeakError.
func (v *View) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= v.Size() {
		return 0, io.EOF
	}
	if rest := v.Size() - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	start := off - off%v.blockSize
	end := off + int64(len(p))
	if rest := end % v.blockSize; rest != 0 {
		end += v.blockSize - rest
	}
	whole := p
	if start != off || end != off+int64(len(p)) {
		// Parts of blocks: a block is scrubbed whole.
		buf, _ := v.buffers.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		defer v.buffers.Put(buf)
		if int64(cap(*buf)) < end-start {
			*buf = make([]byte, end-start)
		}
		whole = (*buf)[:end-start]
	}
	if m, rerr := v.base.ReadAt(whole, start); rerr != nil && !errors.Is(rerr, io.EOF) {
		return 0, rerr
	} else if m < len(whole) {
		clear(whole[m:])
	}
	if err := v.scrub(whole, start); err != nil {
		return 0, err
	}
	if len(whole) != len(p) {
		copy(p, whole[off-start:])
	}
	return len(p), err
}

// verify searches scrubbed blocks, the bytes of the image from off, for words
// that are left. Damage can have put them where nothing but numbers stands:
// there they are overwritten, and counted, and all that are left in the same
// block with them, as what is overwritten may be what told what the rest is.
func (v *View) verify(d *drawer, p []byte, off int64) error {
	damaged := int64(-1) // the block
	for from := 0; ; {
		at, n, ok := v.s.words.find(p[from:])
		if !ok {
			return nil
		}
		at += from
		block := (off + int64(at)) / v.blockSize
		start := int(max(block*v.blockSize-off, 0))
		if block != damaged && !v.s.numeric(uint64(block), p[start:], at-start) {
			return &LeakError{off + int64(at), n}
		}
		damaged = block
		v.s.overwrite(d, p[at:at+n])
		v.overwritten.Add(1)
		from = max(at-maxWord+1, 0) // what was drawn may end another word
	}
}

// scrub scrubs the blocks that begin at byte off of the image.
func (v *View) scrub(p []byte, off int64) error {
	d := v.s.keys.get()
	defer v.s.keys.put(d)
	end := off + int64(len(p))
	for at := off; at < end; {
		start, stop, err := v.base.NextRun(at)
		if errors.Is(err, io.EOF) || err == nil && start >= end {
			break
		}
		if err != nil {
			return err
		}
		if rest := stop % v.blockSize; rest != 0 {
			stop += v.blockSize - rest // of the last block
		}
		stop = min(stop, end)
		for n := start; n < stop; n += v.blockSize {
			v.s.block(d, uint64(n/v.blockSize), p[n-off:][:v.blockSize:v.blockSize])
		}
		if !v.s.unverified {
			if err := v.verify(d, p[start-off:stop-off], start); err != nil {
				return err
			}
		}
		at = stop
	}
	return nil
}
