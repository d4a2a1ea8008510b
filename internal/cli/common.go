package cli

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/internal/app"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// common are the options that every mode has.
type common struct {
	source    app.Source
	target    string
	force     bool
	freeze    bool
	quiet     bool // no message about success
	progress  bool
	overwrite bool
	dryRun    bool
	threads   int
	json      string // the file; "" for none
	badMap    string // "" for none
	lost      app.LostFiles
	scanFlag  string // a given option that applies to the scan; "" if there is none
}

// operands returns the two operands of a mode. words describes them in
// messages.
func operands(c *cli.Context, m mode, words string) (first, second string, err error) {
	args := c.Args().Slice()
	switch {
	case slices.Contains(args, ""):
		return "", "", app.Usagef("an operand is empty")
	case len(args) == 2:
		return args[0], args[1], nil
	}
	e := &app.UsageError{Operands: len(args) - 2}
	if e.Operands < 0 {
		e.What = fmt.Sprintf("%s needs %s", m, words)
	} else {
		e.What = fmt.Sprintf("%s takes %s and nothing else, but %q is left over", m, words, args[2])
	}
	if m == toNormal {
		e.What += "; without -Q, -r or -I, e2qcow writes a normal image; \"e2qcow --help\" lists the commands"
	}
	return "", "", e
}

// parseCommon parses the options of all modes.
func parseCommon(c *cli.Context, sourceName, targetName string, asE2image bool) (common, error) {
	targetName, err := app.DeviceName(targetName)
	if err != nil {
		return common{}, err
	}
	o := common{
		target:    targetName,
		force:     c.Bool(flagForce),
		freeze:    c.Bool(flagFreeze),
		quiet:     asE2image,
		progress:  c.Bool(flagProgress),
		overwrite: c.Bool(flagOverwrite),
		dryRun:    c.Bool(flagDryRun),
		json:      c.String(flagJSON),
		badMap:    c.String(flagBadMap),
		lost:      app.LostFiles{Name: c.String(flagLostFiles), NUL: c.Bool(flagNull)},
	}
	if o.source, err = parseSource(c, sourceName); err != nil {
		return o, err
	}
	if err := checkNames(c, o); err != nil {
		return o, err
	}
	threads, err := number(c, flagThreads, 1, maxThreads)
	if err != nil {
		return o, err
	}
	o.threads, o.source.Threads = int(threads), int(threads)
	for _, name := range scanFlags {
		if c.IsSet(name) {
			o.scanFlag = name
		}
	}
	return o, nil
}

// parseSource parses the format of the source and how to read it.
func parseSource(c *cli.Context, name string) (app.Source, error) {
	name, err := app.DeviceName(name)
	if err != nil {
		return app.Source{}, err
	}
	o := app.Source{Name: name, Backing: c.Bool(flagBacking), Salvage: c.Bool(flagSalvage), Force: c.Bool(flagForce), Spool: spool.Options{Dir: c.String(flagSpoolDir)}}
	if o.Format, err = choice(c, flagSourceFormat, map[string]app.Format{"raw": app.FormatRaw, "qcow2": app.FormatQCOW2, "e2image": app.FormatNormal, "sparse": app.FormatSparse}); err != nil {
		return o, err
	}
	for _, name := range []string{flagWhole, flagBacking, flagSalvage} {
		if c.Bool(name) && o.Format != app.FormatAny && o.Format != app.FormatQCOW2 {
			return o, app.Usagef("option --%s needs a qcow2 source, but --%s says %s", name, flagSourceFormat, c.String(flagSourceFormat))
		}
	}
	if c.Bool(flagFreeze) && source.IsStdin(name) {
		return o, app.Usagef("option --%s needs a mounted source, but standard input is none", flagFreeze)
	}
	if o.Backing && source.IsStdin(name) {
		return o, app.Usagef("option --%s needs the folder of the source, but standard input has none", flagBacking)
	}
	o.Direct, err = choice(c, flagDirect, map[string]source.DirectMode{
		"auto": source.DirectAuto, "on": source.DirectOn, "off": source.DirectOff,
	})
	return o, err
}

// checkNames refuses empty names, and one name for two files.
func checkNames(c *cli.Context, o common) error {
	for _, name := range []string{flagJSON, flagBadMap, flagLostFiles, flagSpoolDir, flagUndo} {
		if c.IsSet(name) && c.String(name) == "" {
			return app.Usagef("option --%s needs a name", name)
		}
	}
	if o.json != "" && target.IsStdout(o.json) && target.IsStdout(o.target) && !o.dryRun {
		return app.Usagef("option --%s: the image goes to standard output already", flagJSON)
	}
	if target.IsStdout(o.lost.Name) && (target.IsStdout(o.target) || target.IsStdout(o.json) || o.dryRun) {
		return app.Usagef("option --%s: something else goes to standard output already", flagLostFiles)
	}
	if o.lost.NUL && !o.lost.On() {
		return app.Usagef("option -0 goes with --%s", flagLostFiles)
	}
	return nil
}

// maxThreads bounds the memory that a typing error can request.
const maxThreads = 1024

// scanFlags do not apply to an image that is copied as it is.
var scanFlags = []string{flagSuperblock, flagBlockSize, flagBackups, flagJournal, flagXattrValues, flagReadRetries, flagBadMap, flagLostFiles, flagOffset, flagPartition}

// parseSearch parses how to find the filesystem, and which metadata to take.
func parseSearch(c *cli.Context) (app.Search, error) {
	o, err := parseScan(c)
	if err == nil {
		o.Scan.Journal, err = choice(c, flagJournal, map[string]scan.JournalMode{
			"whole": scan.JournalWhole, "live": scan.JournalLive, "none": scan.JournalNone,
		})
	}
	return o, err
}

