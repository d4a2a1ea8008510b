package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/app"
	"e2qcow/internal/fuse"
	"e2qcow/internal/overlay"
	"e2qcow/internal/progress"
)

// The common part of mount and try: an image as a writable disk.

const (
	flagChanges      = "changes"
	flagChangesLimit = "changes-limit"
)

// diskFlags returns the flags that mount and try share.
func diskFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: flagChanges, Usage: "keep what was written: a qcow2 `FILE` over the image"},
		&cli.StringFlag{Name: flagChangesLimit, Usage: "how much can be written: `SIZE`, 8G if not given"},
		&cli.StringFlag{Name: flagOffset, Aliases: []string{"o"}, Usage: "the disk begins `OFF` into the source: 1M, 2048s"},
		&cli.StringFlag{Name: flagPartition, Usage: "the disk is partition `N` of the source"},
		&impliedFlag{
			StringFlag: cli.StringFlag{Name: flagScramble, Aliases: []string{"s"}, Usage: "metadata only, without what is private; `HOW`: strict"},
			value:      scrambleUsual,
			words:      []string{scrambleUsual, "strict"},
		},
		&cli.BoolFlag{Name: flagBacking},
		&cli.BoolFlag{Name: flagSalvage},
		&cli.StringFlag{Name: flagSourceFormat, Usage: "`raw|qcow2|e2image|sparse`"},
		&cli.StringFlag{Name: flagSpoolDir, Usage: "`DIR`"},
		&cli.BoolFlag{Name: flagOverwrite},
		&cli.StringFlag{Name: flagThreads, Usage: "`N`"},
		&cli.BoolFlag{Name: flagForce, Aliases: []string{"f"}, Usage: "read a source in use, or a contradictory image"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}, scrambleFlags()...)
}

// diskOptions say what the disk is.
type diskOptions struct {
	source   app.Source
	search   app.Search
	scramble app.Scramble
	changes  string // file for the changes; "" for none
	replace  bool   // an existing file may be replaced
	limit    int64
}

func parseDisk(c *cli.Context, name string) (o diskOptions, err error) {
	if o.source, err = parseSource(c, name); err != nil {
		return o, err
	}
	if o.search, err = parseSearch(c); err != nil {
		return o, err
	}
	if c.IsSet(flagChanges) && c.String(flagChanges) == "" {
		return o, app.Usagef("option --%s needs a name", flagChanges)
	}
	o.changes, o.replace = c.String(flagChanges), c.Bool(flagOverwrite)
	limit, err := sizeOf(c, flagChangesLimit, 1<<20, math.MaxInt64)
	if err != nil {
		return o, err
	}
	o.limit = int64(limit)
	threads, err := number(c, flagThreads, 1, maxThreads)
	if err != nil {
		return o, err
	}
	o.source.Threads = int(threads)
	if o.scramble, _, err = parseScramble(c, o.source.Threads); err != nil {
		return o, err
	}
	if o.scramble.On() && o.changes != "" {
		return o, app.Usagef("--%s and -s cannot be combined: the changes would lie over blocks that are not scrambled", flagChanges)
	}
	o.search.Scrambles = o.scramble.On()
	return o, nil
}

// A openDisk is an image that is open as a disk.
type openDisk struct {
	in      *app.Input
	disk    *app.Disk
	before  image.Image  // the disk without what is written
	changes *app.Changes // nil if the changes are not kept
}

// open opens the disk.
func (o *diskOptions) open(ctx context.Context, t *Tool, shown *progress.Reporter) (*openDisk, error) {
	in, err := t.Open(ctx, o.source, shown)
	if err != nil {
		return nil, err
	}
	d, err := o.openIn(ctx, t, in, shown)
	if err != nil {
		in.Close()
	}
	return d, err
}

func (o *diskOptions) openIn(ctx context.Context, t *Tool, in *app.Input, shown *progress.Reporter) (*openDisk, error) {
	if err := t.CheckQuiet(in, app.Quiet{Forced: o.source.Force, Image: in.Guest != nil}); err != nil {
		return nil, err
	}
	if o.source.Backing && in.Guest == nil {
		return nil, needsQCOW2(flagBacking, in)
	}
	if o.source.Salvage && in.Guest == nil {
		return nil, needsQCOW2(flagSalvage, in)
	}
	if err := checkScrambled(in, o.scramble); err != nil {
		return nil, err
	}
	part, err := in.Part(o.search.Place)
	if err != nil {
		return nil, err
	}
	if err := t.CheckContent(in, part, o.source.Format == app.FormatRaw); err != nil {
		return nil, err
	}
	whole, start := in.Cached(), part.Start
	d := &openDisk{in: in, before: image.Section(whole, start, part.Disk.Size())}
	if o.scramble.On() {
		if whole, err = o.scrambled(ctx, t, in, part, shown); err != nil {
			return nil, err
		}
		d.before, start = whole, 0
	}
	if d.changes, err = t.OpenChanges(ctx, o.changes, in, o.replace); err != nil {
		return nil, err
	}
	d.disk = app.NewDisk(whole, start, d.before.Size(), overlay.Options{Limit: o.limit, Spool: o.source.Spool})
	return d, nil
}

