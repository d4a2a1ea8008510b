package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/raw"
	"e2qcow/internal/target"
	"e2qcow/internal/zero"
	"e2qcow/scan"
)

// A Listing says which blocks of an image a dry run lists.
type Listing struct {
	Out      io.Writer // gets a line for each block; nil for no lines
	Block    int       // bytes
	All      bool      // blocks of zeros are listed too
	RunsOnly bool      // of a comparison: only runs are compared
	Threads  int
	Progress func(done, total int64)
}

// List lists the blocks of img that would be written, as e2image does.
func (o Listing) List(ctx context.Context, img image.Image) (Copied, error) {
	l := o.lister(img.Size())
	granule := o.Block
	if !o.All {
		granule = max(granule, raw.Page)
		img = image.Data(img) // as a real run does
	}
	err := ordered.Run(ctx, img, ordered.Options{Granule: granule, Threads: o.Threads},
		func() ordered.Worker { return &listWorker{lister: l} })
	return l.end(0, err)
}

// ListChanges lists the blocks of img that differ from t.
func (o Listing) ListChanges(ctx context.Context, t *target.Target, img image.Image) (Copied, error) {
	l := o.lister(img.Size())
	stats, err := raw.Update(ctx, unwritten{t}, img, raw.UpdateOptions{
		Options:  raw.Options{Threads: o.Threads, Progress: o.Progress},
		Block:    o.Block,
		RunsOnly: o.RunsOnly,
		Wrote:    l.print,
	})
	l.bytes = stats.Data
	return l.end(stats.Same, err)
}

func (o Listing) lister(size int64) *lister {
	out := o.Out
	if out == nil {
		out = io.Discard
	}
	return &lister{out: bufio.NewWriter(out), block: o.Block, size: size, all: o.All, progress: o.Progress}
}

// end returns what was listed.
func (l *lister) end(same int64, err error) (Copied, error) {
	c := Copied{ImageBytes: l.size, DataBytes: l.bytes, Written: l.blocks, Same: same}
	if err != nil {
		return c, err
	}
	if err := l.out.Flush(); err != nil {
		return c, fmt.Errorf("standard output: %w", err)
	}
	return c, nil
}

// unwritten is a target that never changes.
type unwritten struct{ t *target.Target }

// ReadAt reads the target.
func (u unwritten) ReadAt(p []byte, off int64) (int, error) { return u.t.ReadAt(p, off) }

// NextData returns where the target may have something but zeros.
func (u unwritten) NextData(off int64) (int64, error) { return u.t.NextData(off) }

// WriteAt writes nothing.
func (unwritten) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// ZeroOut does nothing.
func (unwritten) ZeroOut(context.Context, int64, int64, func(int64)) error { return nil }

// A lister is the state of a listing.
type lister struct {
	out      *bufio.Writer
	block    int
	size     int64
	all      bool // blocks of zeros too
	blocks   int64
	bytes    int64 // of pages that are not zero
	line     []byte
	progress func(done, total int64)
}

// print lists the blocks of n bytes from off.
func (l *lister) print(off, n int64) error {
	block := int64(l.block)
	for at := off / block; at*block < off+n; at++ {
		l.line = append(l.line[:0], "Writing block "...)
		l.line = append(strconv.AppendInt(l.line, at, 10), '\n')
		if _, err := l.out.Write(l.line); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
		l.blocks++
	}
	return nil
}

// A listWorker finds the blocks of a chunk, those that are not zero or all.
type listWorker struct {
	*lister
	found []int64
	data  int64 // bytes
}

// Prepare finds the blocks to list in a chunk.
func (w *listWorker) Prepare(c *ordered.Chunk) error {
	w.found, w.data = w.found[:0], 0
	for _, s := range c.Spans {
		b := s.Data[:min(int64(len(s.Data)), w.size-s.Off)]
		for at := 0; at < len(b); at += w.block {
			if w.all || !zero.IsZero(b[at:min(at+w.block, len(b))]) {
				w.found = append(w.found, (s.Off+int64(at))/int64(w.block))
			}
		}
		for at := 0; at < len(b); {
			start, end := zero.NextData(b, at, raw.Page)
			w.data, at = w.data+int64(end-start), end
		}
	}
	return nil
}

// Commit prints the blocks of a chunk.
func (w *listWorker) Commit(c *ordered.Chunk) error {
	w.bytes += w.data
	for _, n := range w.found {
		if err := w.print(n*int64(w.block), 1); err != nil {
			return err
		}
	}
	if n := len(c.Spans); n > 0 && w.progress != nil {
		w.progress(min(c.Spans[n-1].Off+int64(len(c.Spans[n-1].Data)), w.size), w.size)
	}
	return nil
}

// Finish does nothing.
func (w *listWorker) Finish(*ordered.Chunk) error { return nil }

// A Run is a run of blocks that an image holds.
type Run struct {
	Start uint64 `json:"start"` // block
	Count uint64 `json:"count"` // blocks
	Kind  string `json:"kind"`
}

// ScanRuns yields the runs of metadata that a scan found, with their kinds.
func ScanRuns(res *scan.Result) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		for r := range res.Map.Runs() {
			if !yield(Run{r.Start, r.Count, r.Kind.String()}, nil) {
				return
			}
		}
	}
}

// ImageRuns yields the runs of an image, in blocks of block bytes.
func ImageRuns(img image.Image, block int) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		for all := ordered.NewRuns(img, block); ; {
			start, end, err := all.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			run := Run{uint64(start) / uint64(block), uint64(end-start) / uint64(block), "data"}
			if !yield(run, err) || err != nil {
				return
			}
		}
	}
}

// writeRuns appends the runs to the JSON object that ends in b: they are too
// many to be held.
func writeRuns(b *bufio.Writer, object []byte, runs iter.Seq2[Run, error]) error {
	const end = "\n}\n"
	if _, err := b.Write(object[:len(object)-len(end)]); err != nil {
		return err
	}
	_, _ = b.WriteString(",\n  \"runs\": [")
	before := "\n    "
	for r, err := range runs {
		if err != nil {
			return err
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, _ = b.WriteString(before)
		if _, err := b.Write(text); err != nil {
			return err
		}
		before = ",\n    "
	}
	_, err := b.WriteString("\n  ]" + end)
	return err
}
