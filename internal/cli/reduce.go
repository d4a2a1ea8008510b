package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/reduce"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

const reduceHelp = `Usage: e2qcow reduce [OPTION...] SOURCE TARGET -- COMMAND [ARGUMENT...]
Make a small image of a disk on which COMMAND still says what it says of SOURCE:
a regression test out of a bug report. "{}" in ARGUMENT stands for the disk, which
else comes last. The command has to end as it did, by the same exit status or
signal, and to print the same lines, numbers apart. TARGET is a qcow2 image, or a
raw one if its name ends in .img or .raw.

`

const reduceExamples = `
Examples:
  e2qcow reduce report.qcow2 small.qcow2 -- e2fsck -fn {}
  e2qcow reduce --keep 'corrupt extent header' report.qcow2 small.img -- e2fsck -fy {}
`

// The flags of reduce.
const (
	flagKeep  = "keep"
	flagTest  = "test"
	flagRuns  = "runs"
	flagTime  = "time"
	flagLimit = "limit"
	flagSuite = "e2fsprogs-test"
)

func reduceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: flagKeep, Usage: "the output has to match `REGEX`, the rest of it may change"},
		&cli.StringFlag{Name: flagTest, Usage: "`PROGRAM` ends with 0 on an interesting disk"},
		&cli.StringFlag{Name: flagRuns, Usage: "run the command `N` times more first: is it stable (1)"},
		&cli.StringFlag{Name: flagTime, Usage: "the command may take `DURATION`, as 30s (10 times its first)"},
		&cli.StringFlag{Name: flagLimit, Usage: "end the search after `DURATION`, as 2m"},
		&cli.StringFlag{Name: flagSuite, Usage: "also make `DIR`, a test for e2fsprogs"},
		&cli.StringFlag{Name: flagSpoolDir, Usage: "`DIR`"},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagBacking},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read a source in use, or a contradictory image"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the filesystem begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the filesystem is on partition `N` of the source"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

// reduceOptions are those of reduce.
type reduceOptions struct {
	source    app.Source
	search    app.Search
	target    string
	overwrite bool
	suite     string // a folder; "" for none
	reduce    reduce.Options
}

func parseReduce(c *cli.Context) (*reduceOptions, error) {
	args := c.Args().Slice()
	if len(args) < 2 || len(args) == 2 && !c.IsSet(flagTest) {
		return nil, app.Usagef("reduce needs a source, a target and, behind --, a command")
	}
	if len(args) > 2 && c.IsSet(flagTest) {
		return nil, app.Usagef("option --%s replaces the command: leave out %q", flagTest, args[2])
	}
	o := &reduceOptions{target: args[1], overwrite: c.Bool(flagOverwrite), suite: c.String(flagSuite)}
	j := &o.reduce.Judge
	if j.Command = args[2:]; c.IsSet(flagTest) {
		j.Command, j.Test = []string{c.String(flagTest)}, true
	}
	if c.IsSet(flagKeep) && j.Test {
		return nil, app.Usagef("--%s and --%s exclude one another: of a program only the exit status counts", flagKeep, flagTest)
	}
	for _, text := range c.StringSlice(flagKeep) {
		keep, err := regexp.Compile(text)
		if err != nil {
			return nil, app.Usagef("option --%s: %v", flagKeep, err)
		}
		j.Keep = append(j.Keep, keep)
	}
	runs, err := number(c, flagRuns, 1, 1000)
	if err != nil {
		return nil, err
	}
	j.Runs = int(runs)
	if j.Time, err = duration(c, flagTime); err != nil {
		return nil, err
	}
	if o.reduce.Limit, err = duration(c, flagLimit); err != nil {
		return nil, err
	}
	if o.source, err = parseSource(c, args[0]); err != nil {
		return nil, err
	}
	threads, err := number(c, flagThreads, 1, maxThreads)
	if err != nil {
		return nil, err
	}
	o.source.Threads, o.reduce.Workers = int(threads), cmp.Or(int(threads), 2)
	o.reduce.Folder = c.String(flagSpoolDir)
	o.search.Force = o.source.Force
	o.search.Place, err = parsePlace(c)
	if target.IsStdout(o.target) {
		err = cmp.Or(err, app.Usagef("reduce writes its result again each time it finds a smaller one: name a file"))
	}
	return o, err
}

// duration returns the value of a flag, 0 where it is not given.
func duration(c *cli.Context, name string) (time.Duration, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	d, err := time.ParseDuration(c.String(name))
	if err != nil || d <= 0 {
		return 0, app.Usagef("option --%s: %q is not a duration, as 30s or 2m", name, c.String(name))
	}
	return d, nil
}

// reduce makes a small image on which a command says the same. Each smaller result
// takes the place of the one before, so that an interruption leaves the best.
func (t *Tool) reduce(c *cli.Context) error {
	o, err := parseReduce(c)
	if err != nil {
		return err
	}
	return o.run(c.Context, t)
}

