package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// A mode is what the tool is asked to make.
type mode uint8

const (
	toQCOW2 mode = iota
	toRaw
	toNormal // the format of e2image's own
	install  // what is metadata, in place
)

// String returns how a mode is asked for.
func (m mode) String() string {
	for _, f := range modeFlags {
		if f.mode == m {
			return f.short
		}
	}
	return "a normal image"
}

// A format is what a source is taken for.
type format uint8

const (
	formatAny format = iota // whichever its first bytes say
	formatRaw
	formatQCOW2
	formatNormal
)

// options are a parsed command line.
type options struct {
	mode           mode
	source, target string
	format         format
	whole          bool // no scan of what a qcow2 source holds
	backing        bool
	force          bool
	freeze         bool
	quiet          bool // nothing is said of success
	progress       bool
	onlyAllocated  bool
	overwrite      bool
	stamp          bool
	threads        int
	direct         source.DirectMode
	json           string // where to; "" for nowhere
	undo           string // where to; "" for nowhere
	badMap         string // "" for none
	qcow2          qcow2.WriteOptions
	spool          spool.Options
	scan           scan.Options
	scramble       scrambling
	scanFlag       string // a flag given that concerns the scan; "" where there is none
	compare        bool   // write what differs only
	dryRun         bool   // write nothing
	move           bool   // in place
	moveJournal    string // of a move; "" for none
	place
}

// limitedFlags go with some modes only.
var limitedFlags = []struct {
	name  string
	modes []mode
}{
	{flagCompress, []mode{toQCOW2}},
	{flagLevel, []mode{toQCOW2}},
	{flagQCOW2Version, []mode{toQCOW2}},
	{flagClusterSize, []mode{toQCOW2}},
	{flagStamp, []mode{toQCOW2, toNormal}},
	{flagWhole, []mode{toQCOW2}},
	{flagOnlyAllocated, []mode{toRaw}},
	{flagAllData, []mode{toQCOW2, toRaw}},
	{flagXattrValues, []mode{toQCOW2, toRaw}},
	{flagScramble, []mode{toQCOW2, toRaw}}, // what is not followed cannot be scrambled
	{flagDryRun, []mode{toQCOW2, toRaw, install}},
	{flagOffset, []mode{toQCOW2, toRaw}},
	{flagPartition, []mode{toQCOW2, toRaw}},
	{flagTargetOffset, []mode{toRaw}},
	{flagCompare, []mode{toRaw}},
	{flagFreeze, []mode{toQCOW2, toRaw, toNormal}},
	{flagUndo, []mode{install}},
}

// checkFlags refuses flags that do not go with m.
func checkFlags(c *cli.Context, m mode) error {
	for _, f := range limitedFlags {
		if !c.IsSet(f.name) || slices.Contains(f.modes, m) {
			continue
		}
		var names []string
		for _, m := range f.modes {
			names = append(names, m.String())
		}
		return usagef("option --%s goes with %s only", f.name, strings.Join(names, " and "))
	}
	return nil
}

// scanFlags mean nothing for an image that is taken as it is.
var scanFlags = []string{flagSuperblock, flagBlockSize, flagBackups, flagJournal, flagXattrValues, flagReadRetries, flagBadMap, flagOffset, flagPartition}

// parseOptions checks what cli has parsed. Its errors are usageErrors.
func parseOptions(c *cli.Context) (options, error) {
	m, err := parseMode(c)
	if err != nil {
		return options{}, err
	}
	if err := checkFlags(c, m); err != nil {
		return options{}, err
	}
	o := options{
		mode:          m,
		whole:         c.Bool(flagWhole),
		backing:       c.Bool(flagBacking),
		force:         c.Bool(flagForce),
		freeze:        c.Bool(flagFreeze),
		progress:      c.Bool(flagProgress),
		onlyAllocated: c.Bool(flagOnlyAllocated),
		compare:       c.Bool(flagCompare),
		dryRun:        c.Bool(flagDryRun),
		overwrite:     c.Bool(flagOverwrite),
		stamp:         c.Bool(flagStamp),
		json:          c.String(flagJSON),
		undo:          c.String(flagUndo),
		badMap:        c.String(flagBadMap),
		spool:         spool.Options{Dir: c.String(flagSpoolDir)},
	}
	for _, parse := range []func(*cli.Context) error{
		o.parseOperands, o.parsePlace, o.parseNames, o.parseWork, o.parseQCOW2, o.parseScan, o.parseScramble,
	} {
		if err := parse(c); err != nil {
			return options{}, err
		}
	}
	return o, nil
}

