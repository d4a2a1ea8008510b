package main

import (
	"context"
	"errors"
	"io"

	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// checkRoom refuses a device that is too small for the image. Where it may be,
// the image is made once without being written, which takes a source that can
// be read twice, and no count of what is scrambled.
func (w *work) checkRoom(ctx context.Context, img image.Image, opt qcow2.WriteOptions) error {
	guest := w.input.guest
	if w.target.Kind() != target.Device || guest != nil && guest.stream != nil || w.scramble.on() {
		return nil
	}
	if most, err := mostOf(img, opt.ClusterSize); err != nil || most <= w.target.Size() {
		return err
	}
	opt.Progress = w.progress.Phase("measure", progress.Bytes)
	stats, err := qcow2.WriteFile(ctx, nowhere{}, img, opt)
	if err == nil && stats.FileSize > w.target.Size() {
		err = w.tooSmall(stats.FileSize)
	}
	return err
}

// mostOf returns a size that no qcow2 image of img exceeds: the pieces of it
// that clusters can be, a table for each, and what is as long as the disk.
func mostOf(img image.Image, clusterSize int) (int64, error) {
	const (
		largest = 128 << 10 // cluster, unless told otherwise
		tables  = 64 << 20  // L1 and the refcount table, which qemu limits
	)
	known := int64(0)
	for runs := ordered.NewRuns(img, max(largest, clusterSize)); ; {
		start, end, err := runs.Next()
		if errors.Is(err, io.EOF) {
			return 2*known + known/8 + tables, nil
		}
		if err != nil {
			return 0, err
		}
		known += end - start
	}
}

// nowhere is what an image is measured with.
type nowhere struct{}

// WriteAt drops b.
func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// Truncate does nothing.
func (nowhere) Truncate(int64) error { return nil }
