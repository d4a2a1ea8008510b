package cli

import (
	"context"
	"math"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/overlay"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
)

// The flags of what serves a disk: mount and try.
const (
	flagReadOnly     = "read-only"
	flagChanges      = "changes"
	flagChangesLimit = "changes-limit"
	flagBackground   = "background"
)

// serveFlags are those that mount and try have in common.
func serveFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: flagChanges, Usage: "keep the changes in `FILE`, a qcow2 image over the source"},
		&cli.StringFlag{Name: flagChangesLimit, Usage: "of changes, `SIZE` is kept (8G); then the disk is full"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the disk begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the disk is partition `N` of the source"},
		&impliedFlag{
			StringFlag: cli.StringFlag{Name: flagScramble, Aliases: []string{"s"}, Usage: "metadata only, without what is private; `HOW`: strict"},
			value:      scrambleUsual,
			words:      []string{scrambleUsual, "strict"},
		},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read a source in use, or a contradictory image"},
		&cli.BoolFlag{Name: flagBacking},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|qcow2|e2image`"},
		&cli.StringFlag{Name: flagSpoolDir, Usage: "`DIR`"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}, scrambleFlags()...)
}

// serveOptions are those that mount and try have in common.
type serveOptions struct {
	source    app.Source
	search    app.Search
	scramble  app.Scramble
	overlay   overlay.Options
	changes   string // where changes are kept; "" for nowhere
	overwrite bool
}

func parseServe(c *cli.Context, name string) (o serveOptions, err error) {
	o.changes, o.overwrite = c.String(flagChanges), c.Bool(flagOverwrite)
	if c.IsSet(flagChanges) && (o.changes == "" || target.IsStdout(o.changes)) {
		return o, app.Usagef("option --%s needs the name of a file", flagChanges)
	}
	if o.source, err = parseSource(c, name); err != nil {
		return o, err
	}
	limit, err := sizeOf(c, flagChangesLimit, 1<<20, math.MaxInt64)
	if err != nil {
		return o, err
	}
	o.overlay = overlay.Options{Limit: int64(limit), Spool: o.source.Spool}
	threads, err := number(c, flagThreads, 1, maxThreads)
	if err != nil {
		return o, err
	}
	o.source.Threads = int(threads)
	o.search = app.Search{Force: o.source.Force, Scrambles: c.IsSet(flagScramble)}
	if o.search.Place, err = parsePlace(c); err != nil {
		return o, err
	}
	if o.scramble, _, err = parseScramble(c, int(threads)); err != nil {
		return o, err
	}
	switch {
	case o.changes == "":
	case o.search.Place.Inside() || o.scramble.On():
		return o, app.Usagef("option --%s keeps changes of the whole source as it is: not with -o, --%s or -s", flagChanges, flagPartition)
	case source.IsStdin(name):
		return o, app.Usagef("option --%s needs a file that is there later, and standard input is none", flagChanges)
	}
	return o, nil
}

// A served source is what mount and try work on.
type served struct {
	in   *app.Input
	base image.Image // as it is read
	disk app.ServedDisk
}

func (s *served) close() {
	s.disk.Close()
	s.in.Close()
}

// serve opens the source, and makes a disk of it that can be written to.
func (o *serveOptions) serve(ctx context.Context, t *Tool, shown *progress.Reporter) (*served, error) {
	in, err := t.Open(ctx, o.source, shown)
	if err != nil {
		return nil, err
	}
	base, err := o.base(ctx, t, in, shown)
	if err != nil {
		in.Close()
		return nil, err
	}
	shown.Finish()
	return &served{in, base, app.ServedDisk{Overlay: overlay.New(base, o.overlay)}}, nil
}

// base returns the disk that is served.
func (o *serveOptions) base(ctx context.Context, t *Tool, in *app.Input, shown *progress.Reporter) (image.Image, error) {
	if err := t.CheckQuiet(in, app.Quiet{Forced: o.source.Force}); err != nil {
		return nil, err
	}
	if o.changes != "" && in.Normal != nil {
		return nil, app.Usagef("option --%s: a normal image of e2image cannot be the backing file of a qcow2 image", flagChanges)
	}
	if err := checkScrambled(in, o.scramble); err != nil {
		return nil, err
	}
	part, err := in.Part(o.search.Place)
	if err != nil {
		return nil, err
	}
	if !o.scramble.On() {
		return in.Cached(part.Disk), nil
	}
	img, _, err := imageOf(ctx, in, part, o.search, o.scramble.Begin(), false, shown)
	return img, err
}

// openChanges opens where changes are kept, nil for nowhere.
func (o *serveOptions) openChanges(ctx context.Context, t *Tool, s *served) (*target.Target, error) {
	if o.changes == "" {
		return nil, nil
	}
	to, err := target.Open(ctx, o.changes, target.Options{Source: s.in.Region, Format: target.QCOW2, Overwrite: o.overwrite})
	if err != nil {
		return nil, err
	}
	if to.Kind() != target.File {
		to.Close()
		return nil, app.Usagef("option --%s: %s is no regular file", flagChanges, o.changes)
	}
	t.Guard(to.Close)
	return to, nil
}

// keep writes the changes, if they are to be kept.
func (o *serveOptions) keep(ctx context.Context, t *Tool, s *served, to *target.Target) error {
	if to == nil {
		return nil
	}
	if err := app.WriteChanges(context.WithoutCancel(ctx), to, s.disk, s.in); err != nil {
		return err
	}
	t.Say("%s holds the changes: with --backing it is read as the changed disk, as long as %s stays where and as it is", to.Name(), s.in.Src.Name())
	return nil
}

// otherWays says what else serves a source, where FUSE is not available.
func otherWays(err error, name string) error {
	abs, absErr := filepath.Abs(name)
	if absErr != nil {
		abs = name
	}
	return advise.New(err.Error(), "restore the image with -r, or serve it as a file that is there already (see fuse in its manual): "+
		"qemu-storage-daemon --blockdev driver=file,node-name=f,filename="+abs+
		" --blockdev driver=qcow2,node-name=q,file=f --export type=fuse,id=e,node-name=q,mountpoint=FILE,writable=on")
}
