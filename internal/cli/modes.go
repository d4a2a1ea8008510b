package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

// A mode is the kind of output of the command without a name.
type mode uint8

const (
	toQCOW2 mode = iota
	toRaw
	toNormal
	install
)

// modeFlags cannot be combined. Without any of them, the mode is toNormal.
var modeFlags = []struct {
	name  string
	short string
	mode  mode
}{
	{flagQCOW2, "-Q", toQCOW2},
	{flagRaw, "-r", toRaw},
	{flagInstall, "-I", install},
}

// String returns the option of a mode.
func (m mode) String() string {
	for _, f := range modeFlags {
		if f.mode == m {
			return f.short
		}
	}
	return "a normal image"
}

// parseMode returns the mode of a command line.
func parseMode(c *cli.Context) (mode, error) {
	m, short := toNormal, ""
	for _, f := range modeFlags {
		switch n := c.Count(f.name); {
		case n > 1:
			return 0, app.Usagef("%s is given %d times", f.short, n)
		case n == 1 && short != "":
			return 0, app.Usagef("%s and %s cannot be combined", short, f.short)
		case n == 1:
			m, short = f.mode, f.short
		}
	}
	if short == "" && !c.Args().Present() {
		return 0, app.Usagef("say what to do: -Q writes a qcow2 image, -r restores one, -I installs one on a device")
	}
	return m, nil
}

// limitedFlags are flags that only some modes have.
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
	{flagLostFiles, []mode{toQCOW2, toRaw}},
	{flagNull, []mode{toQCOW2, toRaw}},
	{flagScramble, []mode{toQCOW2, toRaw}}, // a normal image has no directories, so it cannot be scrambled
	{flagDryRun, []mode{toQCOW2, toRaw, install}},
	{flagOffset, []mode{toQCOW2, toRaw}},
	{flagPartition, []mode{toQCOW2, toRaw}},
	{flagTargetOffset, []mode{toRaw}},
	{flagCompare, []mode{toRaw}},
	{flagFreeze, []mode{toQCOW2, toRaw, toNormal}},
	{flagSalvage, []mode{toQCOW2, toRaw, toNormal}},
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
		return app.Usagef("option --%s goes with %s only", f.name, strings.Join(names, " and "))
	}
	return nil
}
