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
	"e2qcow/internal/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/internal/zero"
)

// list prints the blocks of img that would be written, as e2image does: those
// in its runs that are not zero. Nothing is printed where the record goes there.
func (w *work) list(ctx context.Context, img image.Image) error {
	block := w.blockSize()
	if block == 0 {
		block = ext.MinBlockSize
	}
	out := io.Discard
	if w.json == "" || !target.IsStdout(w.json) {
		out = w.stdout
	}
	l := &lister{out: bufio.NewWriter(out), block: block, size: img.Size(), progress: w.progress.Phase("read", progress.Bytes)}
	err := ordered.Run(ctx, img, ordered.Options{Granule: block, Threads: w.threads},
		func() ordered.Worker { return &listWorker{lister: l} })
	w.written, w.imageBytes, w.dataBytes = l.blocks, img.Size(), l.blocks*int64(block)
	if err != nil {
		return err
	}
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// A lister is the state of list.
type lister struct {
	out      *bufio.Writer
	block    int
	size     int64
	blocks   int64
	progress func(done, total int64)
}

// A listWorker finds the blocks of a chunk that are not zero.
type listWorker struct {
	*lister
	found []int64
}

// Prepare finds them.
func (w *listWorker) Prepare(c *ordered.Chunk) error {
	w.found = w.found[:0]
	for _, s := range c.Spans {
		for at := 0; at < len(s.Data); at += w.block {
			if !zero.IsZero(s.Data[at : at+w.block]) {
				w.found = append(w.found, (s.Off+int64(at))/int64(w.block))
			}
		}
	}
	return nil
}

// Commit prints them.
func (w *listWorker) Commit(c *ordered.Chunk) error {
	var line []byte
	for _, n := range w.found {
		line = append(line[:0], "Writing block "...)
		line = append(strconv.AppendInt(line, n, 10), '\n')
		if _, err := w.out.Write(line); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	w.blocks += int64(len(w.found))
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
	if w.scan != nil {
		return func(yield func(jsonRun, error) bool) {
			for r := range w.scan.Map.Runs() {
				if !yield(jsonRun{r.Start, r.Count, r.Kind.String()}, nil) {
					return
				}
			}
		}
	}
	block := max(w.blockSize(), ext.MinBlockSize)
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
