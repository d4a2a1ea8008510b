package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/scan/diff"
)

const diffHelp = `Usage: e2qcow diff [OPTION...] FIRST SECOND
Say what differs between two images, devices or files with an ext2, ext3 or ext4
filesystem: fields, inodes, entries of directories, bitmaps, journal, damage.
Exits with 0 if nothing does, 1 if something does, 2 if that cannot be said.

`

// Exit codes of diff, which are those of diff(1).
const (
	exitDiffers = 1
	exitTrouble = 2
)

const (
	flagAll      = "all"
	flagContents = "contents"
)

// diffFlags returns the flags of diff.
func diffFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: flagAll, Usage: "whole lists, and counters and checksums that follow"},
		&cli.BoolFlag{Name: flagContents, Usage: "compare the contents of files too"},
		&cli.BoolFlag{Name: flagJSON, Usage: "print a JSON object"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the filesystems begin `OFF` into both: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the filesystems are on partition `N` of both"},
		&cli.BoolFlag{Name: flagBacking, Usage: "open backing files in the folders of the images"},
		&cli.BoolFlag{Name: flagSalvage, Usage: "read what can be read of a damaged qcow2 image"},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|qcow2|e2image|sparse`"},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "go on though a device is in use"},
		&cli.BoolFlag{Name: flagProgress, Aliases: []string{"p"}, Usage: "show progress though stderr is no terminal"},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

// diffOptions are those of diff.
type diffOptions struct {
	sources  [2]app.Source
	search   app.Search
	all      bool // nothing is cut, nothing folded
	contents bool
	json     bool
	progress bool
}

func parseDiff(c *cli.Context) (*diffOptions, error) {
	args := c.Args().Slice()
	switch {
	case slices.Contains(args, ""):
		return nil, app.Usagef("an operand is empty")
	case len(args) != 2:
		return nil, &app.UsageError{What: "diff needs two images, devices or files, and nothing else", Operands: len(args) - 2}
	case source.IsStdin(args[0]) && source.IsStdin(args[1]):
		return nil, app.Usagef("only one of the two can be standard input")
	}
	o := &diffOptions{
		all:      c.Bool(flagAll),
		contents: c.Bool(flagContents),
		json:     c.Bool(flagJSON),
		progress: c.Bool(flagProgress),
	}
	var err error
	for i, name := range args {
		if o.sources[i], err = parseSource(c, name); err != nil {
			return nil, err
		}
	}
	o.search, err = parseSearch(c)
	return o, err
}

// What diff --json prints. The names never change, as those of jsonRecord.
type jsonDiff struct {
	First  string `json:"first"`
	Second string `json:"second"`
	Same   bool   `json:"same"`
	*diff.Diff
}

// diff prints the differences between two filesystems.
func (t *Tool) diff(c *cli.Context) error {
	o, err := parseDiff(c)
	if err != nil {
		return err
	}
	return o.run(c.Context, t)
}

func (o *diffOptions) run(ctx context.Context, t *Tool) error {
	shown := t.Progress(o.progress)
	defer shown.Finish()
	var (
		inputs [2]*app.Input
		parts  [2]*app.Part
		sides  [2]diff.Source
		err    error
	)
	for i, src := range o.sources {
		if inputs[i], err = t.OpenQuiet(ctx, src, app.Quiet{Forced: src.Force}, shown); err != nil {
			return err
		}
		defer inputs[i].Close()
		if src.Backing && inputs[i].Guest == nil && i == 1 && inputs[0].Guest == nil {
			return app.Usagef("option --%s needs a qcow2 image, but neither operand is one", flagBacking)
		}
		if src.Salvage && inputs[i].Guest == nil && i == 1 && inputs[0].Guest == nil {
			return app.Usagef("option --%s needs a qcow2 image, but neither operand is one", flagSalvage)
		}
		if parts[i], err = inputs[i].PartOrWhole(o.search.Place); err != nil {
			return err
		}
		if inputs[i].Normal != nil {
			return fmt.Errorf("%s is %s, which has no directories: it cannot be compared", inputs[i].Src.Name(), signature.Normal)
		}
		if err := o.search.CheckContent(parts[i]); err != nil {
			return err
		}
		sides[i] = diff.Source{Reader: parts[i].Disk, Size: parts[i].Disk.Size()}
	}
	shown.Plan(app.CompareSteps(o.search.Unread(parts[0]) + o.search.Unread(parts[1]))...)
	opt := diff.Options{Contents: o.contents, Scan: o.search.Scan, Scanned: app.ScanningBoth(shown), Progress: app.Comparing(shown)}
	d, err := diff.Compare(ctx, sides[0], sides[1], opt)
	var side *diff.SideError
	if errors.As(err, &side) {
		i := 0
		if side.Second {
			i = 1
		}
		return o.search.Explain(parts[i], side.Err)
	}
	if err != nil {
		return err
	}
	for _, in := range inputs {
		if err := in.Damage(); err != nil {
			return err
		}
		if in.AstrayBytes() > 0 {
			return fmt.Errorf("%s lacks a part of the disk, and nobody knows which: it cannot be compared", in.Src.Name())
		}
	}
	shown.Finish()
	return o.print(t, parts, d)
}

// mostOfList is the number of printed lines of a list.
const mostOfList = 20

// print prints the difference, and returns the exit status that it has.
func (o *diffOptions) print(t *Tool, parts [2]*app.Part, d *diff.Diff) error {
	var err error
	switch {
	case o.json:
		err = app.EncodeJSON(t.Stdout, jsonDiff{parts[0].Name, parts[1].Name, d.Same(), d})
	case o.all:
		err = d.WriteText(t.Stdout, diff.TextOptions{All: true})
	default:
		err = d.WriteText(t.Stdout, diff.TextOptions{List: mostOfList})
	}
	switch {
	case err != nil:
		return err
	case d.Unreadable != [2]uint64{}:
		return fmt.Errorf("%d bytes of metadata cannot be read, and were taken as zero", d.Unreadable[0]+d.Unreadable[1])
	case !d.Same():
		return exitStatus(exitDiffers)
	case !d.Contents && !o.json:
		_, err = fmt.Fprintf(t.Stdout, "the metadata is the same; contents of files were not compared (--%s does)\n", flagContents)
	}
	return err
}
