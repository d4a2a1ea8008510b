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
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// dumpOptions are those of -Q.
type dumpOptions struct {
	common
	search   app.Search
	scramble app.Scramble
	names    string // file for old and new names; "" for none
	whole    bool   // a qcow2 source is copied as it is
	stamp    bool   // the image says when it was made
	qcow2    qcow2.WriteOptions
}

func parseDump(c *cli.Context, asE2image bool) (*dumpOptions, error) {
	from, to, err := operands(c, toQCOW2, "a source and a target")
	if err != nil {
		return nil, err
	}
	o := &dumpOptions{whole: c.Bool(flagWhole), stamp: c.Bool(flagStamp)}
	if o.common, err = parseCommon(c, from, to, asE2image); err != nil {
		return nil, err
	}
	o.source.Stream = o.whole
	if o.qcow2, err = parseQCOW2(c); err != nil {
		return nil, err
	}
	o.qcow2.Spool, o.qcow2.Threads = qcow2.SpoolOptions(o.source.Spool), o.threads
	if o.search, err = parseSearch(c); err != nil {
		return nil, err
	}
	if o.whole && o.scanFlag != "" {
		return nil, app.Usagef("option --%s applies to a filesystem, but --%s copies the disk and looks for none", o.scanFlag, flagWhole)
	}
	o.scramble, o.names, err = parseScramble(c, o.threads)
	return o, err
}

// parseQCOW2 parses how a qcow2 image is written.
func parseQCOW2(c *cli.Context) (o qcow2.WriteOptions, err error) {
	if o.Compression, err = choice(c, flagCompress, map[string]qcow2.Compression{
		"zlib": qcow2.Zlib, "zstd": qcow2.Zstd,
	}); err != nil {
		return o, err
	}
	level, err := number(c, flagLevel, 1, maxLevel)
	if err != nil {
		return o, err
	}
	if level != 0 && o.Compression != qcow2.Zstd {
		return o, app.Usagef("option --%s goes with --%s=zstd only; zlib has one level", flagLevel, flagCompress)
	}
	version, err := choice(c, flagQCOW2Version, map[string]int{"2": 2, "3": 3})
	if err != nil {
		return o, err
	}
	if version == 2 && o.Compression == qcow2.Zstd {
		return o, app.Usagef("option --%s=zstd needs --%s 3", flagCompress, flagQCOW2Version)
	}
	clusterSize, err := powerOfTwo(c, flagClusterSize, minClusterSize, maxClusterSize)
	o.Level, o.Version, o.ClusterSize = int(level), version, int(clusterSize)
	return o, err
}

// The limits of qcow2 images.
const (
	maxLevel       = 22 // of zstd, which has steps up to qcow2.MaxLevel
	minClusterSize = 512
	maxClusterSize = 2 << 20
)

// run writes a qcow2 image: of the metadata of the filesystem on the source, or
// of the disk in a qcow2 source.
func (o *dumpOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "qcow2", Salt: o.scramble.SaltText(), Files: o.search.Scan.Files}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	b, err := o.begin(ctx, t, app.Quiet{Forced: o.force, Freeze: o.freeze}, o.search, o.check, shown)
	if err != nil {
		return err
	}
	in, part, search := b.in, b.part, b.search
	defer in.Close()
	shown.Plan(app.Plan{AsItIs: b.asItIs, Scrambled: o.scramble.On(), DryRun: o.dryRun, Compression: o.qcow2.Compression}.Steps()...)
	out, err := o.openOutput(ctx, t, in)
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
			img, done.Scan, err = imageOf(ctx, in, part, search, scrambler, endsWithFilesystem(search, part), shown)
		}
		if err != nil {
			return err
		}
		opt := o.qcow2
		opt.BlockSize = o.blockSize(in, done.Scan)
		opt.Info = func() qcow2.Info {
			if !o.lost.On() {
				_ = frozen.Thaw() // all is read; WhileFrozen calls Thaw again and checks its error
			}
			i := o.info(in, done.Scan)
			unit := int64(opt.BlockSize)
			if unit == 0 { // without a filesystem
				unit = in.Guest.Header().ClusterSize()
			}
			if done.Rescue != nil {
				i.Unreadable += blocksOf(done.Rescue.Unreadable(), unit)
			}
			if astray := in.AstrayBytes(); astray > 0 {
				i.Unreadable += (astray-1)/unit + 1
			}
			return i
		}
		opt.Dense = out.Target != nil && out.Target.Kind() == target.Device
		var copied app.Copied
		if o.dryRun {
			copied, err = o.rehearse(ctx, t, in, out.Target, img, opt, shown)
			done.Written = &copied.Written
			runs = runsOf(done.Scan, img, opt.BlockSize)
		} else {
			copied, err = o.write(ctx, in, out.Target, img, opt, shown, frozen)
		}
		if err != nil {
			return err
		}
		done.ImageBytes, done.DataBytes = copied.ImageBytes, copied.DataBytes
		if err := scrambler.Finish(ctx, out.Names, shown); err != nil {
			return err
		}
		if done.Lost, err = o.lost.Find(ctx, part, done.Scan, search); err != nil {
			return err
		}
		return cmp.Or(in.Damage(), context.Cause(ctx))
	}
	if err := o.do(ctx, t, in, out, true, work); err != nil {
		return err
	}
	done.Source, done.Target, done.Offset = in.Src.Name(), o.target, part.Start
	done.Mode = app.Content(in, done.Scan, o.scramble.On(), search.Scan.Files)
	beside, err := o.settle(in, out, done, runs, shown)
	if err != nil {
		return err
	}

	found := cmp.Or(t.SayRescued(done.Rescue), t.SayFound(in, done.Scan))
	t.SayLost(in, o.lost, done.Lost, o.lostHint(in, search))
	o.say(t, part, out, done)
	if !o.quiet && !o.dryRun && !t.SayScrambled(in, scrambler, false) && done.Scan != nil {
		t.SayPrivate(done.Scan, search.Scan)
	}
	return cmp.Or(beside, found)
}

