package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/move"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
)

// isMove tells whether there is one operand, to be moved in place as e2image
// has it.
func isMove(c *cli.Context, m mode) bool {
	return m == toRaw && c.Args().Len() == 1 && (c.IsSet(flagOffset) || c.IsSet(flagTargetOffset) || c.IsSet(flagPartition) || c.IsSet(flagJournal))
}

// parseMove parses where a move is recorded.
func (o *options) parseMove(c *cli.Context) error {
	o.compare = false // every block goes to another place
	o.moveJournal = c.String(flagJournal)
	switch {
	case !c.Bool(flagAllData):
		return usagef("a move takes -a too: what is not moved is lost")
	case source.IsStdin(o.source):
		return usagef("a move is of a device or a file, not of standard input")
	case c.IsSet(flagJournal) && o.moveJournal == "":
		return usagef("option --%s needs a name", flagJournal)
	case o.moveJournal == "whole" || o.moveJournal == "live" || o.moveJournal == "none":
		return usagef("option --%s of a move names a file; if it is to be called %q, write ./%s", flagJournal, o.moveJournal, o.moveJournal)
	}
	for _, name := range []string{flagOnlyAllocated, flagFreeze, flagBadMap} {
		if c.IsSet(name) {
			return usagef("option --%s does not go with a move", name)
		}
	}
	return nil
}

// move moves a filesystem on the disk that it lies on, or goes on with that. The
// disk is locked before anything is read, and then the journal: of two runs the
// second one ends.
func (s *session) move(ctx context.Context, w *work) error {
	if source.IsPipe(w.source) {
		return fmt.Errorf("%s %w", w.source, target.ErrStream)
	}
	if !w.dryRun {
		var err error
		if w.target, err = target.OpenInPlace(w.options.target, target.Options{}); err != nil {
			return err
		}
		defer w.target.Close()
		if err := w.target.LockBehind(); err != nil {
			return err
		}
	}
	journal, plan, err := w.openJournal()
	if err != nil {
		return err
	}
	if plan != nil {
		defer journal.Close()
		return s.resumeMove(ctx, w, plan, journal)
	}
	if err := s.planMove(ctx, w); err != nil {
		return err
	}
	defer w.input.Close()
	if w.dryRun {
		return s.finishDryMove(ctx, w)
	}
	return s.beginMove(ctx, w)
}

// beginMove moves what w.scan has found.
func (s *session) beginMove(ctx context.Context, w *work) error {
	if err := w.checkJournal(); err != nil {
		return err
	}
	if err := w.prepareMove(); err != nil {
		return err
	}
	plan, err := move.New(w.moved(), w.target, w.partStart, w.moveTo())
	if err != nil {
		return err
	}
	s.sayProblems(w.scan.Problems())
	var journal *move.Journal
	if w.moveJournal != "" {
		if journal, err = move.Create(w.moveJournal, plan, w.target); err != nil {
			return err
		}
		defer journal.Close()
	}
	return s.finishMove(ctx, w, plan, journal)
}

// resumeMove goes on with a move that was begun: on the disk there is nothing
// to look at.
func (s *session) resumeMove(ctx context.Context, w *work, plan *move.Plan, journal *move.Journal) error {
	src, err := source.Open(ctx, w.source)
	if err != nil {
		return err
	}
	w.input = &input{src: src, region: src.Region()}
	defer w.input.Close()
	return s.finishMove(ctx, w, plan, journal)
}

// openJournal opens the journal of a move that was begun; there is none where
// the plan is nil.
func (w *work) openJournal() (*move.Journal, *move.Plan, error) {
	if w.moveJournal == "" {
		return nil, nil, nil
	}
	if _, err := os.Lstat(w.moveJournal); errors.Is(err, fs.ErrNotExist) {
		if w.offset == nil && w.to == nil && w.partition == 0 {
			return nil, nil, usagef("%s is not there, so say with -o and -O from where to where to move", w.moveJournal)
		}
		return nil, nil, nil
	}
	j, p, err := move.Open(w.moveJournal)
	if err != nil {
		return nil, nil, err
	}
	if w.offset != nil && *w.offset != p.From || w.to != nil && *w.to != p.To {
		j.Close()
		return nil, nil, fmt.Errorf("%s %w: from byte %d to byte %d", w.moveJournal, errMoveOther, p.From, p.To)
	}
	if w.dryRun {
		j.Close()
		return nil, nil, usagef("%s is of a move that was begun, and to go on with it writes: -n cannot", w.moveJournal)
	}
	return j, p, nil
}

// moveTo returns where the filesystem goes.
func (w *work) moveTo() int64 {
	if w.to == nil {
		return 0
	}
	return *w.to
}

// moved returns the filesystem that is moved.
func (w *work) moved() image.Image { return image.Section(w.scan.View(), 0, w.scan.FilesystemSize()) }

