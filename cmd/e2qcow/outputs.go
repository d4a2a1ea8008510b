package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"e2qcow/internal/target"
)

// openTargets opens the target, and where the record and the names go.
func (s *session) openTargets(ctx context.Context, w *work) error {
	if err := s.openEach(ctx, w); err != nil {
		w.close()
		return err
	}
	return nil
}

func (s *session) openEach(ctx context.Context, w *work) error {
	if err := w.openTarget(ctx); err != nil {
		return err
	}
	if w.target != nil && !w.dryRun {
		s.guard(w.target.Close)
		s.stakeTarget(w)
	}
	if err := s.openRecord(ctx, w); err != nil {
		return err
	}
	if err := w.scramble.openNames(ctx, w); err != nil {
		return err
	}
	s.guard(w.scramble.names.Close)
	return nil
}

// openTarget opens the target. A dry run opens it to see what a run would: there
// is none where standard output is to be written, which has the list.
func (w *work) openTarget(ctx context.Context) (err error) {
	opt := target.Options{Source: w.input.region, Format: w.mode.format(), Overwrite: w.overwrite, DryRun: w.dryRun}
	switch {
	case w.dryRun && target.IsStdout(w.options.target) && w.to == nil && !w.compare:
	case w.to != nil:
		w.target, err = target.OpenPart(w.options.target, *w.to, opt, w.sameFilesystem())
	case w.compare:
		w.target, err = target.OpenPart(w.options.target, 0, opt, w.sameFilesystem())
	default:
		w.target, err = target.Open(ctx, w.options.target, opt)
	}
	return err
}

// stakeTarget has an error say what it leaves of the target: what was there, or
// a part of the image where that does not appear whole or not at all.
func (s *session) stakeTarget(w *work) {
	t, again := w.target, "the same command"
	switch {
	case t.Replaces():
		s.atStake(t.Name()+" is as it was", false)
		return
	case !t.KeepsPart():
		s.atStake("nothing usable is left", false)
		return
	}
	if t.Kind() == target.Device && w.mode == toRaw && w.to == nil && !w.compare && !w.overwrite {
		again += " with --" + flagOverwrite // as there is something by then
	}
	s.stakeOn(func() (string, bool) {
		if !t.Touched() {
			return t.Name() + " is as it was", false
		}
		return fmt.Sprintf("%s holds a part of the image, over what was there: %s writes all of it", t.Name(), again), true
	})
}

// close gives up what was opened to be written and not committed.
func (w *work) close() {
	if w.target != nil {
		w.target.Close()
	}
	w.record.Close()
	w.scramble.names.Close()
}

// A doneError says of a target that is complete what was not done beside it. What
// could be done was: the exit code is not that of a target that is of no use.
type doneError struct {
	name string // of the target
	err  error
}

func (e *doneError) Error() string { return fmt.Sprintf("%s is complete, but %v", e.name, e.err) }

func (e *doneError) Unwrap() error { return e.err }

// commit has the target and the record appear. Both are on the disk before, so
// that a lack of room for one leaves neither. Once the target is complete, an
// error is a *doneError.
func (s *session) commit(w *work) error {
	if err := w.writeRecord(); err != nil {
		return err
	}
	if err := w.record.Settle(); err != nil {
		return err
	}
	if w.target == nil || w.dryRun {
		return cmp.Or(w.record.Commit(), w.scramble.names.Commit())
	}
	if err := w.target.Settle(); err != nil {
		return err
	}
	err := w.target.Commit()
	if unsynced := (*target.SyncError)(nil); err != nil && !errors.As(err, &unsynced) {
		return err
	}
	s.release()
	for _, beside := range []record{w.record, w.scramble.names} {
		if e := beside.Commit(); e != nil {
			err = cmp.Or(err, fmt.Errorf("not what goes with it: %s: %w", beside.to.Name(), e))
		}
	}
	if err != nil {
		return &doneError{w.target.Name(), err}
	}
	return nil
}

// format returns what a mode writes.
func (m mode) format() target.Format {
	switch m {
	case toQCOW2:
		return target.QCOW2
	case toNormal:
		return target.Normal
	}
	return target.Raw
}
