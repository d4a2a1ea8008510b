package main

import (
	"context"
	"fmt"

	"e2qcow/image"
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
	if err := w.checkTarget(img.Size()); err != nil {
		return err
	}
	kind := w.target.Kind()
	switch {
	case w.compare:
		return w.update(ctx, img, opt)
	case kind == target.InPlace && !w.onlyAllocated:
		stats, err = w.replacePart(ctx, img, opt)
	case kind != target.Stream && w.onlyAllocated:
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

// checkTarget refuses a target that a raw image of n bytes does not fit, or would
// be written over something on.
func (w *work) checkTarget(n int64) error {
	disk := w.target.Kind() == target.Device
	if disk && n > w.target.Size() {
		return w.tooSmall(n)
	}
	if w.to == nil {
		return nil
	}
	return w.checkPlace(n, disk)
}

// tooSmall says that an image of n bytes does not fit the target.
func (w *work) tooSmall(n int64) error {
	return fmt.Errorf("%s %w: it has %d bytes, the image %d", w.target.Name(), target.ErrTooSmall, w.target.Size(), n)
}

// replacePart writes img over a part of a file, which grows where it has to.
func (w *work) replacePart(ctx context.Context, img image.Image, opt raw.Options) (raw.Stats, error) {
	if err := w.target.Extend(img.Size()); err != nil {
		return raw.Stats{}, err
	}
	if err := w.target.ZeroOut(ctx, 0, img.Size(), nil); err != nil {
		return raw.Stats{}, err
	}
	return raw.WriteFile(ctx, w.target, img, opt)
}

// update writes what of img the target does not hold already.
func (w *work) update(ctx context.Context, img image.Image, opt raw.Options) error {
	if err := w.target.Extend(img.Size()); err != nil {
		return err
	}
	stats, err := raw.Update(ctx, w.target, img, raw.UpdateOptions{Options: opt, Block: w.unit(), RunsOnly: w.onlyAllocated})
	if err == nil && w.to == nil {
		err = w.target.Cut(img.Size())
	}
	w.imageBytes, w.dataBytes = stats.Size, stats.Data
	w.written, w.same = stats.Written, stats.Same
	return err
}
