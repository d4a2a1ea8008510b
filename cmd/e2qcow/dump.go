package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/internal/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// A disk is where a filesystem is looked for: a source, or what a qcow2 image
// in it holds.
type disk interface {
	io.ReaderAt
	Size() int64
}

// metadata scans the filesystem on d, which messages call name.
func metadata(ctx context.Context, d disk, name string, o options, report *progress.Reporter) (*scan.Result, error) {
	opt := o.scan
	opt.Progress = report.Phase("scan", progress.Groups)
	res, err := scan.Scan(ctx, d, d.Size(), opt)
	if errors.Is(err, scan.ErrNotExt) {
		found, _, _ := signature.Find(d, d.Size())
		return nil, &notExtError{name: name, found: found, superblock: o.scan.Superblock}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return res, nil
}

// A notExtError says what there is in place of a filesystem.
type notExtError struct {
	name       string
	found      signature.Signature
	superblock uint64 // the block where one was asked for, or 0
}

func (e *notExtError) Error() string {
	text := e.name + ": no ext2, ext3 or ext4 filesystem found"
	if e.superblock != 0 {
		text += fmt.Sprintf(" by the superblock in block %d", e.superblock)
	}
	if e.found.Name != "" {
		text += "; it looks like " + e.found.Name
	}
	return text
}

func (e *notExtError) Unwrap() error { return scan.ErrNotExt }

// writeQCOW2 writes img as a qcow2 image.
func (w *work) writeQCOW2(ctx context.Context, img image.Image) error {
	opt := qcow2.WriteOptions{
		BlockSize: int(w.scan.BlockSize()),
		Threads:   w.threads,
		Dense:     w.target.Kind() == target.Device,
		Progress:  w.progress.Phase("copy", progress.Bytes),
	}
	var (
		stats qcow2.Stats
		err   error
	)
	if w.target.Kind() == target.Stream {
		stats, err = qcow2.WriteStream(ctx, w.target, img, opt)
	} else {
		stats, err = qcow2.WriteFile(ctx, w.target, img, opt)
	}
	w.imageBytes, w.dataBytes = stats.FileSize, stats.FileSize
	return err
}
