package app

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

// CheckRoom refuses a device that is too small for the qcow2 image of img. If
// the device may be too small, the image is made once without writing it, so
// img must be readable twice.
func CheckRoom(ctx context.Context, t *target.Target, img image.Image, opt qcow2.WriteOptions, shown *progress.Reporter) error {
	if most, err := mostOf(img, opt.ClusterSize); err != nil || most <= t.Size() {
		return err
	}
	opt.Progress = Measuring(shown)
	size, err := MeasureQCOW2(ctx, img, opt)
	if err == nil && size > t.Size() {
		err = TooSmall(t, size)
	}
	return err
}

// MeasureQCOW2 returns how long the qcow2 image of img would be, in bytes.
func MeasureQCOW2(ctx context.Context, img image.Image, opt qcow2.WriteOptions) (int64, error) {
	stats, err := qcow2.WriteFile(ctx, nowhere{}, img, opt)
	return stats.FileSize, err
}

// mostOf returns an upper bound for the size of a qcow2 image of img: its
// clusters, a table for each, and the tables that grow with the disk.
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

// nowhere is a target that drops all bytes, to measure an image.
type nowhere struct{}

// WriteAt drops b.
func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// Truncate does nothing.
func (nowhere) Truncate(int64) error { return nil }
