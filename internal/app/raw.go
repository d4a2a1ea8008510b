package app

import (
	"context"

	"e2qcow/image"
	"e2qcow/internal/raw"
	"e2qcow/internal/target"
)

// Copied counts the bytes and blocks that a sink wrote, or would write.
type Copied struct {
	ImageBytes int64 // of the image
	DataBytes  int64 // of these, not holes
	Written    int64 // blocks; 0 where they are not counted
	Same       int64 // blocks that the target held already
}

// A Raw says how a raw image is written.
type Raw struct {
	Compare       bool // only what differs
	OnlyAllocated bool // only the runs: the rest of the target stays as it is
	Part          bool // into the middle of the target, which keeps what lies behind
	Block         int  // bytes that are compared at a time
	Threads       int
	Progress      func(done, total int64)
}

// Write writes img to t.
func (o Raw) Write(ctx context.Context, t *target.Target, img image.Image) (Copied, error) {
	opt := raw.Options{Threads: o.Threads, Progress: o.Progress}
	var (
		stats raw.Stats
		err   error
	)
	kind := t.Kind()
	switch {
	case o.Compare:
		return o.update(ctx, t, img, opt)
	case kind == target.InPlace && !o.OnlyAllocated:
		stats, err = replacePart(ctx, t, img, opt)
	case kind != target.Stream && o.OnlyAllocated:
		stats, err = raw.WriteAllocated(ctx, t, img, opt)
	case kind == target.Device:
		stats, err = raw.WriteDevice(ctx, t, img, opt)
	case kind == target.Stream:
		stats, err = raw.WriteStream(ctx, t, img, opt)
	default:
		stats, err = raw.WriteFile(ctx, t, img, opt)
	}
	return Copied{ImageBytes: stats.Size, DataBytes: stats.Data}, err
}

// replacePart writes img over a part of a file, which grows where it has to.
func replacePart(ctx context.Context, t *target.Target, img image.Image, opt raw.Options) (raw.Stats, error) {
	if err := t.Extend(img.Size()); err != nil {
		return raw.Stats{}, err
	}
	if err := t.ZeroOut(ctx, 0, img.Size(), nil); err != nil {
		return raw.Stats{}, err
	}
	return raw.WriteFile(ctx, t, img, opt)
}

// update writes the blocks of img that differ from the target.
func (o Raw) update(ctx context.Context, t *target.Target, img image.Image, opt raw.Options) (Copied, error) {
	if err := t.Extend(img.Size()); err != nil {
		return Copied{}, err
	}
	stats, err := raw.Update(ctx, t, img, raw.UpdateOptions{Options: opt, Block: o.Block, RunsOnly: o.OnlyAllocated})
	if err == nil && !o.Part {
		err = t.Cut(img.Size())
	}
	return Copied{ImageBytes: stats.Size, DataBytes: stats.Data, Written: stats.Written, Same: stats.Same}, err
}

// Bytes returns how many bytes Write would write to t. For a regular file that
// is the size of the pages that are not zero, which a listing has counted.
func (o Raw) Bytes(t *target.Target, img image.Image, pages int64) (int64, error) {
	switch kind := t.Kind(); {
	case kind != target.Stream && o.OnlyAllocated:
		return raw.AllocatedBytes(img)
	case kind == target.Device:
		return raw.DeviceBytes(img)
	case kind == target.Stream:
		return raw.StreamBytes(img)
	}
	return pages, nil
}
