package main

import (
	"context"
	"fmt"

	"e2qcow/internal/image"
	"e2qcow/internal/raw"
	"e2qcow/internal/target"
)

// writeRaw writes img byte by byte, a disk or the file of another format.
func (w *work) writeRaw(ctx context.Context, img image.Image) error {
	opt := raw.Options{Threads: w.threads, Progress: w.copying()}
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