// scrambled returns the scrambled metadata of the filesystem. All of it is read
// once before anybody else may: only then it is known that no word is left.
func (o *diskOptions) scrambled(ctx context.Context, t *Tool, in *app.Input, part *app.Part, shown *progress.Reporter) (image.Image, error) {
	shown.Plan(app.Plan{Scrambled: true, DryRun: true}.Steps()...)
	r := o.scramble.Begin()
	img, res, err := imageOf(ctx, in, part, o.search, r, endsWithFilesystem(o.search, part), shown)
	if err != nil {
		return nil, err
	}
	reading := app.Listing{Block: int(res.BlockSize()), Threads: o.source.Threads, Progress: app.Reading(shown)}
	if _, err := reading.List(ctx, img); err != nil {
		return nil, err
	}
	if err := cmp.Or(r.Finish(ctx, app.Beside{}, shown), in.Damage()); err != nil {
		return nil, err
	}
	if err := t.SayFound(in, res); err != nil && !errors.Is(err, app.ErrUnreadable) {
		return nil, err
	}
	return img, nil
}

// Close releases everything.
func (d *openDisk) Close() {
	d.changes.Close()
	d.disk.Close()
	d.in.Close()
}

// keep writes the file of changes, if one was requested.
func (d *openDisk) keep(ctx context.Context, t *Tool) error {
	if d.changes == nil {
		return nil
	}
	note, err := d.changes.Write(ctx, d.disk, d.in)
	if err == nil {
		t.Say("%s", note)
	}
	return err
}

// A fuseError says what to do where there is no FUSE.
type fuseError struct {
	err    error
	source string
	format string // "" where qemu-storage-daemon does not read the source
}

func (e *fuseError) Error() string { return e.err.Error() }
func (e *fuseError) Unwrap() error { return e.err }

// Advice returns what to do.
func (e *fuseError) Advice() string {
	text := fmt.Sprintf("load the module fuse (modprobe fuse), or let this user open /dev/fuse, or have it in the container (docker run --device /dev/fuse --cap-add SYS_ADMIN); or restore the image: e2qcow -r %s raw.img", e.source)
	if e.format != "" {
		text += fmt.Sprintf("; where FUSE works, qemu does it too: qemu-storage-daemon --blockdev driver=file,node-name=f,filename=%s --blockdev driver=%s,node-name=d,file=f --export type=fuse,id=e,node-name=d,mountpoint=FILE,writable=off", e.source, e.format)
	}
	return text
}

// mount serves the disk in a folder.
func (d *openDisk) mount(t *Tool, folder string, readOnly bool) (*fuse.Mount, error) {
	name := d.in.Src.Name()
	m, err := fuse.New(folder, d.disk.Served(), fuse.Options{ReadOnly: readOnly, Source: name, Trouble: func(err error) { t.Say("%v", err) }})
	if errors.Is(err, fuse.ErrUnavailable) {
		format := "raw"
		switch {
		case d.in.Guest != nil:
			format = "qcow2"
		case d.in.Normal != nil || d.in.Sparse != nil || d.in.Src.IsSpooled():
			format = ""
		}
		err = &fuseError{err, name, format}
	}
	return m, err
}

// busyPoll is the interval at which a disk in use is tried again.
const busyPoll = 100 * time.Millisecond

// unmount ends the service. While the disk is in use it waits, and says for whom;
// a signal ends that, and the disk is gone for those too.
func (d *openDisk) unmount(t *Tool, m *fuse.Mount, signals <-chan os.Signal) error {
	for n := 0; ; n++ {
		err := m.Unmount()
		if !errors.Is(err, fuse.ErrBusy) {
			return err
		}
		if n == 5 { // the kernel tells of a closed file a little later
			by := ""
			if users := m.Users(); len(users) > 0 {
				by = " by " + strings.Join(users, ", ")
			}
			t.Say("%s is in use%s: it ends when that ends, or at the next signal (Ctrl-C)", m.Disk(), by)
		}
		select {
		case <-signals:
			d.disk.End()
			return m.Detach()
		case <-m.Ended():
		case <-time.After(busyPoll):
		}
	}
}

// takeSignals returns a channel of the signals that would end the process.
func (t *Tool) takeSignals() (signals <-chan os.Signal, stop func()) {
	list := make(chan os.Signal, 8)
	t.TakeSignals(func(s os.Signal) {
		select {
		case list <- s:
		default:
		}
	})
	var once sync.Once
	return list, func() { once.Do(func() { t.TakeSignals(nil) }) }
}
