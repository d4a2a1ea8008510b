package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/target"
	"e2qcow/internal/zero"
	"e2qcow/qcow2"
)

// list prints the blocks of img that would be written, as e2image does. Nothing is
// printed where the record goes there.
func (w *work) list(ctx context.Context, img image.Image) error {
	out := io.Discard
	if w.json == "" || !target.IsStdout(w.json) {
		out = w.stdout
	}
	l := &lister{out: bufio.NewWriter(out), block: w.unit(), size: img.Size(), all: w.mode == install, progress: w.progress.Phase("read", progress.Bytes)}
	var err error
	if w.compare {
		err = w.listUpdate(ctx, img, l)
	} else {
		granule := l.block
		if !l.all {
			granule = max(granule, raw.Page)
			img = image.Data(img) // as a run does
		}
		err = ordered.Run(ctx, img, ordered.Options{Granule: granule, Threads: w.threads},
			func() ordered.Worker { return &listWorker{lister: l} })
	}
	w.written, w.imageBytes, w.dataBytes = l.blocks, img.Size(), l.bytes
	if err != nil {
		return err
	}
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// unit returns the size of the blocks that are counted.
func (w *work) unit() int {
	if w.block != 0 {
		return w.block
	}
	return max(w.blockSize(), ext.MinBlockSize)
}

// rehearse finds out what a run would do, up to the first byte that it writes.
func (w *work) rehearse(ctx context.Context, img image.Image) error {
	if w.mode == toRaw && w.target != nil {
		if err := w.checkTarget(img.Size()); err != nil {
			return err
		}
	}
	if err := w.list(ctx, img); err != nil {
		return err
	}
	switch {
	case w.mode == toQCOW2:
		return w.measureQCOW2(ctx, img)
	case w.target == nil || w.compare:
		return nil
	}
	var err error
	switch kind := w.target.Kind(); {
	case kind != target.Stream && w.onlyAllocated:
		w.dataBytes, err = raw.AllocatedBytes(img)
	case kind == target.Device:
		w.dataBytes, err = raw.DeviceBytes(img)
	case kind == target.Stream:
		w.dataBytes, err = raw.StreamBytes(img)
	}
	return err
}

// measureQCOW2 finds out how long the qcow2 image would be, and whether it would
// fit. What comes through a pipe has been read by now.
func (w *work) measureQCOW2(ctx context.Context, img image.Image) error {
	if w.input.guest != nil && w.input.guest.stream != nil {
		return nil
	}
	opt := w.qcow2
	opt.BlockSize = w.blockSize()
	opt.Dense = w.target != nil && w.target.Kind() == target.Device
	opt.Progress = w.progress.Phase("measure", progress.Bytes)
	opt.Info = w.info
	stats, err := qcow2.WriteFile(ctx, nowhere{}, img, opt)
	if err != nil {
		return err
	}
	w.imageBytes, w.dataBytes = stats.FileSize, stats.FileSize
	if w.target != nil && w.target.Kind() == target.Device && stats.FileSize > w.target.Size() {
		return w.tooSmall(stats.FileSize)
	}
	return nil
}

// listUpdate lists what of img the target does not hold already.
func (w *work) listUpdate(ctx context.Context, img image.Image, l *lister) error {
	stats, err := raw.Update(ctx, unwritten{w.target}, img, raw.UpdateOptions{
		Options:  raw.Options{Threads: w.threads, Progress: l.progress},
		Block:    l.block,
		RunsOnly: w.onlyAllocated,
		Wrote:    l.print,
	})
	w.same, l.bytes = stats.Same, stats.Data
	return err
}

// unwritten is a target that stays as it is.
type unwritten struct{ t *target.Target }

// ReadAt reads the target.
func (u unwritten) ReadAt(p []byte, off int64) (int, error) { return u.t.ReadAt(p, off) }

// NextData returns where the target may have something but zeros.
func (u unwritten) NextData(off int64) (int64, error) { return u.t.NextData(off) }

// WriteAt writes nothing.
func (unwritten) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// ZeroOut does nothing.
func (unwritten) ZeroOut(context.Context, int64, int64, func(int64)) error { return nil }

// A lister is the state of list.
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

// Prepare finds them.
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

// Commit prints them.
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

// A jsonRun is a run of blocks that an image holds.
type jsonRun struct {
	Start uint64 `json:"start"` // block
	Count uint64 `json:"count"` // blocks
	Kind  string `json:"kind"`
}

// runs yields what an image holds, with its kinds where they are known.
func (w *work) runs() iter.Seq2[jsonRun, error] {
	if w.scan != nil && w.mode != install {
		return func(yield func(jsonRun, error) bool) {
			for r := range w.scan.Map.Runs() {
				if !yield(jsonRun{r.Start, r.Count, r.Kind.String()}, nil) {
					return
				}
			}
		}
	}
	block := w.unit()
	return func(yield func(jsonRun, error) bool) {
		for all := ordered.NewRuns(w.disk, block); ; {
			start, end, err := all.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			run := jsonRun{uint64(start) / uint64(block), uint64(end-start) / uint64(block), "data"}
			if !yield(run, err) || err != nil {
				return
			}
		}
	}
}

// writeRuns appends the runs to the JSON object that ends in b: they are too
// many to be held.
func writeRuns(b *bufio.Writer, object []byte, runs iter.Seq2[jsonRun, error]) error {
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