// check reports whether the disk is copied as it is, and refuses options that do
// not apply to the source.
func (o *dumpOptions) check(in *app.Input) (asItIs bool, err error) {
	if o.whole && in.Guest == nil {
		return false, app.Usagef("option --%s needs a qcow2 image, but %s is none", flagWhole, in.Src.Name())
	}
	return o.whole || in.Normal != nil, checkScrambled(in, o.scramble)
}

// openOutput opens the target and the files beside it.
func (o *dumpOptions) openOutput(ctx context.Context, t *Tool, in *app.Input) (*app.Output, error) {
	var to *target.Target
	if !o.dryRun || !target.IsStdout(o.target) {
		var err error
		opt := target.Options{Source: in.Region, Format: target.QCOW2, Overwrite: o.overwrite, DryRun: o.dryRun}
		if to, err = target.Open(ctx, o.target, opt); err != nil {
			return nil, err
		}
	}
	return o.openBeside(ctx, t.Output(to, o.dryRun, "the same command"), in, o.names)
}

// blockSize returns the unit of the runs of the image in bytes, 0 if it is not
// known.
func (o *dumpOptions) blockSize(in *app.Input, res *scan.Result) int {
	if n := blockSize(in, res); n != 0 || o.qcow2.Compression != qcow2.Uncompressed {
		return n
	}
	return int(in.Guest.Header().ClusterSize())
}

// info returns the record of how the image was made. Blocks that the source
// lacks are missing in the image too.
func (o *dumpOptions) info(in *app.Input, res *scan.Result) qcow2.Info {
	i, _ := in.Made()
	i.UUID = "" // only an undo has a UUID
	if o.scramble.On() {
		i.Salt = o.scramble.SaltText()
	}
	i.Mode = app.Content(in, res, o.scramble.On(), o.search.Scan.Files)
	if i.Mode == app.Undo {
		i.Mode = app.AllData // a copy of an undo is not an undo
	}
	switch {
	case in.Normal != nil:
		i.BlockSize = int64(in.BlockSize())
	case res != nil:
		i.BlockSize = int64(res.BlockSize())
		i.Unreadable += blocksOf(res.Unreadable(), i.BlockSize)
	}
	i.Tool, i.Time = app.Tool(), time.Time{}
	if o.stamp {
		i.Time = time.Now().UTC().Truncate(time.Second)
	}
	return i
}

// blocksOf returns in how many blocks the ascending ranges lie.
func blocksOf(ranges []scan.Range, blockSize int64) int64 {
	n, next := int64(0), int64(0) // next: the first block not counted
	for _, r := range ranges {
		first, end := max(r.Start/blockSize, next), (r.End-1)/blockSize+1
		if first < end {
			n += end - first
			next = end
		}
	}
	return n
}

// write writes the image. If the device may be too small, write first measures
// the image, unless the image cannot be read twice.
func (o *dumpOptions) write(ctx context.Context, in *app.Input, to *target.Target, img image.Image, opt qcow2.WriteOptions, shown *progress.Reporter, frozen *freeze.Frozen) (app.Copied, error) {
	if to.Kind() == target.Device && !in.IsStream() && !o.scramble.On() {
		if err := app.CheckRoom(ctx, to, img, opt, shown); err != nil {
			return app.Copied{}, err
		}
	}
	opt.Progress = app.Copying(shown, frozen)
	var (
		stats qcow2.Stats
		err   error
	)
	if to.Kind() == target.Stream {
		stats, err = qcow2.WriteStream(ctx, to, img, opt)
	} else {
		stats, err = qcow2.WriteFile(ctx, to, img, opt)
	}
	return app.Copied{ImageBytes: stats.FileSize, DataBytes: stats.FileSize}, err
}

// rehearse lists the blocks that would be written, and finds out how long the
// image would be and whether it would fit. A source that is a pipe cannot be
// read twice.
func (o *dumpOptions) rehearse(ctx context.Context, t *Tool, in *app.Input, to *target.Target, img image.Image, opt qcow2.WriteOptions, shown *progress.Reporter) (app.Copied, error) {
	copied, err := o.listing(t, opt.BlockSize, shown).List(ctx, img)
	if err != nil || in.IsStream() {
		return copied, err
	}
	opt.Progress = app.Measuring(shown)
	size, err := app.MeasureQCOW2(ctx, img, opt)
	if err == nil && opt.Dense && size > to.Size() {
		err = app.TooSmall(to, size)
	}
	copied.ImageBytes, copied.DataBytes = size, size
	return copied, err
}
