package scrub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
)

// A suspect is a place in the image where a word of the source may be left: the
// filter has its first eight bytes.
type suspect struct {
	prefix uint64
	off    int64 // in the image, bytes
}

// maxSuspects is how many are kept, 16 bytes each. Before there are more, the
// words of the source are looked at, and those are dropped that are none.
const maxSuspects = 1 << 18

// suspects are what a View has found, not yet compared with the words.
type suspects struct {
	mu   sync.Mutex
	list []suspect
	err  error // of the first comparison that did not end well
}

// suspect keeps suspects. It compares them first where they are too many.
func (v *View) suspect(found []suspect) error {
	if len(found) == 0 {
		return nil
	}
	v.suspects.mu.Lock()
	defer v.suspects.mu.Unlock()
	v.suspects.list = append(v.suspects.list, found...)
	if len(v.suspects.list) >= maxSuspects {
		return v.compare(context.Background(), nil) // a reader has no other context
	}
	return v.suspects.err
}

// Verify ends the search for words of the source in what was read of the image.
// It reads the words once more where the image holds what may be one of them. A
// word that is left is a *LeakError.
func (v *View) Verify(ctx context.Context) error {
	v.suspects.mu.Lock()
	defer v.suspects.mu.Unlock()
	return v.compare(ctx, v.Progress)
}

// compare compares the suspects with the words of the source, and forgets them.
func (v *View) compare(ctx context.Context, progress func(done, total int64)) error {
	if v.suspects.err != nil || len(v.suspects.list) == 0 {
		return v.suspects.err
	}
	list := v.suspects.list
	slices.SortFunc(list, func(a, b suspect) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.off, b.off))
	})
	list = slices.Compact(list)
	buf := make([]byte, v.blockSize)
	err := v.s.eachWord(ctx, progress, func(b []byte) error {
		for word := range pieces(b) {
			if len(word) < v.s.words.least {
				continue
			}
			prefix := binary.LittleEndian.Uint64(word)
			i, found := slices.BinarySearchFunc(list, prefix, func(s suspect, p uint64) int { return cmp.Compare(s.prefix, p) })
			for ; found && i < len(list) && list[i].prefix == prefix; i++ {
				if err := v.left(list[i].off, word, buf); err != nil {
					return err
				}
			}
		}
		return nil
	})
	v.suspects.list, v.suspects.err = list[:0], err
	return err
}

// left returns a *LeakError if a word stands at byte off of the image where no
// rule keeps it.
func (v *View) left(off int64, word, buf []byte) error {
	start := off - off%v.blockSize
	block, err := v.scrubbed(buf, start)
	if err != nil {
		return err
	}
	at := int(off - start)
	if !bytes.HasPrefix(block[at:], word) {
		return nil
	}
	if !slices.Contains(v.s.explain(uint64(start/v.blockSize), block)[at:at+len(word)], false) {
		return nil // a rule keeps it
	}
	return &LeakError{off, len(word)}
}

// scrubbed reads and scrubs the block that begins at a byte of the image, into
// buf, and searches for nothing.
func (v *View) scrubbed(buf []byte, start int64) ([]byte, error) {
	n, err := v.base.ReadAt(buf, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	clear(buf[n:])
	d := v.s.keys.get()
	defer v.s.keys.put(d)
	v.s.block(d, uint64(start/v.blockSize), buf)
	return buf, nil
}
