package main

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/scan"
)

// What the flags are called: first the name that stands for all in a parsed
// command line.
const (
	flagQCOW2         = "qcow2"
	flagRaw           = "raw"
	flagForce         = "force"
	flagProgress      = "progress"
	flagSuperblock    = "superblock"
	flagBlockSize     = "blocksize"
	flagBackups       = "backups"
	flagJournal       = "journal"
	flagOnlyAllocated = "only-allocated"
	flagOverwrite     = "overwrite"
	flagThreads       = "threads"
	flagHelp          = "help"
	flagVersion       = "version"
)

// modeFlags exclude one another.
var modeFlags = []struct {
	name  string
	short string
	mode  mode
}{
	{flagQCOW2, "-Q", toQCOW2},
	{flagRaw, "-r", toRaw},
}

// flags returns the flags of the tool. Their usage texts are what --help shows;
// the value of a flag stands in backquotes. Values are taken as text and
// parsed by parseOptions, which knows how the user spells them.
func flags() []cli.Flag {
	return []cli.Flag{
		modeFlag(flagQCOW2, "Q", "write a qcow2 image of the metadata"),
		modeFlag(flagRaw, "r", "write a raw image of the metadata, or of a qcow2 image"),
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read the source though it is mounted read-write"},
		&cli.BoolFlag{Name: flagProgress, Aliases: []string{"p"}, Usage: "show progress though stderr is no terminal"},
		&cli.StringFlag{Name: flagSuperblock, Aliases: []string{"b"}, Usage: "believe the superblock in `BLOCK`"},
		&cli.StringFlag{Name: flagBlockSize, Aliases: []string{"B"}, Usage: "take blocks to be of `BYTES`"},
		&cli.StringFlag{Name: flagBackups, Usage: "copies of the descriptors: `WHICH` is all or none"},
		&cli.StringFlag{Name: flagJournal, Usage: "`WHICH` is whole, live (what would be replayed) or none"},
		&cli.BoolFlag{Name: flagOnlyAllocated, Usage: "with -r to a device, leave the rest of it as it is"},
		&cli.BoolFlag{Name: flagOverwrite, Usage: "replace a target that holds something else"},
		&cli.StringFlag{Name: flagThreads, Usage: "work on `N` threads"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
		&cli.BoolFlag{Name: flagVersion, Usage: "print the version"},
	}
}

// modeFlag returns a flag that counts how often it is given.
func modeFlag(name, short, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: []string{short}, Usage: usage, Count: new(int)}
}

// A mode is what the tool is asked to make.
type mode uint8

const (
	toQCOW2 mode = iota
	toRaw
)

// options are a parsed command line.
type options struct {
	mode           mode
	source, target string
	force          bool
	progress       bool
	onlyAllocated  bool
	overwrite      bool
	threads        int
	scan           scan.Options
	scanFlag       string // a flag given that concerns the scan; "" where there is none
}

// parseOptions checks what cli has parsed. Its errors are usageErrors.
func parseOptions(c *cli.Context) (options, error) {
	m, short, err := parseMode(c)
	if err != nil {
		return options{}, err
	}
	o := options{
		mode:          m,
		force:         c.Bool(flagForce),
		progress:      c.Bool(flagProgress),
		onlyAllocated: c.Bool(flagOnlyAllocated),
		overwrite:     c.Bool(flagOverwrite),
	}
	if o.onlyAllocated && m != toRaw {
		return options{}, usagef("option --%s goes with -r only", flagOnlyAllocated)
	}
	switch args := c.Args().Slice(); {
	case len(args) < 2:
		return options{}, usagef("%s needs a source and a target", short)
	case len(args) > 2:
		return options{}, usagef("%s takes a source and a target, nothing more: %q", short, args[2])
	default:
		o.source, o.target = args[0], args[1]
	}
	if err := o.parseScan(c); err != nil {
		return options{}, err
	}
	threads, err := number(c, flagThreads, 1, maxThreads)
	o.threads, o.scan.Threads = int(threads), int(threads)
	return o, err
}

// maxThreads bounds the memory that is asked for by a slip of the finger.
const maxThreads = 1024

// parseMode finds the one mode that was asked for.
func parseMode(c *cli.Context) (m mode, short string, err error) {
	for _, f := range modeFlags {
		switch n := c.Count(f.name); {
		case n > 1:
			return 0, "", usagef("%s is given %d times", f.short, n)
		case n == 1 && short != "":
			return 0, "", usagef("%s and %s exclude one another", short, f.short)
		case n == 1:
			m, short = f.mode, f.short
		}
	}
	if short == "" {
		return 0, "", usagef("say what to do: -Q writes a qcow2 image, -r a raw one")
	}
	return m, short, nil
}

// parseScan parses what concerns the scan.
func (o *options) parseScan(c *cli.Context) error {
	var err error
	if o.scan.Superblock, err = number(c, flagSuperblock, 0, 1<<48); err != nil {
		return err
	}
	blockSize, err := number(c, flagBlockSize, ext.MinBlockSize, ext.MaxBlockSize)
	if err != nil {
		return err
	}
	if bits.OnesCount64(blockSize) > 1 {
		return usagef("option --%s: %d is not a power of two", flagBlockSize, blockSize)
	}
	o.scan.BlockSize = uint32(blockSize)
	if o.scan.Backups, err = choice(c, flagBackups, map[string]scan.Backups{
		"all": scan.BackupsAll, "none": scan.BackupsNone,
	}); err != nil {
		return err
	}
	if o.scan.Journal, err = choice(c, flagJournal, map[string]scan.JournalMode{
		"whole": scan.JournalWhole, "live": scan.JournalLive, "none": scan.JournalNone,
	}); err != nil {
		return err
	}
	for _, name := range []string{flagSuperblock, flagBlockSize, flagBackups, flagJournal} {
		if c.IsSet(name) {
			o.scanFlag = name
		}
	}
	return nil
}

// number returns the value of a flag, decimal or 0x and hexadecimal; 0 where
// it is not given.
func number(c *cli.Context, name string, least, most uint64) (uint64, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	text := c.String(name)
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	switch {
	case err != nil && !isNumber(digits):
		return 0, usagef("option --%s: %q is not a number", name, text)
	case err != nil || n < least || n > most:
		return 0, usagef("option --%s: %s is not from %d to %d", name, text, least, most)
	}
	return n, nil
}

// isNumber tells a number that is too large from what is none.
func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

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

// flagHelpText returns a line for each flag.
func flagHelpText(flags []cli.Flag) string {
	var b strings.Builder
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		usage, value := doc.GetUsage(), ""
		if before, rest, ok := strings.Cut(usage, "`"); ok {
			word, after, _ := strings.Cut(rest, "`")
			usage, value = before+word+after, " "+word
		}
		short := "   "
		if names := f.Names(); len(names) > 1 {
			short = "-" + names[1] + ","
		}
		fmt.Fprintf(&b, "  %s --%-17s %s\n", short, f.Names()[0]+value, usage)
	}
	return b.String()
}
