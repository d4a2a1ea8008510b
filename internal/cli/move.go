package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/move"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// Why a filesystem is not moved.
var (
	errMoveImage      = advise.New("is an image: only a filesystem on a disk can be moved", "name a device or a raw file")
	errMoveUnreadable = advise.New("has unreadable metadata, which a move would destroy", "copy the disk with ddrescue first")
	errMoveDamaged    = advise.New("is damaged, and a move would destroy the blocks that damage hides", "repair it with e2fsck first; -f moves it as it is")
	errMoveVolatile   = advise.New("is in memory, but the disk is not: a power cut would destroy the journal, and the filesystem with it",
		"name a file on another disk; with -f the journal helps against interruptions only")
	errMoveOther = advise.New("belongs to another move", "name another file for the journal")
	errMoveShort = advise.New("ends before its filesystem does, and a move would destroy the missing part",
		"repair it with e2fsck, or make the partition or the file longer, first")
)

// moveOptions are those of -ra with one operand.
type moveOptions struct {
	common
	search  app.Search
	to      *int64 // where the filesystem goes, bytes; nil where it is not given
	journal string // the file of the journal of the move; "" for none
}

// isMove reports whether the command line is a move as in e2image: one operand,
// and a place.
func isMove(c *cli.Context) bool {
	return c.Args().Len() == 1 && (c.IsSet(flagOffset) || c.IsSet(flagTargetOffset) || c.IsSet(flagPartition) || c.IsSet(flagJournal))
}

func parseMove(c *cli.Context, asE2image bool) (*moveOptions, error) {
	name := c.Args().First()
	o := &moveOptions{journal: c.String(flagJournal)}
	switch {
	case name == "":
		return nil, app.Usagef("an operand is empty")
	case !c.Bool(flagAllData):
		return nil, app.Usagef("a move needs -a too: blocks that are not moved are lost")
	case source.IsStdin(name):
		return nil, app.Usagef("a move needs a device or a file, not standard input")
	case c.IsSet(flagJournal) && o.journal == "":
		return nil, app.Usagef("option --%s needs a name", flagJournal)
	case o.journal == "whole" || o.journal == "live" || o.journal == "none":
		return nil, app.Usagef("option --%s names a file when a filesystem is moved; for a file called %q, write ./%s", flagJournal, o.journal, o.journal)
	}
	for _, name := range []string{flagOnlyAllocated, flagFreeze, flagBadMap, flagLostFiles} {
		if c.IsSet(name) {
			return nil, app.Usagef("option --%s does not go with a move", name)
		}
	}
	var err error
	if o.common, err = parseCommon(c, name, name, asE2image); err != nil {
		return nil, err
	}
	o.overwrite = o.overwrite || asE2image
	if o.search, err = parseScan(c); err != nil {
		return nil, err
	}
	o.search.Scan.Journal, o.search.Scan.ZeroedTables = scan.JournalWhole, true
	if o.to, err = parseOffset(c, flagTargetOffset); err != nil {
		return nil, err
	}
	_, _, err = parseScramble(c, o.threads)
	return o, err
}

// begins returns the offset of the new place.
func (o *moveOptions) begins() int64 {
	if o.to == nil {
		return 0
	}
	return *o.to
}

// run moves a filesystem on its disk, or continues a move. It locks the disk
// before it reads anything, and then the journal: the second of two runs ends.
func (o *moveOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "raw", Target: o.target, Mode: app.AllData, Files: true}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	if source.IsPipe(o.source.Name) {
		return fmt.Errorf("%s %w", o.source.Name, target.ErrStream)
	}
	if o.dryRun {
		return o.rehearse(ctx, t, done, shown)
	}
	to, err := target.OpenInPlace(o.target, target.Options{})
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.LockBehind(); err != nil {
		return err
	}
	journal, plan, err := o.openJournal()
	if err != nil {
		return err
	}
	if plan == nil {
		return o.begin(ctx, t, to, done, shown)
	}
	defer journal.Close()
	in, err := app.OpenDisk(ctx, o.source.Name) // half moved, so there is no filesystem to examine
	if err != nil {
		return err
	}
	defer in.Close()
	return o.finish(ctx, t, in, to, plan, journal, done, shown)
}

