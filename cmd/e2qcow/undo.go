package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// openUndo opens where what is written over is kept.
func (w *work) openUndo(ctx context.Context) (*target.Target, error) {
	region, err := w.target.Region()
	if err != nil {
		return nil, err
	}
	opt := target.Options{Source: region.With(w.input.region), Format: target.Undo, DryRun: w.dryRun}
	t, err := target.Open(ctx, w.undo, opt)
	if err == nil && w.record.to != nil && t.Is(w.record.to) {
		t.Close()
		return nil, usagef("option --%s: %s is where --%s goes", flagUndo, t.Name(), flagJSON)
	}
	return t, err
}

// A before is what a target holds where something will be written over.
type before struct {
	*target.Target
	what image.Image
	size int64
}

// Size returns the size of the target, in whole sectors.
func (b before) Size() int64 { return b.size }

// NextRun returns the next run that will be written over.
func (b before) NextRun(off int64) (start, end int64, err error) {
	start, end, err = b.what.NextRun(off)
	if err == nil && end > b.size {
		err = io.ErrUnexpectedEOF // the patch was measured to fit
	}
	return start, end, err
}

// ReadAt reads the target. Beyond its end, which is within the last cluster,
// all is zero.
func (b before) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Target.ReadAt(p[:max(min(int64(len(p)), b.size-off), 0)], off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// keepUndo writes what the patch will be written over as a qcow2 image that
// marks zeros too, so that what it holds is exactly what it puts back.
func (s *session) keepUndo(ctx context.Context, w *work, p *patch) error {
	if w.undo == "" {
		return nil
	}
	t, err := w.openUndo(ctx)
	if err != nil {
		return err
	}
	defer t.Close()
	s.guard(t.Close)
	const sector = 512
	_, err = qcow2.WriteFile(ctx, t, before{w.target, p.img, w.target.Size() / sector * sector}, qcow2.WriteOptions{
		MarkZeros: true,
		Version:   3,
		BlockSize: p.block,
		Threads:   w.threads,
		Progress:  w.progress.Phase("undo", progress.Bytes),
		Info: func() qcow2.Info {
			return qcow2.Info{Tool: toolName(), Mode: infoUndo, BlockSize: int64(p.block), UUID: p.uuid}
		},
	})
	if err != nil {
		return err
	}
	err = t.Commit()
	if unsynced := (*target.SyncError)(nil); errors.As(err, &unsynced) {
		err = fmt.Errorf("%s: %w", w.undo, err)
	}
	return err
}
