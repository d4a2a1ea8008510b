package cli

import (
	"context"
	"fmt"
	"iter"

	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/app"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
)

// rawOptions are those of what writes a raw image: -r and -ra.
type rawOptions struct {
	common
	search        app.Search
	to            *int64 // where on the target the image begins, bytes; nil where it is not given
	compare       bool   // only what differs is written
	onlyAllocated bool   // the rest of the target stays as it is
}

func parseRaw(c *cli.Context, asE2image bool) (o rawOptions, err error) {
	from, to, err := operands(c, toRaw, "a source and a target")
	if err != nil {
		return o, err
	}
	if o.common, err = parseCommon(c, from, to, asE2image); err != nil {
		return o, err
	}
	o.compare, o.onlyAllocated = c.Bool(flagCompare), c.Bool(flagOnlyAllocated)
	// Scripts restore to devices that held something, as a clone of last week.
	o.overwrite = o.overwrite || asE2image
	if o.search, err = parseSearch(c); err != nil {
		return o, err
	}
	o.to, err = parseOffset(c, flagTargetOffset)
	return o, err
}

// openOutput opens the target and the files beside it. A dry run opens the
// target to see what a run would see there.
func (o *rawOptions) openOutput(ctx context.Context, t *Tool, in *app.Input, part *app.Part, names string) (*app.Output, error) {
	var (
		to    *target.Target
		err   error
		again = "the same command"
		opt   = target.Options{Source: in.Region, Format: target.Raw, Overwrite: o.overwrite, DryRun: o.dryRun}
	)
	switch {
	case o.dryRun && target.IsStdout(o.target) && o.to == nil && !o.compare:
	case o.to != nil:
		to, err = target.OpenPart(o.target, *o.to, opt, app.SameFilesystem(part.Disk))
	case o.compare:
		to, err = target.OpenPart(o.target, 0, opt, app.SameFilesystem(part.Disk))
	default:
		to, err = target.Open(ctx, o.target, opt)
	}
	if err != nil {
		return nil, err
	}
	if to != nil && to.Kind() == target.Device && o.to == nil && !o.compare && !o.overwrite {
		again += " with --" + flagOverwrite // as there is something by then
	}
	return o.openBeside(ctx, t.Output(to, o.dryRun, again), in, names)
}

// blockSize returns the size of the blocks that are counted and compared.
func (o *rawOptions) blockSize(in *app.Input, done *app.Done) int {
	switch n := blockSize(in, done.Scan); {
	case n != 0:
		return n
	case in.Guest != nil:
		return int(in.Guest.Header().ClusterSize())
	}
	return 0
}

// write writes img, or lists the blocks of img that would be written, and enters
// in done what was counted. It returns the runs that a dry run lists.
func (o *rawOptions) write(ctx context.Context, t *Tool, in *app.Input, part *app.Part, to *target.Target, img image.Image, done *app.Done, shown *progress.Reporter, frozen *freeze.Frozen) (iter.Seq2[app.Run, error], error) {
	if to != nil {
		if err := o.checkTarget(to, part, img.Size()); err != nil {
			return nil, err
		}
	}
	list := o.listing(t, o.blockSize(in, done), shown)
	sink := app.Raw{Compare: o.compare, OnlyAllocated: o.onlyAllocated, Part: o.to != nil, Block: list.Block, Threads: o.threads}
	var (
		copied app.Copied
		runs   iter.Seq2[app.Run, error]
		err    error
	)
	switch {
	case o.dryRun && o.compare:
		list.RunsOnly = o.onlyAllocated
		copied, err = list.ListChanges(ctx, to, img)
	case o.dryRun:
		copied, err = list.List(ctx, img)
		if err == nil && to != nil {
			copied.DataBytes, err = sink.Bytes(to, img, copied.DataBytes)
		}
	default:
		sink.Progress = app.Copying(shown, frozen)
		copied, err = sink.Write(ctx, to, img)
	}
	done.ImageBytes, done.DataBytes = copied.ImageBytes, copied.DataBytes
	if o.dryRun || o.compare {
		done.Written = &copied.Written
	}
	if o.dryRun {
		runs = runsOf(done.Scan, img, list.Block)
	}
	if o.compare {
		done.Same = &copied.Same
	}
	return runs, err
}

// checkTarget refuses a target that a raw image of n bytes does not fit, or where
// it would be written over something.
func (o *rawOptions) checkTarget(to *target.Target, part *app.Part, n int64) error {
	if to.Kind() == target.Device && n > to.Size() {
		return app.TooSmall(to, n)
	}
	if o.to == nil || o.overwrite {
		return nil
	}
	return app.CheckPlace(to, n, part.Disk)
}

// sayRaw says what was written, after what was found.
func (o *rawOptions) sayRaw(t *Tool, part *app.Part, out *app.Output, done app.Done) {
	if o.compare {
		// As e2image says it, and where.
		_, _ = fmt.Fprintf(t.Stdout, "%d blocks already contained the data to be copied\n", *done.Same)
	}
	o.say(t, part, out, done)
	if !o.quiet && !o.dryRun && o.to == nil {
		t.SayBehind(out.Target, done.ImageBytes)
	}
}