// rehearse lists what would be moved.
func (o *moveOptions) rehearse(ctx context.Context, t *Tool, done app.Done, shown *progress.Reporter) error {
	if _, _, err := o.openJournal(); err != nil {
		return err
	}
	in, part, res, err := o.look(ctx, t, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	list := o.listing(t, int(res.BlockSize()), shown)
	copied, err := list.List(ctx, moved(res))
	if err != nil {
		return err
	}
	out, err := o.openBeside(ctx, t.InPlace(nil, true), in, "")
	if err != nil {
		return err
	}
	defer out.Close()
	done.Source, done.Offset, done.Scan, done.Mode = in.Src.Name(), part.Start, res, app.Content(in, res, false, true)
	done.ImageBytes, done.DataBytes, done.Written = copied.ImageBytes, copied.DataBytes, &copied.Written
	if err := out.WriteRecord(done, app.ScanRuns(res)); err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	shown.Finish()
	found := t.SayFound(in, res)
	o.say(t, part, out, done)
	return found
}

// openJournal opens the journal of a move that was begun. It returns a nil plan
// if there is none.
func (o *moveOptions) openJournal() (*move.Journal, *move.Plan, error) {
	if o.journal == "" {
		return nil, nil, nil
	}
	from := o.search.Place.Offset
	if _, err := os.Lstat(o.journal); errors.Is(err, fs.ErrNotExist) {
		if from == nil && o.to == nil && o.search.Place.Partition == 0 {
			return nil, nil, app.Usagef("%s does not exist, so no move was begun: say with -o and -O from where to where to move", o.journal)
		}
		return nil, nil, nil
	}
	j, p, err := move.Open(o.journal)
	if err != nil {
		return nil, nil, err
	}
	if from != nil && *from != p.From || o.to != nil && *o.to != p.To {
		j.Close()
		return nil, nil, fmt.Errorf("%s %w: from byte %d to byte %d", o.journal, errMoveOther, p.From, p.To)
	}
	if o.dryRun {
		j.Close()
		return nil, nil, app.Usagef("%s is the journal of a move that was begun; -n cannot continue it", o.journal)
	}
	return j, p, nil
}

// look opens the source, and finds the blocks in use. The caller closes the
// input if there is no error.
func (o *moveOptions) look(ctx context.Context, t *Tool, shown *progress.Reporter) (*app.Input, *app.Part, *scan.Result, error) {
	in, err := t.Open(ctx, o.source, shown)
	if err != nil {
		return nil, nil, nil, err
	}
	part, res, err := o.lookAt(ctx, t, in, shown)
	if err != nil {
		in.Close()
		return nil, nil, nil, err
	}
	return in, part, res, nil
}

func (o *moveOptions) lookAt(ctx context.Context, t *Tool, in *app.Input, shown *progress.Reporter) (*app.Part, *scan.Result, error) {
	if in.Guest != nil || in.Normal != nil || in.Sparse != nil || in.Src.IsSpooled() {
		return nil, nil, fmt.Errorf("%s %w", o.source.Name, errMoveImage)
	}
	if err := t.CheckQuiet(in, app.Quiet{Forced: o.force && o.dryRun, Unused: true}); err != nil {
		return nil, nil, err
	}
	part, err := in.Part(o.search.Place)
	if err != nil {
		return nil, nil, err
	}
	// A mark says that the filesystem is being moved already: the journal of that
	// is lost, or was not named.
	for _, at := range []int64{part.Start, o.begins()} {
		if err := app.CheckMark(in.Disk(), fmt.Sprintf("%s at byte %d", o.source.Name, at), at); err != nil {
			return nil, nil, err
		}
	}
	if part.Start == o.begins() {
		return nil, nil, app.Usagef("the filesystem begins at byte %d already", part.Start)
	}
	shown.Plan(app.MoveSteps(part)...)
	res, err := o.search.Metadata(ctx, part, shown)
	if err != nil {
		return nil, nil, err
	}
	return part, res, o.checkWhole(t, part, res)
}

// checkWhole refuses a filesystem that is damaged or incomplete.
func (o *moveOptions) checkWhole(t *Tool, part *app.Part, res *scan.Result) error {
	sb := res.Super()
	if sb == nil {
		return fmt.Errorf("%s %w", part.Name, app.ErrNoSuperblock)
	}
	if room := uint64(part.Disk.Size()) / uint64(res.BlockSize()); sb.BlocksCount() > room {
		return fmt.Errorf("%s %w: the filesystem has %s of %d bytes, but there is room for %d only", part.Name, errMoveShort,
			advise.Count(sb.BlocksCount(), "block"), res.BlockSize(), room)
	}
	if lost := res.Unreadable(); len(lost) > 0 {
		return fmt.Errorf("%s %w (the first at byte %d)", part.Name, errMoveUnreadable, part.Start+lost[0].Start)
	}
	if damage := res.Problems(); len(damage) > 0 && !o.force {
		t.SayProblems(damage)
		return fmt.Errorf("%s %w", part.Name, errMoveDamaged)
	}
	return nil
}

// moved returns the filesystem that is moved.
func moved(res *scan.Result) image.Image { return image.Section(res.View(), 0, res.FilesystemSize()) }

// begin begins a new move.
func (o *moveOptions) begin(ctx context.Context, t *Tool, to *target.Target, done app.Done, shown *progress.Reporter) error {
	in, part, res, err := o.look(ctx, t, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := o.checkJournal(to); err != nil {
		return err
	}
	if err := o.makeRoom(to, part, res); err != nil {
		return err
	}
	plan, err := move.New(moved(res), to, part.Start, o.begins())
	if err != nil {
		return err
	}
	t.SayProblems(res.Problems())
	var journal *move.Journal
	if o.journal != "" {
		if journal, err = move.Create(o.journal, plan, to); err != nil {
			return err
		}
		defer journal.Close()
	}
	done.Scan, done.Mode = res, app.Content(in, res, false, true)
	return o.finish(ctx, t, in, to, plan, journal, done, shown)
}

// checkJournal refuses a new journal in memory if the disk is not in memory,
// unless -f is given.
func (o *moveOptions) checkJournal(to *target.Target) error {
	if o.journal == "" || o.force {
		return nil
	}
	dev, memory, err := storage.InMemory(filepath.Dir(o.journal))
	if err != nil || !memory {
		return err
	}
	beside, err := to.On(dev)
	if err == nil && !beside {
		err = fmt.Errorf("%s %w", o.journal, errMoveVolatile)
	}
	return err
}

// makeRoom refuses to write over other data, and extends the target. Data
// inside the filesystem that is moved belongs to that filesystem.
func (o *moveOptions) makeRoom(t *target.Target, part *app.Part, res *scan.Result) error {
	from, to, size := part.Start, o.begins(), moved(res).Size()
	if !o.overwrite {
		within := func(start, end int64) bool { return start == from || start > from && end <= from+size }
		if err := app.CheckTables(t, to, size, true, func(off, n int64) bool { return off < from+size && from < off+n }); err != nil {
			return err
		}
		if err := t.CheckPlace(to, size, func(h target.Holding) bool { return within(h.Start, h.End) }); err != nil {
			return err
		}
	}
	return t.Extend(to + size)
}

// finish moves, writes the record and says what was done.
func (o *moveOptions) finish(ctx context.Context, t *Tool, in *app.Input, to *target.Target, plan *move.Plan, journal *move.Journal, done app.Done, shown *progress.Reporter) error {
	out, err := o.openBeside(ctx, t.InPlace(to, false), in, "")
	if err != nil {
		return err
	}
	defer out.Record.Close()
	before := false
	if journal != nil {
		if before, err = journal.Done(plan); err != nil {
			return fmt.Errorf("%s %w", o.journal, err)
		}
	}
	if err := o.move(ctx, t, to, plan, journal, shown); err != nil {
		return err
	}
	switch {
	case before:
		t.Say("the journal %s says that this move is done: nothing was moved; the journal can be removed", o.journal)
	case journal != nil:
		journal.Shrink()
		t.Say("the move is done; the journal %s can be removed", o.journal)
	}
	done.Source, done.Offset, done.ImageBytes, done.DataBytes = in.Src.Name(), plan.From, plan.Size, plan.Used()
	if err := out.WriteRecord(done, nil); err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	shown.Finish()
	if before {
		return nil
	}
	t.Say("%s: moved from byte %d to byte %d: filesystem %s, in use %s, %v", o.source.Name, plan.From, plan.To,
		humanize.IBytes(uint64(plan.Size)), humanize.IBytes(uint64(plan.Used())), done.Took())
	if !o.quiet {
		left := "is not a filesystem any more"
		if !plan.Overlap() {
			left = "still looks like a filesystem"
		}
		t.Say("partition tables are unchanged: set the start of the partition to byte %d (%ds) before you mount anything; the old place at byte %d %s",
			plan.To, plan.To/placeUnit, plan.From, left)
	}
	return nil
}

// move runs the plan. At every time it has set the text that says in which
// state an error would leave the filesystem.
func (o *moveOptions) move(ctx context.Context, t *Tool, to *target.Target, p *move.Plan, journal *move.Journal, shown *progress.Reporter) error {
	intact := fmt.Sprintf("nothing is lost: the filesystem is still at byte %d", p.From)
	split := fmt.Sprintf("the filesystem is destroyed: a part of it is at byte %d, the rest at byte %d", p.To, p.From)
	if journal != nil {
		intact = fmt.Sprintf("nothing is lost: the same command continues the move, as the journal %s says how far it came; "+
			"if you mount or check the filesystem before, begin again with another journal", o.journal)
		split = fmt.Sprintf("nothing is lost: the same command continues the move, as the journal %s says how far it came; "+
			"until then a part of the filesystem is at byte %d, the rest at byte %d: do not mount or check it", o.journal, p.To, p.From)
	}
	t.AtStake(intact, true)
	counted := shown.Phase(app.Moving, progress.Bytes)
	warned := false
	err := p.Run(ctx, to, move.Options{Journal: journal, Force: o.force, Progress: func(done, total int64, destroying bool) {
		if counted != nil {
			counted(done, total)
		}
		if !destroying || warned {
			return
		}
		warned = true
		t.AtStake(split, true)
		if journal == nil {
			t.HoldOn("to stop now would destroy the filesystem, so the move continues; interrupt again to stop anyway")
		}
	}})
	switch {
	case err == nil:
		t.Release()
	case refusedDisk(err):
		t.Release()
		err = fmt.Errorf("%s %w", to.Name(), err)
	}
	return err
}

// refusedDisk reports whether a move was not resumed because of the contents of
// the disk.
func refusedDisk(err error) bool {
	changed := (*move.ChangedError)(nil)
	return errors.As(err, &changed) || errors.Is(err, move.ErrOther) || errors.Is(err, move.ErrStale) || errors.Is(err, move.ErrShort)
}
