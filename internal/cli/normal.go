package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"e2qcow/ext"
	"e2qcow/internal/app"
	"e2qcow/internal/e2i"
	"e2qcow/internal/freeze"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// normalOptions are those of a normal image, which is written without -Q, -r or
// -I.
type normalOptions struct {
	common
	search app.Search
	stamp  bool // the image says when it was made
}

func parseNormal(c *cli.Context, asE2image bool) (*normalOptions, error) {
	if !asE2image {
		if err := checkVerb(c.Args().First()); err != nil {
			return nil, err
		}
	}
	from, to, err := operands(c, toNormal, "a source and a target")
	if err != nil {
		return nil, err
	}
	o := &normalOptions{stamp: c.Bool(flagStamp)}
	if o.common, err = parseCommon(c, from, to, asE2image); err != nil {
		return nil, err
	}
	if o.search, err = parseSearch(c); err != nil {
		return nil, err
	}
	o.search.Scan.TablesOnly = true
	_, _, err = parseScramble(c, o.threads)
	return o, err
}

// run writes a normal image of the tables of the filesystem on the source. If
// the source is a normal image, it is rewritten.
func (o *normalOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "e2image"}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	isNormal := func(in *app.Input) (bool, error) { return in.Normal != nil, nil }
	b, err := o.begin(ctx, t, app.Quiet{Forced: o.force, Freeze: o.freeze, Mounted: true}, o.search, isNormal, shown)
	if err != nil {
		return err
	}
	in, part, search := b.in, b.part, b.search
	defer in.Close()
	shown.Plan(app.Plan{AsItIs: b.asItIs, DryRun: o.dryRun}.Steps()...)
	to, err := target.Open(ctx, o.target, target.Options{Source: in.Region, Format: target.Normal, Overwrite: o.overwrite})
	if err != nil {
		return err
	}
	out, err := o.openBeside(ctx, t.Output(to, false, "the same command"), in, "")
	if err != nil {
		return err
	}
	defer out.Close()

	work := func(ctx context.Context, frozen *freeze.Frozen) error {
		part := part.Watched(frozen)
		img := part.Disk
		if !b.asItIs {
			if img, done.Scan, err = imageOf(ctx, in, part, search, nil, false, shown); err != nil {
				return err
			}
		}
		sb, group := superblockOf(in, done.Scan)
		if sb == nil {
			return fmt.Errorf("%s %w", in.Src.Name(), app.ErrNoSuperblock)
		}
		n, err := e2i.New(img, img.Size(), sb, group, o.origin(in))
		if err != nil {
			return fmt.Errorf("%s: %w", in.Src.Name(), err)
		}
		if to.Kind() == target.Device && n.Size() > to.Size() {
			return app.TooSmall(to, n.Size())
		}
		copied, err := app.Raw{Threads: o.threads, Progress: app.Copying(shown, frozen)}.Write(ctx, to, n)
		done.ImageBytes, done.DataBytes = copied.ImageBytes, copied.DataBytes
		return cmp.Or(err, in.Damage(), context.Cause(ctx))
	}
	if err := o.do(ctx, t, in, out, true, work); err != nil {
		return err
	}
	done.Source, done.Target = in.Src.Name(), o.target
	done.Mode = app.Content(in, done.Scan, false, false)
	beside, err := o.settle(in, out, done, nil, shown)
	if err != nil {
		return err
	}

	found := t.SayFound(in, done.Scan)
	o.say(t, part, out, done)
	if !o.quiet && !t.SayScrambled(in, nil, false) {
		t.Say("the image contains inodes: owners, times, attributes, short symlink targets and, with inline_data, names and contents of small files")
	}
	return cmp.Or(beside, found)
}

// superblockOf returns the superblock that the scan used, and its group; nil if
// the scan used none.
func superblockOf(in *app.Input, res *scan.Result) (*ext.Superblock, uint32) {
	if in.Normal != nil {
		return in.Normal.Superblock(), 0
	}
	return res.Super(), res.SuperGroup()
}

// origin returns the fields of the header of a normal image that name its
// source. The time is left out unless it was requested, so that the same source
// gives the same bytes.
func (o *normalOptions) origin(in *app.Input) e2i.Header {
	if in.Normal != nil {
		return in.Normal.Origin()
	}
	h := e2i.Header{DeviceName: o.source.Name, Scrambled: in.Scrambled()}
	h.Hostname, _ = os.Hostname() // empty after an error, as in e2image
	var st unix.Stat_t
	if unix.Stat(o.source.Name, &st) == nil {
		h.Device = uint32(st.Rdev)
	}
	if o.stamp {
		h.Time = time.Now()
	}
	return h
}