func (o *reduceOptions) run(ctx context.Context, t *Tool) error {
	start := time.Now()
	shown := t.Progress(false)
	defer shown.Finish()
	in, err := t.OpenQuiet(ctx, o.source, app.Quiet{Forced: o.source.Force}, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	img, err := o.disk(ctx, in, shown)
	if err != nil {
		return err
	}
	shown.Finish()
	opt := o.reduce
	opt.Made = func(folder string) { t.Guard(func() { os.RemoveAll(folder) }) }
	written := false
	opt.Better = func(img image.Image) error {
		err := o.write(ctx, in, img, written)
		written = written || err == nil
		return err
	}
	opt.Said = func(pass string) {
		t.Say("%s: less of them, after %v", pass, time.Since(start).Round(time.Millisecond))
	}
	res, err := reduce.Run(ctx, img, opt)
	if err != nil {
		return o.explain(err)
	}
	if !written {
		if err := o.write(ctx, in, res.Image, false); err != nil {
			return err
		}
	}
	o.say(t, in, res, time.Since(start))
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if o.suite == "" {
		return nil
	}
	name := strings.TrimPrefix(filepath.Base(o.suite), "f_")
	return reduce.WriteSuite(ctx, o.suite, strings.ReplaceAll(name, "_", " "), res.Image, opt)
}

// disk returns what is reduced: the disk in an image, or the metadata of the
// filesystem on a device.
func (o *reduceOptions) disk(ctx context.Context, in *app.Input, shown *progress.Reporter) (image.Image, error) {
	part, err := in.Part(o.search.Place)
	if err != nil || in.Normal != nil || in.Guest != nil {
		return part.Disk, err
	}
	img, _, err := imageOf(ctx, in, part, o.search, nil, false, shown)
	return img, err
}

// write writes a result. What was written before is replaced.
func (o *reduceOptions) write(ctx context.Context, in *app.Input, img image.Image, again bool) error {
	ctx = context.WithoutCancel(ctx) // a result is small
	format := target.QCOW2
	if o.isRaw() {
		format = target.Raw
	}
	to, err := target.Open(ctx, o.target, target.Options{Source: in.Region, Format: format, Overwrite: o.overwrite || again})
	if err != nil {
		return err
	}
	defer to.Close()
	if o.isRaw() {
		_, err = raw.WriteFile(ctx, to, img, raw.Options{})
	} else {
		var opt qcow2.WriteOptions
		if opt, err = smallest(ctx, img); err == nil {
			_, err = qcow2.WriteFile(ctx, to, img, opt)
		}
	}
	if err != nil {
		return err
	}
	return to.Commit()
}

// smallest returns the options with which the qcow2 image of a small disk is
// smallest: of tables that hold little, small clusters have less.
func smallest(ctx context.Context, img image.Image) (qcow2.WriteOptions, error) {
	opt := qcow2.WriteOptions{
		Compression: qcow2.Zlib,
		Info:        func() qcow2.Info { return qcow2.Info{Tool: app.Tool(), Mode: app.AllData} },
	}
	const most = 16 << 10 // entries of L1: above, the table alone is too large
	best, least := 0, int64(math.MaxInt64)
	for _, size := range []int{1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10} {
		if img.Size()/int64(size)/int64(size/8) > most {
			continue
		}
		opt.ClusterSize = size
		n, err := app.MeasureQCOW2(ctx, img, opt)
		if err != nil {
			return opt, err
		}
		if n < least {
			best, least = size, n
		}
	}
	opt.ClusterSize = best
	return opt, nil
}

// isRaw reports whether the result is a raw image, by its name.
func (o *reduceOptions) isRaw() bool {
	ext := filepath.Ext(o.target)
	return ext == ".img" || ext == ".raw"
}

// explain says what to do about a command that nothing can be searched with.
func (o *reduceOptions) explain(err error) error {
	switch {
	case errors.Is(err, reduce.ErrUnstable):
		return fmt.Errorf("%w; name what has to stay with --%s", err, flagKeep)
	case errors.Is(err, reduce.ErrCommand):
		return fmt.Errorf("%s: %w", o.reduce.Judge.Command[0], err)
	}
	return err
}

// say says what is left.
func (o *reduceOptions) say(t *Tool, in *app.Input, res *reduce.Result, took time.Duration) {
	size := int64(0)
	if info, err := os.Stat(o.target); err == nil {
		size = info.Size()
	}
	t.Say("%s to %s: %s, a disk of %s of which %s are not zero; %s of %s, %v; %v",
		in.Src.Name(), o.target, humanize.IBytes(uint64(size)), humanize.IBytes(uint64(res.Size)), humanize.IBytes(uint64(res.Blocks)<<10),
		advise.Count(res.Candidates, "run"), o.reduce.Judge.Command[0], took.Round(time.Millisecond), res.Verdict)
	if res.Large != "" {
		t.Say("the filesystem stays large: %s", res.Large)
	}
	if res.Ended {
		t.Say("the search ended early: a longer search may make the image smaller")
	}
}
