package cli

import (
	"bufio"
	"cmp"
	"context"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/report"
	"e2qcow/internal/signature"
	"e2qcow/internal/target"
	"e2qcow/scan/survey"
)

const reportHelp = `Usage: e2qcow report [OPTION...] SOURCE REPORT.html
Draw a filesystem: what lies where on the device, how it is doing, where it is
damaged. The report is one page of HTML that needs no network and no script.
SOURCE is a device, a file or an image.

`

const reportExamples = `
Examples:
  e2qcow report /dev/sdb1 sdb1.html
  e2qcow report --names --json sdb1.json meta.qcow2 sdb1.html
`

const flagNames = "names"

func reportFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: flagNames, Usage: "name the largest files and directories"},
		&cli.StringFlag{Name: flagJSON, Usage: "write what the report is drawn from to `FILE`"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the filesystem begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the filesystem is on partition `N` of the source"},
		&cli.StringFlag{Name: flagSuperblock, Aliases: []string{"b"}, Usage: "believe the superblock in `BLOCK`"},
		&cli.StringFlag{Name: flagBlockSize, Aliases: []string{"B"}, Usage: "take blocks to be of `BYTES`"},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read a source that is in use"},
		&cli.BoolFlag{Name: flagProgress, Aliases: []string{"p"}, Usage: "show progress though stderr is no terminal"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.BoolFlag{Name: flagBacking},
		&cli.BoolFlag{Name: flagSalvage},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|qcow2|e2image|sparse`"},
		&cli.StringFlag{Name: flagBadMap, Usage: "`FILE`"},
		&cli.StringFlag{Name: flagReadRetries, Usage: "`N`"},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

// reportOptions are those of report.
type reportOptions struct {
	source    app.Source
	search    app.Search
	target    string
	json      string // the file; "" for none
	badMap    string // "" for none
	names     bool
	progress  bool
	overwrite bool
}

func parseReport(c *cli.Context) (*reportOptions, error) {
	args := c.Args().Slice()
	if len(args) != 2 {
		return nil, &app.UsageError{What: "report needs a source and a file to write, and nothing else", Operands: len(args) - 2}
	}
	o := &reportOptions{
		json:      c.String(flagJSON),
		badMap:    c.String(flagBadMap),
		names:     c.Bool(flagNames),
		progress:  c.Bool(flagProgress),
		overwrite: c.Bool(flagOverwrite),
	}
	for _, name := range []string{flagJSON, flagBadMap} {
		if c.IsSet(name) && c.String(name) == "" {
			return nil, app.Usagef("option --%s needs a name", name)
		}
	}
	var err error
	if o.target, err = app.DeviceName(args[1]); err != nil {
		return nil, err
	}
	if o.json != "" && target.IsStdout(o.json) && target.IsStdout(o.target) {
		return nil, app.Usagef("option --%s: the report goes to standard output already", flagJSON)
	}
	if o.json != "" && filepath.Clean(o.json) == filepath.Clean(o.target) {
		return nil, app.Usagef("option --%s names the report itself", flagJSON)
	}
	if o.source, err = parseSource(c, args[0]); err != nil {
		return nil, err
	}
	if o.search, err = parseSearch(c); err != nil {
		return nil, err
	}
	o.search.Force = true // a layout that is not known is part of the report
	o.source.Threads = o.search.Scan.Threads
	return o, nil
}

// report draws a filesystem.
func (t *Tool) report(c *cli.Context) error {
	o, err := parseReport(c)
	if err != nil {
		return err
	}
	return o.run(c.Context, t)
}

func (o *reportOptions) run(ctx context.Context, t *Tool) error {
	shown := t.Progress(o.progress)
	defer shown.Finish()
	bad, err := app.ReadBadMap(o.badMap)
	if err != nil {
		return err
	}
	in, err := t.OpenQuiet(ctx, o.source, app.Quiet{Forced: o.source.Force}, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	if in.Normal != nil {
		return app.Usagef("report needs a whole filesystem; %s is %s, which has no directories", in.Src.Name(), signature.Normal)
	}
	t.SayForeignMap(o.badMap, bad, in)
	bad = slices.Concat(bad, in.Lost()) // a map does not go with an image
	part, err := in.Part(o.search.Place)
	if err != nil {
		return err
	}
	open := func(name string) (*target.Target, error) {
		to, err := target.Open(ctx, name, target.Options{Source: in.Region, Format: target.Names, Overwrite: o.overwrite})
		if err == nil {
			t.Guard(to.Close)
		}
		return to, err
	}
	page, err := open(o.target)
	if err != nil {
		return err
	}
	defer page.Close()
	var record *target.Target
	if o.json != "" {
		if record, err = open(o.json); err != nil {
			return err
		}
		defer record.Close()
	}
	search := o.search.Avoiding(part.Ranges(bad))
	search.Scan = survey.Watch(search.Scan)
	res, err := search.Metadata(ctx, part, shown)
	if err != nil {
		return err
	}
	data, err := survey.Gather(ctx, res)
	if err := cmp.Or(in.Damage(), err); err != nil {
		return err
	}
	switch {
	case o.names && in.Scrambled():
		t.Say("%s is scrambled: its files are not named", in.Src.Name())
	case o.names:
		if err := survey.Name(ctx, part.Disk, part.Disk.Size(), search.Scan, data); err != nil {
			return err
		}
	}
	r := &report.Report{Source: part.Name, Tool: app.Tool(), Scrambled: in.Scrambled(), Data: data}
	if sb := res.Super(); sb != nil {
		r.Filesystem = app.Describe(part.Disk, sb)
	}
	if made, ok := in.Made(); ok {
		r.Lacking = uint64(max(made.Unreadable, 0))
	}
	b := bufio.NewWriter(page)
	if err := cmp.Or(r.WriteHTML(b), b.Flush()); err != nil {
		return err
	}
	if record != nil {
		if err := cmp.Or(app.EncodeJSON(record, r), record.Commit()); err != nil {
			return err
		}
	}
	if err := page.Commit(); err != nil {
		return err
	}
	shown.Finish()
	t.Say("%s to %s: %s", part.Name, o.target, r.Verdict())
	if n := len(res.Unreadable()); n > 0 || r.Lacking > 0 {
		if n > 0 {
			t.Say("%s of metadata could not be read; the report lists them", advise.Count(n, "range"))
		}
		return app.ErrUnreadable
	}
	return nil
}
