package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"e2qcow/internal/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// A guest is the disk in a qcow2 image. The scan takes what it cannot read for
// bad sectors; that the image contradicts itself is something else, and
// remembered here.
type guest struct {
	*qcow2.Image
	name string // of the source, for errors

	mu  sync.Mutex
	err error // the first such error
}

// openGuest opens the qcow2 image in src; nil where it holds something else.
func openGuest(src *source.Source) (*guest, error) {
	img, err := qcow2.Open(src, src.Size(), qcow2.OpenOptions{})
	if errors.Is(err, qcow2.ErrNotQcow2) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Name(), err)
	}
	return &guest{Image: img, name: src.Name()}, nil
}

// ReadAt reads as io.ReaderAt does.
func (g *guest) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.Image.ReadAt(p, off)
	return n, g.note(err)
}

// NextRun returns the next run as image.Image says.
func (g *guest) NextRun(off int64) (start, end int64, err error) {
	start, end, err = g.Image.NextRun(off)
	return start, end, g.note(err)
}

// note remembers damage and names the source.
func (g *guest) note(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	err = fmt.Errorf("%s: %w", g.name, err)
	var corrupt *qcow2.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
		g.mu.Lock()
		if g.err == nil {
			g.err = err
		}
		g.mu.Unlock()
	}
	return err
}

// damage returns the first error of the image itself; a nil guest has none.
func (g *guest) damage() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// writeRaw writes img byte by byte.
func (w *work) writeRaw(ctx context.Context, img image.Image) error {
	opt := raw.Options{Threads: w.threads, Progress: w.progress.Phase("copy", progress.Bytes)}
	var (
		stats raw.Stats
		err   error
	)
	switch kind := w.target.Kind(); {
	case kind == target.Device && img.Size() > w.target.Size():
		return fmt.Errorf("%s %w: it has %d bytes, the image %d", w.target.Name(), target.ErrTooSmall, w.target.Size(), img.Size())
	case kind == target.Device && w.onlyAllocated:
		stats, err = raw.WriteAllocated(ctx, w.target, img, opt)
	case kind == target.Device:
		stats, err = raw.WriteDevice(ctx, w.target, img, opt)
	case kind == target.Stream:
		stats, err = raw.WriteStream(ctx, w.target, img, opt)
	default:
		stats, err = raw.WriteFile(ctx, w.target, img, opt)
	}
	w.imageBytes, w.dataBytes = stats.Size, stats.Data
	return err
}
