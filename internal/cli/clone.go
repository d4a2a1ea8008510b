package cli

import (
	"cmp"
	"context"
	"iter"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/app"
	"e2qcow/internal/freeze"
)

// cloneOptions are those of -ra with two operands.
type cloneOptions struct{ rawOptions }

func parseClone(c *cli.Context, asE2image bool) (*cloneOptions, error) {
	if c.Args().Len() == 1 && c.Args().First() != "" {
		return nil, &app.UsageError{
			What:     "-ra with one operand moves a filesystem, and needs -o and -O: from where to where; a clone needs a source and a target",
			Operands: -1,
		}
	}
	raw, err := parseRaw(c, asE2image)
	if err != nil {
		return nil, err
	}
	raw.search.Scan.ZeroedTables = raw.onlyAllocated
	if _, _, err := parseScramble(c, raw.threads); err != nil {
		return nil, err
	}
	return &cloneOptions{raw}, nil
}

// run copies the filesystem on the source, with the contents of files. An image
// of e2qcow contains only what a scan found, so the disk in it is copied as it
// is. In an image of another program, a filesystem may be longer than the disk.
func (o *cloneOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "raw", Files: true}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	b, err := o.begin(ctx, t, app.Quiet{Forced: o.force, Freeze: o.freeze}, o.search, o.check, shown)
	if err != nil {
		return err
	}
	in, part, search := b.in, b.part, b.search
	defer in.Close()
	shown.Plan(app.Plan{AsItIs: b.asItIs, DryRun: o.dryRun}.Steps()...)
	out, err := o.openOutput(ctx, t, in, part, "")
	if err != nil {
		return err
	}
	defer out.Close()

	var runs iter.Seq2[app.Run, error] // of a dry run
	work := func(ctx context.Context, frozen *freeze.Frozen) error {
		part := part.Watched(frozen)
		var img image.Image
		if b.asItIs {
			img, done.Rescue, err = in.Rescue(ctx, part.Disk, search.Scan.Retries)
		} else {
			// As large as the filesystem, so the clone fits wherever the
			// filesystem fits.
			img, done.Scan, err = imageOf(ctx, in, part, search, nil, true, shown)
		}
		if err != nil {
			return err
		}
		if runs, err = o.write(ctx, t, in, part, out.Target, img, &done, shown, frozen); err != nil {
			return err
		}
		if done.Lost, err = o.lost.Find(ctx, part, done.Scan, search); err != nil {
			return err
		}
		return cmp.Or(in.Damage(), context.Cause(ctx))
	}
	if err := o.do(ctx, t, in, out, false, work); err != nil {
		return err
	}
	done.Source, done.Target, done.Offset = in.Src.Name(), o.target, part.Start
	done.Mode = app.Content(in, done.Scan, false, true)
	beside, err := o.settle(in, out, done, runs, shown)
	if err != nil {
		return err
	}

	found := cmp.Or(t.SayRescued(done.Rescue), t.SayFound(in, done.Scan))
	t.SayLost(in, o.lost, done.Lost, o.lostHint(in, search))
	o.sayRaw(t, part, out, done)
	if !o.quiet && !o.dryRun {
		t.SayScrambled(in, nil, true)
	}
	return cmp.Or(beside, found)
}

// check reports whether the disk in an image is copied as it is.
func (o *cloneOptions) check(in *app.Input) (asItIs bool, err error) {
	return in.Normal != nil || in.Guest != nil && !o.search.Place.Inside() && !in.IsForeignFilesystem(), nil
}