// parseNames refuses names that are empty or stand for two things.
func (o *options) parseNames(c *cli.Context) error {
	for _, name := range []string{flagJSON, flagBadMap, flagSpoolDir, flagUndo} {
		if c.IsSet(name) && c.String(name) == "" {
			return usagef("option --%s needs a name", name)
		}
	}
	if o.json != "" && target.IsStdout(o.json) && target.IsStdout(o.target) && !o.dryRun {
		return usagef("option --%s: standard output is the image", flagJSON)
	}
	return nil
}

// parseWork parses with how many threads, and how, the source is read.
func (o *options) parseWork(c *cli.Context) error {
	var err error
	if o.direct, err = choice(c, flagDirect, map[string]source.DirectMode{
		"auto": source.DirectAuto, "on": source.DirectOn, "off": source.DirectOff,
	}); err != nil {
		return err
	}
	threads, err := number(c, flagThreads, 1, maxThreads)
	o.threads, o.scan.Threads, o.qcow2.Threads = int(threads), int(threads), int(threads)
	return err
}

// maxThreads bounds the memory that is asked for by a slip of the finger.
const maxThreads = 1024

// parseMode finds the one mode that was asked for.
func parseMode(c *cli.Context) (mode, error) {
	m, short := toNormal, ""
	for _, f := range modeFlags {
		switch n := c.Count(f.name); {
		case n > 1:
			return 0, usagef("%s is given %d times", f.short, n)
		case n == 1 && short != "":
			return 0, usagef("%s and %s exclude one another", short, f.short)
		case n == 1:
			m, short = f.mode, f.short
		}
	}
	if short == "" && !c.Args().Present() {
		return 0, usagef("say what to do: -Q writes a qcow2 image, -r a raw one, -I puts one back")
	}
	return m, nil
}

// parseOperands parses the source and the target, and what the source is. As
// e2image has it, -I names the target first: it is the device.
func (o *options) parseOperands(c *cli.Context) error {
	switch args := c.Args().Slice(); {
	case slices.Contains(args, ""):
		return usagef("an operand is empty")
	case isMove(c, o.mode):
		o.move, o.source, o.target = true, args[0], args[0]
		if err := o.parseMove(c); err != nil {
			return err
		}
	case len(args) != 2:
		return wrongOperands(o.mode, args)
	case o.mode == install:
		o.target, o.source = args[0], args[1]
	default:
		o.source, o.target = args[0], args[1]
	}
	var err error
	o.format, err = choice(c, flagSourceFormat, map[string]format{"raw": formatRaw, "qcow2": formatQCOW2, "e2image": formatNormal})
	if err != nil {
		return err
	}
	for name, set := range map[string]bool{flagWhole: o.whole, flagBacking: o.backing} {
		if set && o.format != formatAny && o.format != formatQCOW2 {
			return usagef("option --%s concerns a qcow2 source, --%s says that it is %s", name, flagSourceFormat, c.String(flagSourceFormat))
		}
	}
	if o.freeze && source.IsStdin(o.source) {
		return usagef("option --%s concerns a source that is mounted, and standard input is not", flagFreeze)
	}
	if o.backing && source.IsStdin(o.source) {
		return usagef("option --%s concerns files beside the source, and standard input has none", flagBacking)
	}
	return nil
}

