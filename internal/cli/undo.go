package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/app"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// openUndo opens where what is written over is kept.
func openUndo(ctx context.Context, o *installOptions, in *app.Input, out *app.Output) (*target.Target, error) {
	region, err := out.Target.Region()
	if err != nil {
		return nil, err
	}
	opt := target.Options{Source: region.With(in.Region), Format: target.Undo, DryRun: o.dryRun}
	t, err := target.Open(ctx, o.undo, opt)
	if err == nil && out.Record.Is(t) {
		t.Close()
		return nil, app.Usagef("option --%s: %s is also the file of --%s", flagUndo, t.Name(), flagJSON)
	}
	return t, err
}

// A before is what a target holds where something will be written over.
type before struct {
	to   *target.Target
	what image.Image // that will be written
	size int64       // of the target, in whole sectors
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
	n, err := b.to.ReadAt(p[:max(min(int64(len(p)), b.size-off), 0)], off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// keepUndo writes what the patch will be written over as a qcow2 image that
// marks zeros too, so that the image holds exactly what it puts back.
func keepUndo(ctx context.Context, t *Tool, o *installOptions, in *app.Input, out *app.Output, p *patch, shown *progress.Reporter) error {
	undo, err := openUndo(ctx, o, in, out)
	if err != nil {
		return err
	}
	defer undo.Close()
	t.Guard(undo.Close)
	const sector = 512
	to := out.Target
	_, err = qcow2.WriteFile(ctx, undo, before{to, p.img, to.Size() / sector * sector}, qcow2.WriteOptions{
		MarkZeros: true,
		Version:   3,
		BlockSize: p.block,
		Threads:   o.threads,
		Progress:  shown.Phase(app.Undoing, progress.Bytes),
		Info: func() qcow2.Info {
			return qcow2.Info{Tool: app.Tool(), Mode: app.Undo, BlockSize: int64(p.block), UUID: p.uuid}
		},
	})
	if err != nil {
		return err
	}
	err = undo.Commit()
	if unsynced := (*target.SyncError)(nil); errors.As(err, &unsynced) {
		err = fmt.Errorf("%s: %w", o.undo, err)
	}
	return err
}
