package cli

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The names of the flags in a parsed command line.
const (
	flagQCOW2         = "qcow2"
	flagRaw           = "raw"
	flagInstall       = "install"
	flagUndo          = "undo"
	flagCompress      = "compress"
	flagLevel         = "level"
	flagQCOW2Version  = "qcow2-version"
	flagClusterSize   = "cluster-size"
	flagStamp         = "stamp"
	flagWhole         = "whole"
	flagBacking       = "backing"
	flagSalvage       = "salvage"
	flagSourceFormat  = "source-format"
	flagSpoolDir      = "spool-dir"
	flagAllData       = "all-data"
	flagCompare       = "compare"
	flagDryRun        = "dry-run"
	flagOffset        = "offset"
	flagTargetOffset  = "target-offset"
	flagPartition     = "partition"
	flagForce         = "force"
	flagFreeze        = "freeze"
	flagProgress      = "progress"
	flagSuperblock    = "superblock"
	flagBlockSize     = "blocksize"
	flagBackups       = "backups"
	flagJournal       = "journal"
	flagXattrValues   = "xattr-values"
	flagReadRetries   = "read-retries"
	flagBadMap        = "bad-map"
	flagLostFiles     = "lost-files"
	flagNull          = "null"
	flagOnlyAllocated = "only-allocated"
	flagOverwrite     = "overwrite"
	flagJSON          = "json"
	flagThreads       = "threads"
	flagDirect        = "direct"
	flagHelp          = "help"
	flagVersion       = "version"
)

// flags returns the flags of the tool. --help shows their usage texts; the
// value of a flag stands in backquotes. Flags with no other text are listed
// together. Values stay text here; each command parses them.
func flags() []cli.Flag {
	return append([]cli.Flag{
		modeFlag(flagQCOW2, "Q", "write a qcow2 image of the metadata"),
		modeFlag(flagRaw, "r", "write a raw image of the metadata, or of a qcow2 image"),
		modeFlag(flagInstall, "I", "write the metadata in an image back to a device"),
		&impliedFlag{
			StringFlag: cli.StringFlag{Name: flagCompress, Aliases: []string{"z"}, Usage: "compress: `KIND` is zlib (if left out) or zstd"},
			value:      "zlib",
			words:      []string{"zlib", "zstd"},
		},
		&impliedFlag{
			StringFlag: cli.StringFlag{Name: flagScramble, Aliases: []string{"s"}, Usage: "replace names and what else is private; `HOW`: strict"},
			value:      scrambleUsual,
			words:      []string{scrambleUsual, "strict"},
		},
		&cli.BoolFlag{Name: flagAllData, Aliases: []string{"a"}, Usage: "the contents of files too: a clone of the filesystem"},
		&cli.BoolFlag{Name: flagCompare, Aliases: []string{"c"}, Usage: "with -r, write in place, and only what differs"},
		&cli.BoolFlag{Name: flagDryRun, Aliases: []string{"n"}, Usage: "print the blocks that would be written, write nothing"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the filesystem begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the filesystem is on partition `N` of the source"},
		&cli.StringFlag{Name: flagTargetOffset, Aliases: []string{"O"}, Usage: "with -r, write in place, `OFF` into the target"},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "go on despite use, size or UUID (-I), damage (move)"},
		&cli.BoolFlag{Name: flagFreeze, Usage: "freeze a mounted filesystem while it is read"},
		&cli.BoolFlag{Name: flagProgress, Aliases: []string{"p"}},
		&cli.StringFlag{Name: flagSuperblock, Aliases: []string{"b"}, Usage: "believe the superblock in `BLOCK`"},
		&cli.StringFlag{Name: flagBlockSize, Aliases: []string{"B"}, Usage: "take blocks to be of `BYTES`"},
		&cli.StringFlag{Name: flagJournal, Usage: "`whole|live|none`"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.StringFlag{Name: flagJSON, Usage: "`FILE`"},
		&cli.StringFlag{Name: flagBackups, Usage: "`all|none`"},
		&cli.BoolFlag{Name: flagXattrValues},
		&cli.BoolFlag{Name: flagWhole},
		&cli.StringFlag{Name: flagLevel, Usage: "`N`"},
		&cli.BoolFlag{Name: flagSalvage},
		&cli.StringFlag{Name: flagQCOW2Version, Usage: "`2|3`"},
		&cli.StringFlag{Name: flagClusterSize, Usage: "`BYTES`"},
		&cli.BoolFlag{Name: flagStamp},
		&cli.StringFlag{Name: flagUndo, Usage: "`FILE`"},
		&cli.BoolFlag{Name: flagOnlyAllocated},
		&cli.BoolFlag{Name: flagBacking},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|qcow2|e2image|sparse`"},
		&cli.StringFlag{Name: flagSpoolDir, Usage: "`DIR`"},
		&cli.StringFlag{Name: flagReadRetries, Usage: "`N`"},
		&cli.StringFlag{Name: flagBadMap, Usage: "`FILE`"},
		&cli.StringFlag{Name: flagLostFiles, Usage: "`FILE`"},
		&cli.BoolFlag{Name: flagNull, Aliases: []string{"0"}},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.StringFlag{Name: flagDirect, Usage: "`auto|on|off`"},
		&cli.BoolFlag{Name: flagVersion, Aliases: []string{"V"}},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}, scrambleFlags()...)
}

// modeFlag returns a flag that counts how often it is given.
func modeFlag(name, short, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: []string{short}, Usage: usage, Count: new(int)}
}

// An impliedFlag is a flag whose value may be left out.
type impliedFlag struct {
	cli.StringFlag
	value string   // the implied value
	words []string // the allowed values
}

// ImpliedValue returns the value of the flag if none is given.
func (f *impliedFlag) ImpliedValue() string { return f.value }

// Values returns the allowed values.
func (f *impliedFlag) Values() []string { return f.words }

// flagHelpText returns a line for each flag that has a usage text, and the
// other flags, one after the other.
func flagHelpText(flags []cli.Flag) string {
	var b strings.Builder
	var others []string
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		value, usage := placeholder(doc.GetUsage())
		name := f.Names()[0]
		switch _, implied := f.(implied); {
		case value == "":
		case implied:
			name += "[=" + value + "]"
		default:
			name += " " + value
		}
		if usage == "" {
			others = append(others, "--"+name)
			continue
		}
		short := "   "
		if names := f.Names(); len(names) > 1 {
			short = "-" + names[1] + ","
		}
		fmt.Fprintf(&b, "  %s --%-17s %s\n", short, name, usage)
	}
	if len(others) > 0 {
		b.WriteString(wrap("Also: ", others))
	}
	return b.String()
}

// placeholder returns the name of the value in the usage text of a flag, and
// the text without backquotes; "" if the text is only that name.
func placeholder(usage string) (value, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "", usage
	}
	value, after, _ := strings.Cut(rest, "`")
	if text = before + value + after; text == value {
		text = ""
	}
	return value, text
}

// wrap returns a title and words, separated by commas, in lines that fit a
// terminal.
func wrap(title string, words []string) string {
	const width = 80
	var b strings.Builder
	line := title
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		if len(line)+len(w) >= width {
			fmt.Fprintln(&b, strings.TrimRight(line, " "))
			line = strings.Repeat(" ", len(title))
		}
		line += w + " "
	}
	fmt.Fprintln(&b, strings.TrimRight(line, " "))
	return b.String()
}