// planMove finds out what of the disk is in use.
func (s *session) planMove(ctx context.Context, w *work) (err error) {
	if w.input, err = s.openInput(ctx, w.options, w.progress); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.input.Close()
		}
	}()
	if w.input.guest != nil || w.input.normal != nil {
		return fmt.Errorf("%s %w", w.source, errMoveImage)
	}
	if err := s.checkQuiet(w.input, w.options); err != nil {
		return err
	}
	if err := w.findPart(); err != nil {
		return err
	}
	if err := w.checkMarks(); err != nil {
		return err
	}
	if w.partStart == w.moveTo() {
		return usagef("the filesystem is at byte %d already", w.partStart)
	}
	w.options.scan.ZeroedTables = true
	if w.scan, err = metadata(ctx, w.disk, w.name, w.input.src.SectorSize(), w.options, w.progress); err != nil {
		return err
	}
	sb := w.scan.Super()
	if sb == nil {
		return fmt.Errorf("%s %w", w.name, errNoSuperblock)
	}
	if room := uint64(w.disk.Size()) / uint64(w.scan.BlockSize()); sb.BlocksCount() > room {
		return fmt.Errorf("%s %w: the filesystem has %s of %d bytes, and there is room for %d", w.name, errMoveShort,
			count(sb.BlocksCount(), "block"), w.scan.BlockSize(), room)
	}
	if lost := w.scan.Unreadable(); len(lost) > 0 {
		return fmt.Errorf("%s %w (the first at byte %d)", w.name, errMoveUnreadable, w.partStart+lost[0].Start)
	}
	if damage := w.scan.Problems(); len(damage) > 0 && !w.force {
		s.sayProblems(damage)
		return fmt.Errorf("%s %w", w.name, errMoveDamaged)
	}
	return nil
}

// runMove moves, and says at every time what it would leave behind.
func (s *session) runMove(ctx context.Context, w *work, p *move.Plan, journal *move.Journal) error {
	intact := fmt.Sprintf("nothing is lost: the filesystem is at byte %d as before", p.From)
	split := fmt.Sprintf("the filesystem is destroyed: a part of it is at byte %d, the rest at byte %d", p.To, p.From)
	if journal != nil {
		intact = fmt.Sprintf("nothing is lost: the same command goes on with the move, as %s says how far it is; "+
			"if the filesystem is mounted or checked before, begin again with another journal", w.moveJournal)
		split = fmt.Sprintf("nothing is lost: the same command goes on with the move, as %s says how far it is; "+
			"till then a part of the filesystem is at byte %d, the rest at byte %d: let nothing mount or check it", w.moveJournal, p.To, p.From)
	}
	s.atStake(intact, true)
	counted := w.progress.Phase("move", progress.Bytes)
	warned := false
	err := p.Run(ctx, w.target, move.Options{Journal: journal, Force: w.force, Progress: func(done, total int64, destroying bool) {
		if counted != nil {
			counted(done, total)
		}
		if !destroying || warned {
			return
		}
		warned = true
		s.atStake(split, true)
		if journal == nil {
			s.holdOn("stopping now destroys the filesystem: the move goes on; interrupt again to stop all the same")
		}
	}})
	switch {
	case err == nil:
		s.release()
	case refusedDisk(err):
		s.release()
		err = fmt.Errorf("%s %w", w.target.Name(), err)
	}
	return err
}

// finishMove moves, writes the record and says what was done.
func (s *session) finishMove(ctx context.Context, w *work, plan *move.Plan, journal *move.Journal) error {
	if err := s.openRecord(ctx, w); err != nil {
		return err
	}
	defer w.record.Close()
	before := false
	if journal != nil {
		var err error
		if before, err = journal.Done(plan); err != nil {
			return fmt.Errorf("%s %w", w.moveJournal, err)
		}
	}
	if err := s.runMove(ctx, w, plan, journal); err != nil {
		return err
	}
	switch {
	case before:
		s.say("%s says that this move is done: nothing is moved again; it can be removed", w.moveJournal)
	case journal != nil:
		journal.Shrink()
		s.say("%s says that this move is done; it can be removed", w.moveJournal)
	}
	w.partStart, w.imageBytes, w.dataBytes = plan.From, plan.Size, plan.Used()
	if err := s.commit(w); err != nil {
		return err
	}
	w.progress.Finish()
	if before {
		return nil
	}
	s.say("%s: moved from byte %d to byte %d: filesystem %s, in use %s, %v", w.source, plan.From, plan.To,
		humanize.IBytes(uint64(plan.Size)), humanize.IBytes(uint64(plan.Used())), time.Since(w.start).Round(time.Millisecond))
	if !w.quiet {
		left := "is no filesystem any more"
		if !plan.Overlap() {
			left = "still looks like a filesystem"
		}
		s.say("partition tables are as they were: let the partition begin at byte %d (%ds) before anything is mounted; what is left at byte %d %s",
			plan.To, plan.To/placeUnit, plan.From, left)
	}
	return nil
}

// finishDryMove lists what would be moved.
func (s *session) finishDryMove(ctx context.Context, w *work) error {
	if err := w.list(ctx, w.moved()); err != nil {
		return err
	}
	if err := s.openRecord(ctx, w); err != nil {
		return err
	}
	defer w.record.Close()
	if err := s.commit(w); err != nil {
		return err
	}
	w.progress.Finish()
	return s.report(*w, time.Since(w.start))
}
