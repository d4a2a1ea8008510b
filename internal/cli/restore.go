package cli

import (
	"cmp"
	"context"
	"iter"
	"time"

	"github.com/urfave/cli/v2"

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
	in, bad, err := o.open(ctx, t, app.Quiet{Forced: o.force, Freeze: o.freeze}, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	asItIs := in.Normal != nil || in.Guest != nil && !o.search.Place.Inside() && !o.scramble.On()
	if err := cmp.Or(o.checkInput(in, asItIs), checkScrambled(in, o.scramble)); err != nil {
		return err
	}
	t.SayForeignMap(o.badMap, bad, in)
	part, err := in.Part(o.search.Place)
	if err != nil {
		return err
	}
	search := o.search.Avoiding(part.Ranges(bad))
	if !asItIs {
		if err := t.CheckSplit(part, search.Scan.Bad, false); err != nil {
			return err
		}
	}
	out, err := o.openOutput(ctx, t, in, part, o.names)
	if err != nil {
		return err
	}
	defer out.Close()

	scrambler := o.scramble.Begin()
	var runs iter.Seq2[app.Run, error] // of a dry run
	work := func(ctx context.Context, frozen *freeze.Frozen) error {
		part := part.Watched(frozen)
		img := part.Disk
		if !asItIs {
			if img, done.Scan, err = imageOf(ctx, in, part, search, scrambler, o.to != nil || endsWithFilesystem(search, part), shown); err != nil {
				return err
			}
		}
		if runs, err = o.write(ctx, t, in, part, out.Target, img, &done, shown, frozen); err != nil {
			return err
		}
		if err := scrambler.Finish(ctx, out.Names); err != nil {
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

	found := t.SayFound(in, done.Scan)
	o.sayRaw(t, part, out, done)
	if !o.quiet && !o.dryRun && !t.SayScrambled(in, scrambler, true) && done.Scan != nil {
		t.SayPrivate(done.Scan, search.Scan)
	}
	return cmp.Or(beside, found)
}
