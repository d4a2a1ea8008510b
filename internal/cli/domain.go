package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"iter"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/ddrescue"
	"e2qcow/internal/ranges"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

const domainHelp = `Usage: e2qcow domain [OPTION...] SOURCE MAP
Write a map for ddrescue -m: what is worth reading of a disk that may die any
minute. SOURCE is the disk, or the image that ddrescue has rescued so far, with
--bad-map. What could not be seen yet is said, and the exit status is 3: rescue,
and call this again.

`

const domainExamples = `
Examples:
  e2qcow domain --pass 2 /dev/sdb1 domain.map
  ddrescue -m domain.map /dev/sdb1 rescue.img rescue.map
  e2qcow domain --bad-map rescue.map --overwrite rescue.img domain.map
`

const flagPass = "pass"

// errDomainImage says that a map of the disk in an image would be of no use.
var errDomainImage = advise.New("is an image, but the map is for the disk that is to be rescued", "name the disk, or the raw copy that ddrescue makes")

// domainPass returns the pass in which to read a kind of block. The first pass
// is necessary to find anything, the second to find files.
func domainPass(k scan.Kind) int {
	switch k {
	case scan.Superblock, scan.GroupDescs:
		return 1
	case scan.BlockBitmap, scan.InodeBitmap, scan.InodeTable, scan.Mmp:
		return 2
	case scan.FileData:
		return 4
	}
	return 3
}

func domainFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagPass, Usage: "up to `N`: 1 superblocks, descriptors; 2 bitmaps, inodes; 3 all (3)"},
		&cli.BoolFlag{Name: flagAllData, Aliases: []string{"a"}, Usage: "pass 4: the contents of files too"},
		&cli.StringFlag{Name: flagBadMap, Usage: "what is not rescued yet, by `FILE` of ddrescue"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the filesystem begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the filesystem is on partition `N` of the source"},
		&cli.StringFlag{Name: flagSuperblock, Aliases: []string{"b"}, Usage: "believe the superblock in `BLOCK`"},
		&cli.StringFlag{Name: flagBlockSize, Aliases: []string{"B"}, Usage: "take blocks to be of `BYTES`"},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read a source that is in use"},
		&cli.StringFlag{Name: flagReadRetries, Usage: "`N`"},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|sparse`"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

// domainOptions are those of domain.
type domainOptions struct {
	source    app.Source
	search    app.Search
	target    string
	badMap    string
	overwrite bool
	pass      int
}

func parseDomain(c *cli.Context) (*domainOptions, error) {
	args := c.Args().Slice()
	if len(args) != 2 {
		return nil, &app.UsageError{What: "domain needs a source and a map, and nothing else", Operands: len(args) - 2}
	}
	o := &domainOptions{target: args[1], badMap: c.String(flagBadMap), overwrite: c.Bool(flagOverwrite)}
	if c.IsSet(flagBadMap) && o.badMap == "" {
		return nil, app.Usagef("option --%s needs a name", flagBadMap)
	}
	pass, err := number(c, flagPass, 1, 3)
	if err != nil {
		return nil, err
	}
	if o.pass = cmp.Or(int(pass), 3); c.Bool(flagAllData) {
		if c.IsSet(flagPass) {
			return nil, app.Usagef("-a and --%s exclude one another: -a is pass 4", flagPass)
		}
		o.pass = 4
	}
	// Offsets are those of the disk that ddrescue reads, so an image is no source.
	if _, err := choice(c, flagSourceFormat, map[string]app.Format{"raw": app.FormatRaw, "sparse": app.FormatSparse}); err != nil {
		return nil, err
	}
	if o.source, err = parseSource(c, args[0]); err != nil {
		return nil, err
	}
	if o.search, err = parseSearch(c); err != nil {
		return nil, err
	}
	o.search.Writes = false // over nothing, also with -a
	o.source.Threads = o.search.Scan.Threads
	return o, nil
}

// domain writes the ranges of a disk that are worth reading.
func (t *Tool) domain(c *cli.Context) error {
	o, err := parseDomain(c)
	if err != nil {
		return err
	}
	return o.run(c.Context, t)
}

var errNothingKnown = advise.New("no superblock says what is worth reading", "info --search lists the copies that are left; -b and -B name one")

func (o *domainOptions) run(ctx context.Context, t *Tool) error {
	shown := t.Progress(false)
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
	if in.Guest != nil || in.Normal != nil {
		return fmt.Errorf("%s %w", in.Src.Name(), errDomainImage)
	}
	t.SayForeignMap(o.badMap, bad, in)
	part, err := in.Part(o.search.Place)
	if err != nil {
		return err
	}
	to, err := target.Open(ctx, o.target, target.Options{Source: in.Region, Format: target.Names, Overwrite: o.overwrite})
	if err != nil {
		return err
	}
	defer to.Close()
	t.Guard(to.Close)
	lacking := part.Ranges(bad)
	if o.badMap != "" {
		part, lacking = part.Unrescued(lacking)
	}
	res, err := o.search.Avoiding(lacking).Metadata(ctx, part, shown)
	if err != nil {
		return err
	}
	if res.Super() == nil && len(res.Unreadable()) == 0 {
		return fmt.Errorf("%s: %w", part.Name, errNothingKnown)
	}
	size := max(in.Disk().Size(), part.Start+res.FilesystemSize()) // the rescued file may end early
	b := bufio.NewWriter(to)
	total, err := ddrescue.WriteDomain(b, size, "Domain for ddrescue -m. Made by "+app.Tool(), o.ranges(res, part.Start))
	if err := cmp.Or(err, b.Flush()); err != nil {
		return err
	}
	if err := to.Commit(); err != nil {
		return err
	}
	shown.Finish()
	t.SayProblems(res.Problems())
	t.Say("%s to %s: %s of %s are worth reading (%.3g %%)", part.Name, o.target, humanize.IBytes(uint64(total)), humanize.IBytes(uint64(size)),
		100*float64(total)/float64(max(size, 1)))
	if lost := res.Unreadable(); len(lost) > 0 {
		t.Say("%s of metadata in the map could not be read yet: what they lead to is not in it; rescue, and call this again", advise.Count(len(lost), "range"))
		return app.ErrUnreadable
	}
	return nil
}

// ranges yields the ranges that are worth reading, in bytes of the source.
func (o *domainOptions) ranges(res *scan.Result, start int64) iter.Seq[ranges.Range[int64]] {
	return func(yield func(ranges.Range[int64]) bool) {
		block := int64(res.BlockSize())
		for r := range res.Map.Runs() {
			if domainPass(r.Kind) > o.pass {
				continue
			}
			from := start + int64(r.Start)*block
			if !yield(ranges.Range[int64]{Start: from, End: from + int64(r.Count)*block}) {
				return
			}
		}
	}
}