// parseScan is parseSearch without the journal, which a move keeps whole.
func parseScan(c *cli.Context) (app.Search, error) {
	o := app.Search{
		Scan:      scan.Options{Files: c.Bool(flagAllData), XattrValues: c.Bool(flagXattrValues), Retries: 1},
		Force:     c.Bool(flagForce),
		Writes:    c.Bool(flagAllData),
		Scrambles: c.IsSet(flagScramble),
	}
	var err error
	if o.Place, err = parsePlace(c); err != nil {
		return o, err
	}
	if o.Scan.Superblock, err = number(c, flagSuperblock, 0, 1<<48); err != nil {
		return o, err
	}
	blockSize, err := powerOfTwo(c, flagBlockSize, ext.MinBlockSize, ext.MaxBlockSize)
	if err != nil {
		return o, err
	}
	o.Scan.BlockSize = uint32(blockSize)
	if o.Scan.Backups, err = choice(c, flagBackups, map[string]scan.Backups{
		"all": scan.BackupsAll, "none": scan.BackupsNone,
	}); err != nil {
		return o, err
	}
	if c.IsSet(flagReadRetries) {
		retries, err := number(c, flagReadRetries, 0, maxRetries)
		if err != nil {
			return o, err
		}
		o.Scan.Retries = int(retries)
	}
	threads, err := number(c, flagThreads, 1, maxThreads)
	o.Scan.Threads = int(threads)
	return o, err
}

// maxRetries bounds the work for a dying disk.
const maxRetries = 1000

// placeUnit is the unit of offsets, bytes.
const placeUnit = 512

// parsePlace parses the place of the filesystem on the source.
func parsePlace(c *cli.Context) (app.Place, error) {
	var (
		p   app.Place
		err error
	)
	if p.Offset, err = parseOffset(c, flagOffset); err != nil {
		return p, err
	}
	n, err := number(c, flagPartition, 1, math.MaxInt32)
	if err == nil && n > 0 && p.Offset != nil {
		err = app.Usagef("--%s and --%s cannot be combined", flagOffset, flagPartition)
	}
	p.Partition = int(n)
	return p, err
}

// parseOffset returns the value of a flag in bytes, nil if it is not given.
func parseOffset(c *cli.Context, name string) (*int64, error) {
	n, err := sizeOf(c, name, 0, math.MaxInt64)
	if err == nil && n%placeUnit != 0 {
		err = app.Usagef("option --%[1]s: %[2]s bytes are not a multiple of %[3]d; for sectors write %[2]ss", name, c.String(name), placeUnit)
	}
	if err != nil || !c.IsSet(name) {
		return nil, err
	}
	off := int64(n)
	return &off, nil
}

// open opens the source, and checks that no program changes the source while it
// is read. It also returns the ranges that are known to be lost:
// those of --bad-map, or of a damaged image.
func (o *common) open(ctx context.Context, t *Tool, q app.Quiet, shown *progress.Reporter) (*app.Input, []scan.Range, error) {
	bad, err := app.ReadBadMap(o.badMap)
	if err != nil {
		return nil, nil, err
	}
	in, err := t.Open(ctx, o.source, shown)
	if err != nil {
		t.sayNoSuperblock(o.target)
		return nil, nil, err
	}
	if err := t.CheckQuiet(in, q); err != nil {
		in.Close()
		return nil, nil, err
	}
	return in, slices.Concat(bad, in.Lost()), nil // a map does not go with an image
}

// checkInput refuses options that do not apply to the source: an image that is
// copied as it is, or a disk.
func (o *common) checkInput(in *app.Input, asItIs bool) error {
	name := in.Src.Name()
	switch {
	case o.source.Backing && in.Guest == nil:
		return needsQCOW2(flagBacking, in)
	case o.source.Salvage && in.Guest == nil:
		return needsQCOW2(flagSalvage, in)
	case asItIs && o.lost.On():
		return app.Usagef("option --%s applies to a filesystem, but %s is %s and is copied as it is; -Q and -ra look at the filesystem in it", flagLostFiles, name, kindOf(in))
	case asItIs && o.scanFlag != "":
		return app.Usagef("option --%s applies to a filesystem, but %s is %s and is copied as it is", o.scanFlag, name, kindOf(in))
	case o.badMap != "" && (in.Guest != nil || in.Sparse != nil):
		return app.Usagef("option --%s needs the rescued disk, but %s is %s, which has other offsets", flagBadMap, name, kindOf(in))
	}
	return nil
}

// needsQCOW2 says that a flag does not go with the source.
func needsQCOW2(flag string, in *app.Input) error {
	return app.Usagef("option --%s needs a qcow2 image, but %s is none", flag, in.Src.Name())
}

// lostHint says how to learn which contents of files are lost, "" if that is known.
func (o *common) lostHint(in *app.Input, search app.Search) string {
	switch {
	case o.badMap != "" || search.Scan.Files:
		return ""
	case in.Guest != nil:
		return "the contents of files were not read: -ra reads them"
	}
	return "the contents of files were not read: --bad-map says which of them are lost, and -ra reads them"
}

// listing returns how a dry run lists blocks of block bytes. It lists nothing
// if the record goes to standard output.
func (o *common) listing(t *Tool, block int, shown *progress.Reporter) app.Listing {
	l := app.Listing{Out: t.Stdout, Block: max(block, ext.MinBlockSize), Threads: o.threads}
	if o.dryRun {
		l.Progress = app.Reading(shown)
	}
	if o.json != "" && target.IsStdout(o.json) {
		l.Out = nil
	}
	return l
}