// wrongOperands says how many operands m takes.
func wrongOperands(m mode, args []string) error {
	operands := "a source and a target"
	if m == install {
		operands = "a device and an image"
	}
	e := &usageError{operands: len(args) - 2}
	if e.operands < 0 {
		e.what = fmt.Sprintf("%s needs %s", m, operands)
	} else {
		e.what = fmt.Sprintf("%s takes %s, nothing more: %q", m, operands, args[2])
	}
	if m == toNormal {
		e.what += "; it is what is written without -Q, -r or -I; commands are info, check, completion, help and version"
	}
	return e
}

// parseQCOW2 parses how a qcow2 image is written.
func (o *options) parseQCOW2(c *cli.Context) error {
	var err error
	if o.qcow2.Compression, err = choice(c, flagCompress, map[string]qcow2.Compression{
		"zlib": qcow2.Zlib, "zstd": qcow2.Zstd,
	}); err != nil {
		return err
	}
	level, err := number(c, flagLevel, 1, maxLevel)
	if err != nil {
		return err
	}
	if level != 0 && o.qcow2.Compression != qcow2.Zstd {
		return usagef("option --%s goes with --%s=zstd only; zlib has one level", flagLevel, flagCompress)
	}
	version, err := choice(c, flagQCOW2Version, map[string]int{"2": 2, "3": 3})
	if err != nil {
		return err
	}
	if version == 2 && o.qcow2.Compression == qcow2.Zstd {
		return usagef("option --%s=zstd needs --%s 3", flagCompress, flagQCOW2Version)
	}
	clusterSize, err := powerOfTwo(c, flagClusterSize, minClusterSize, maxClusterSize)
	if err != nil {
		return err
	}
	o.qcow2.Level, o.qcow2.Version, o.qcow2.ClusterSize = int(level), version, int(clusterSize)
	o.qcow2.Spool = o.spool
	return nil
}

// What qcow2 images can have.
const (
	maxLevel       = 22 // of zstd
	minClusterSize = 512
	maxClusterSize = 2 << 20
)

// parseScan parses what concerns the scan.
func (o *options) parseScan(c *cli.Context) error {
	o.scan.Files = c.Bool(flagAllData)
	// What an image that is installed has of values is put back.
	o.scan.XattrValues = c.Bool(flagXattrValues) || o.mode == install
	o.scan.ZeroedTables = o.scan.Files && o.onlyAllocated
	var err error
	if o.scan.Superblock, err = number(c, flagSuperblock, 0, 1<<48); err != nil {
		return err
	}
	blockSize, err := powerOfTwo(c, flagBlockSize, ext.MinBlockSize, ext.MaxBlockSize)
	if err != nil {
		return err
	}
	o.scan.BlockSize = uint32(blockSize)
	if o.scan.Backups, err = choice(c, flagBackups, map[string]scan.Backups{
		"all": scan.BackupsAll, "none": scan.BackupsNone,
	}); err != nil {
		return err
	}
	if o.move {
		o.scan.Journal = scan.JournalWhole
	} else if o.scan.Journal, err = choice(c, flagJournal, map[string]scan.JournalMode{
		"whole": scan.JournalWhole, "live": scan.JournalLive, "none": scan.JournalNone,
	}); err != nil {
		return err
	}
	o.scan.TablesOnly = o.mode == toNormal
	o.scan.Retries = 1
	if c.IsSet(flagReadRetries) {
		retries, err := number(c, flagReadRetries, 0, maxRetries)
		if err != nil {
			return err
		}
		o.scan.Retries = int(retries)
	}
	for _, name := range scanFlags {
		if !c.IsSet(name) {
			continue
		}
		if o.whole {
			return usagef("option --%s concerns a filesystem; with --%s nobody looks for one", name, flagWhole)
		}
		o.scanFlag = name
	}
	return nil
}

// maxRetries bounds what is done to a dying disk.
const maxRetries = 1000

// choice returns what the value of a flag stands for; the zero T where it is
// not given.
func choice[T any](c *cli.Context, name string, values map[string]T) (T, error) {
	var zero T
	if !c.IsSet(name) {
		return zero, nil
	}
	if v, ok := values[c.String(name)]; ok {
		return v, nil
	}
	var names []string
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	return zero, usagef("option --%s: %q is not one of %s", name, c.String(name), strings.Join(names, ", "))
}
