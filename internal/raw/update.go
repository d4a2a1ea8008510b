package raw

import (
	"bytes"
	"context"
	"errors"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/zero"
)

// An Updatable is what Update writes to.
type Updatable interface {
	Device
	io.ReaderAt
	// NextData returns where there may be something but zeros at or after off;
	// io.EOF where nothing is.
	NextData(off int64) (int64, error)
}

// UpdateOptions say how an image is compared and written.
type UpdateOptions struct {
	Options
	Block    int  // bytes that are compared and written as one
	RunsOnly bool // what lies between the runs stays as it is
	// Wrote is called with each stretch of blocks that is written, in ascending
	// order, and then with those between the runs that become zero. It may be
	// nil.
	Wrote func(off, n int64) error
}

// UpdateStats count blocks of an image.
type UpdateStats struct {
	Stats
	Written int64 // that were, those that became zero too
	Same    int64 // in runs, that had not to be
}

// Update makes d, which holds something already, read as img does, and writes
// nothing that it has. It does not sync.
func Update(ctx context.Context, d Updatable, img image.Image, opt UpdateOptions) (UpdateStats, error) {
	u := &update{sink: &sink{w: d, size: img.Size(), progress: opt.Progress}, d: d, block: opt.Block, wrote: opt.Wrote}
	if err := u.plan(ctx, img, opt.Block); err != nil {
		return UpdateStats{}, err
	}
	err := ordered.Run(ctx, img, ordered.Options{Granule: opt.Block, Threads: opt.Threads},
		func() ordered.Worker { return &updateWorker{partWorker: partWorker{sink: u.sink}, u: u} })
	if err == nil && !opt.RunsOnly {
		err = u.clearGaps(ctx, img)
	}
	return UpdateStats{u.stats(), u.written, u.same}, err
}

// An update is the state of one.
type update struct {
	*sink
	d             Updatable
	block         int
	wrote         func(off, n int64) error
	written, same int64 // change in the ordered stage only
}

// count counts n bytes from off, which are whole blocks but for the last, as
// written.
func (u *update) count(off, n int64) error {
	u.written += (n + int64(u.block) - 1) / int64(u.block)
	if u.wrote == nil {
		return nil
	}
	return u.wrote(off, n)
}

// An updateWorker writes the blocks of a chunk that are not there yet.
type updateWorker struct {
	partWorker
	u     *update
	there []byte
	equal int64
}

// Prepare compares the chunk with what is there.
func (w *updateWorker) Prepare(c *ordered.Chunk) error {
	w.spans, w.equal = w.spans[:0], 0
	for _, s := range c.Spans {
		b := w.within(s.Data, s.Off)
		if len(w.there) < len(b) {
			w.there = make([]byte, len(b))
		}
		there := w.there[:len(b)]
		n, err := w.u.d.ReadAt(there, s.Off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(there[n:])
		w.compare(b, there, s.Off)
	}
	return nil
}

// compare gathers what differs in runs of blocks.
func (w *updateWorker) compare(b, there []byte, off int64) {
	start := 0 // of the run that differs
	for at := 0; at < len(b); at += w.u.block {
		end := min(at+w.u.block, len(b))
		if !bytes.Equal(b[at:end], there[at:end]) {
			continue
		}
		w.equal++
		if start < at {
			w.spans = append(w.spans, ordered.Span{Off: off + int64(start), Data: b[start:at]})
		}
		start = end
	}
	if start < len(b) {
		w.spans = append(w.spans, ordered.Span{Off: off + int64(start), Data: b[start:]})
	}
}

// Commit counts the chunk, and its blocks.
func (w *updateWorker) Commit(c *ordered.Chunk) error {
	for _, s := range w.spans {
		if err := w.u.count(s.Off, int64(len(s.Data))); err != nil {
			return err
		}
	}
	w.u.same += w.equal
	return w.partWorker.Commit(c)
}

// clearGaps zeroes what is not zero between the runs of img.
func (u *update) clearGaps(ctx context.Context, img image.Image) error {
	buf := make([]byte, ordered.DefaultChunkSize)
	off := int64(0)
	for runs := ordered.NewRuns(img, u.block); off < u.size; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			start, end = u.size, u.size
		} else if err != nil {
			return err
		}
		if err := u.clearGap(ctx, buf, off, start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// clearGap zeroes what is not zero in a gap, which begins with a block.
func (u *update) clearGap(ctx context.Context, buf []byte, start, end int64) error {
	block := int64(u.block)
	for off := start; off < end; {
		at, err := u.d.NextData(off)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || at >= end {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at = max(at-at%block, off)
		b := buf[:min(end-at, int64(len(buf)))]
		n, err := u.d.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := 0; i < n; {
			from, to := zero.NextData(b[:n], i, u.block)
			if from < to {
				if err := u.clear(ctx, at+int64(from), at+int64(to), start, end); err != nil {
					return err
				}
			}
			i = to
		}
		if n < len(b) {
			return nil
		}
		off = at + int64(n)
	}
	return nil
}

// clear zeroes the blocks from one byte to another, within the gap from start to
// end. It does so by whole pages, where the gap has them, which files have holes
// for.
func (u *update) clear(ctx context.Context, from, to, start, end int64) error {
	if err := u.count(from, to-from); err != nil {
		return err
	}
	from, to = max(from-from%Page, start), min((to+Page-1)/Page*Page, end)
	return u.d.ZeroOut(ctx, from, to-from, nil)
}
