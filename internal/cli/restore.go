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

// restoreOptions are those of -r without -a.
type restoreOptions struct {
	rawOptions
	scramble app.Scramble
	names    string // file for old and new names; "" for none
}

func parseRestore(c *cli.Context, asE2image bool) (*restoreOptions, error) {
	raw, err := parseRaw(c, asE2image)
	if err != nil {
		return nil, err
	}
	o := &restoreOptions{rawOptions: raw}
	if o.scramble, o.names, err = parseScramble(c, o.threads); err != nil {
		return nil, err
	}
	o.source.Stream = !o.search.Place.Inside() && !o.scramble.On()
	return o, nil
}

// run writes a raw image: of the disk in an image as it is, or of the metadata of
// the filesystem on the source.
func (o *restoreOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "raw", Salt: o.scramble.SaltText()}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	b, err := o.begin(ctx, t, app.Quiet{Forced: o.force, Freeze: o.freeze}, o.search, o.check, shown)
	if err != nil {
		return err
	}
	in, part, search := b.in, b.part, b.search
	defer in.Close()
	shown.Plan(app.Plan{AsItIs: b.asItIs, Scrambled: o.scramble.On(), DryRun: o.dryRun}.Steps()...)
	out, err := o.openOutput(ctx, t, in, part, o.names)
	if err != nil {
		return err
	}
	defer out.Close()

	scrambler := o.scramble.Begin()
	var runs iter.Seq2[app.Run, error] // of a dry run
	work := func(ctx context.Context, frozen *freeze.Frozen) error {
		part := part.Watched(frozen)
		var img image.Image
		if b.asItIs {
			img, done.Rescue, err = in.Rescue(ctx, part.Disk, search.Scan.Retries)
		} else {
			img, done.Scan, err = imageOf(ctx, in, part, search, scrambler, o.to != nil || endsWithFilesystem(search, part), shown)
		}
		if err != nil {
			return err
		}
		if runs, err = o.write(ctx, t, in, part, out.Target, img, &done, shown, frozen); err != nil {
			return err
		}
		if err := scrambler.Finish(ctx, out.Names, shown); err != nil {
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
	done.Mode = app.Content(in, done.Scan, o.scramble.On(), false)
	beside, err := o.settle(in, out, done, runs, shown)
	if err != nil {
		return err
	}

	found := cmp.Or(t.SayRescued(done.Rescue), t.SayFound(in, done.Scan))
	t.SayLost(in, o.lost, done.Lost, o.lostHint(in, search))
	o.sayRaw(t, part, out, done)
	if !o.quiet && !o.dryRun && !t.SayScrambled(in, scrambler, true) && done.Scan != nil {
		t.SayPrivate(done.Scan, search.Scan)
	}
	return cmp.Or(beside, found)
}

// check reports whether the disk in an image is copied as it is, and refuses to
// scramble a normal image.
func (o *restoreOptions) check(in *app.Input) (asItIs bool, err error) {
	asItIs = in.Normal != nil || in.Guest != nil && !o.search.Place.Inside() && !o.scramble.On()
	return asItIs, checkScrambled(in, o.scramble)
}
