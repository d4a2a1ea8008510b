package scrub

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"e2qcow/image"
	"e2qcow/scan"
)

// A Summary says what scrubbing did, and could not do.
type Summary struct {
	Placed

	// Unsound counts the directories whose index was sound and is not, or may
	// not be, as far as their blocks were read.
	Unsound uint64

	// Symlinks tells whether there are symlinks.
	Symlinks bool

	// Replaced counts the blocks that hold, or hold beside others, a structure
	// which is none: its numbers were replaced by others of the same magnitude.
	Replaced uint64
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
	// Progress is told how many bytes of the source Verify has searched for
	// words. It is called from one goroutine at a time, and may be nil.
	Progress func(done, total int64)

	base      *scan.View
	s         *scrubber
	blockSize int64
	summary   Summary
	buffers   sync.Pool

	replaced atomic.Uint64
	suspects suspects
	found    sync.Pool // of *[]suspect
}

// Summary returns what scrubbing did so far.
func (v *View) Summary() Summary {
	s := v.summary
	if h := v.s.index.held; h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		s.Placed = h.placed
	}
	s.Replaced, s.Unsound = v.replaced.Load(), v.s.index.unsound()
	return s
}

// Size returns the virtual size in bytes.
func (v *View) Size() int64 { return v.base.Size() }

// Advice returns what the source says of how it is best read.
func (v *View) Advice() image.Advice { return v.base.Advice() }

// NextRun returns the next run of metadata as image.Image says.
func (v *View) NextRun(off int64) (start, end int64, err error) { return v.base.NextRun(off) }

// NextData returns the next run that may hold something, as scan.View does: what
// is zero stays zero.
func (v *View) NextData(off int64) (start, end int64, err error) { return v.base.NextData(off) }

// ReadAt reads as io.ReaderAt does. An index that is sound no more, without
// damage or need, is an *IndexError. [View.Verify] tells whether a word is left in
// what was read; where very many words may be, ReadAt returns the *LeakError.
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

// search searches scrubbed blocks, the bytes of the image from off, for words
// that may be left. It changes nothing.
func (v *View) search(p []byte, off int64) error {
	found, _ := v.found.Get().(*[]suspect)
	if found == nil {
		found = new([]suspect)
	}
	defer v.found.Put(found)
	*found = (*found)[:0]
	for at := 0; at < len(p); at += int(v.blockSize) {
		block := p[at:min(at+int(v.blockSize), len(p))]
		n := uint64(off+int64(at)) / uint64(v.blockSize)
		for part := range v.s.textParts(n, block) {
			*found = v.searchPart(*found, n, block, part.start, part.end)
		}
		if len(*found) >= maxFound {
			if err := v.suspect(*found); err != nil {
				return err
			}
			*found = (*found)[:0]
		}
	}
	return v.suspect(*found)
}

// maxFound is how many suspects are gathered before they are handed on, but for
// those of one block.
const maxFound = 1 << 10

// searchPart searches the bytes of block n from one to another. A word that
// stands where the rules keep numbers, or in a name that they keep, is there by
// chance.
func (v *View) searchPart(found []suspect, n uint64, block []byte, from, to int) []suspect {
	var kept []bool // by the rules
	for ; ; from++ {
		at, ok := v.s.words.find(block[from:to])
		if !ok {
			return found
		}
		from += at
		if kept == nil {
			kept = v.s.explain(n, block)
		}
		if longest := untilNUL(block[from:min(from+maxWord, len(block))]); slices.Contains(kept[from:from+len(longest)], false) {
			found = append(found, suspect{le.Uint64(block[from:]), int64(n)*v.blockSize + int64(from)})
		}
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
			d.replaced, d.index = false, nil
			v.s.block(d, uint64(n/v.blockSize), p[n-off:][:v.blockSize:v.blockSize])
			if d.replaced {
				v.replaced.Add(1)
			}
			if d.index != nil {
				return d.index
			}
		}
		if !v.s.unverified {
			if err := v.search(p[start-off:stop-off], start); err != nil {
				return err
			}
		}
		at = stop
	}
	return nil
}
