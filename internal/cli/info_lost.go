package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/progress"
)

const flagSearch = "search"

// infoFlags returns the flags of info.
func infoFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: flagMap, Usage: "draw what lies where on the device"},
		&cli.BoolFlag{Name: flagSearch, Usage: "look everywhere for superblocks, at every 512 bytes"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "look at what begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "look at partition `N` of the source"},
	}, inspectFlags()...)
}

// infoOptions say what of a source info looks at.
type infoOptions struct {
	place  app.Place
	search bool // for superblocks, everywhere
	mapped bool // a map is drawn
}

// What info prints of superblocks that were looked for.
type jsonLost struct {
	Everywhere bool                 `json:"searched_everywhere"`
	Found      []app.LostFilesystem `json:"found"`
	Unreadable int64                `json:"search_unreadable,omitempty"` // bytes
	LeftOut    uint64               `json:"search_left_out,omitempty"`   // superblocks too many to list
}

// findLost looks for superblocks in a part of the source.
func (i *jsonInfo) findLost(ctx context.Context, t *Tool, p *app.Part, everywhere bool) error {
	shown := t.Progress(false)
	defer shown.Finish()
	lost, err := app.FindLost(ctx, p, everywhere, shown.Phase("search", progress.Bytes))
	if err != nil {
		return err
	}
	i.jsonLost = &jsonLost{Everywhere: everywhere, Found: lost.Filesystems, Unreadable: lost.Unreadable, LeftOut: lost.LeftOut}
	if i.Found == nil {
		i.Found = []app.LostFilesystem{}
	}
	return nil
}

// print writes what was found, and what it is good for.
func (l *jsonLost) write(source string, line liner) {
	where := "in the usual places; --search looks everywhere"
	if l.Everywhere {
		where = "everywhere"
	}
	line("superblocks", "of %s found %s", advise.Count(uint64(len(l.Found)), "filesystem"), where)
	const mostFound = 32
	for k := range l.Found {
		if k == mostFound {
			line("", "and %d more; --json lists all", len(l.Found)-k)
			break
		}
		printLost(fmt.Sprintf("found %d", k+1), &l.Found[k], source, line)
	}
	if l.LeftOut > 0 {
		line("", "%s more; they are too many to be listed", advise.Count(l.LeftOut, "superblock"))
	}
	if l.Unreadable > 0 {
		line("not read", "%s could not be read: a superblock there is not found", advise.ExactBytes(l.Unreadable))
	}
}

// typed returns a name as it is typed in a shell, or SOURCE where that would need
// quotes.
func typed(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	if name == "" || name[0] == '-' || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return "SOURCE"
	}
	return name
}

func printLost(name string, f *app.LostFilesystem, source string, line liner) {
	line(name, "%s, %s in blocks of %d bytes, from byte %d", f.Type, advise.Size(f.Blocks, uint64(f.BlockSize)), f.BlockSize, f.Offset)
	line("", "UUID %s, label %q", f.UUID, f.Label)
	line("", "last write %s, last mount %s", moment(f.LastWrite), moment(f.LastMount))
	switch {
	case f.Options == "":
		line("", "it begins before the source: name the whole disk, or what the source is a part of")
	default:
		line("", "to read it: %s -Q %s %s IMAGE", app.Name, f.Options, source)
	}
	if !f.Root {
		line("", "no root directory was found by it: it may be damaged, or be a superblock only")
	}
	if f.Inside != "" {
		line("", "it lies in the filesystem %s, perhaps as a file", f.Inside)
	}
	if f.Beyond > 0 {
		line("", "%s of it are behind the end of the source", advise.ExactBytes(f.Beyond))
	}
	const most = 8
	for k, p := range f.Places {
		if k == most {
			line("", "and %s more", advise.Comma(uint64(len(f.Places)-k)+f.MorePlaces))
			break
		}
		what := fmt.Sprintf("copy of group %d", p.Group)
		if p.Group == 0 {
			what = "primary"
		}
		line("", "%s: block %d, byte %d", what, p.Block, p.Offset)
	}
	if n := uint64(len(f.Strays)) + f.MoreStrays; n > 0 {
		line("", "%s more in its journal or in files, at byte %d and on: not for -b", advise.Count(n, "superblock"), f.Strays[0])
	}
}
