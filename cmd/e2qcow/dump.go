package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
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

// A guest is the disk in a qcow2 image. The scan takes what it cannot read for
// bad sectors; that the image contradicts itself is something else, and
// remembered here.
type guest struct {
	*qcow2.Image

	mu  sync.Mutex
	err error // the first such error
}

// ReadAt reads as io.ReaderAt does.
func (g *guest) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.Image.ReadAt(p, off)
	var corrupt *qcow2.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
		g.mu.Lock()
		if g.err == nil {
			g.err = err
		}
		g.mu.Unlock()
	}
	return n, err
}

// damage returns the first error of the image itself.
func (g *guest) damage() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
