package main

import (
	"cmp"
	"context"
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
	if w.target != nil {
		s.guard(w.target.Close)
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

// openTarget opens the target; there is none where nothing is to be written.
func (w *work) openTarget(ctx context.Context) (err error) {
	opt := target.Options{Source: w.input.region, Format: w.mode.format(), Overwrite: w.overwrite}
	switch {
	case w.dryRun:
	case w.to != nil:
		w.target, err = target.OpenPart(w.options.target, *w.to, opt, w.sameFilesystem())
	case w.compare:
		w.target, err = target.OpenPart(w.options.target, 0, opt, w.sameFilesystem())
	default:
		w.target, err = target.Open(ctx, w.options.target, opt)
	}
	return err
}

// close gives up what was opened to be written and not committed.
func (w *work) close() {
	if w.target != nil {
		w.target.Close()
	}
	w.record.Close()
	w.scramble.names.Close()
}

// commit has the target and the record appear. Both are on the disk before, so
// that a lack of room for one leaves neither.
func (w *work) commit() error {
	if err := w.writeRecord(); err != nil {
		return err
	}
	if err := w.record.Settle(); err != nil {
		return err
	}
	if w.target == nil {
		return cmp.Or(w.record.Commit(), w.scramble.names.Commit())
	}
	if err := w.target.Settle(); err != nil {
		return err
	}
	if err := w.target.Commit(); err != nil {
		return err
	}
	if err := cmp.Or(w.record.Commit(), w.scramble.names.Commit()); err != nil {
		return fmt.Errorf("%s is complete, but not its record: %w", w.target.Name(), err)
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
