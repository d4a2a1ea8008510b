package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"e2qcow/ext"
	"e2qcow/internal/move"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// Why a filesystem is not moved.
var (
	errMoveImage      = errors.New("is an image: only what lies on a disk can be moved")
	errMoveUnreadable = errors.New("cannot be read whole: what is lost would be lost for good")
	errMoveDamaged    = errors.New("is damaged: what that hides would be lost for good")
	errMoveVolatile   = errors.New("is in memory, and the disk is not: a power cut takes it, and the filesystem with it")
	errMoveOther      = errors.New("is of another move")
	errMoveShort      = errors.New("ends before its filesystem does: what is missing would be lost for good")
	errMoveSplit      = errors.New("holds a part of a filesystem that is being moved")
)

// checkJournal refuses a new journal that does not outlive the disk, unless told
// to take it.
func (w *work) checkJournal() error {
	if w.moveJournal == "" || w.force {
		return nil
	}
	dev, memory, err := storage.InMemory(filepath.Dir(w.moveJournal))
	if err != nil || !memory {
		return err
	}
	beside, err := w.target.On(dev)
	if err == nil && !beside {
		err = fmt.Errorf("%s %w", w.moveJournal, errMoveVolatile)
	}
	return err
}

// checkMarks refuses to move what is being moved already: the journal of that is
// lost, or was not named.
func (w *work) checkMarks() error {
	for _, at := range []int64{w.partStart, w.moveTo()} {
		if m, ok := move.FindMark(w.input.disk(), at); ok {
			return fmt.Errorf("%s at byte %d %w, from byte %d to byte %d", w.source, at, errMoveSplit, m.From, m.To)
		}
	}
	return nil
}

// checkSplit refuses a clone of a filesystem that is in two pieces, and says so of
// a dump, which is of one of them.
func (s *session) checkSplit(w *work) error {
	const start, end = ext.SuperblockOffset, ext.SuperblockOffset + ext.SuperblockSize
	bad := func(r scan.Range) bool { return r.Start < end && start < r.End }
	if w.input.asItIs(w.options) || slices.ContainsFunc(w.options.scan.Bad, bad) {
		return nil
	}
	m, ok := move.FindMark(w.disk, 0)
	if !ok {
		return nil
	}
	err := fmt.Errorf("%s %w, from byte %d to byte %d", w.name, errMoveSplit, m.From, m.To)
	if w.options.scan.Files && !w.force {
		return err
	}
	s.say("%v: the image is of that part", err)
	return nil
}

// prepareMove refuses to write over something else, and makes room. What lies
// within the filesystem that is moved belongs to it.
func (w *work) prepareMove() error {
	from, to, size := w.partStart, w.moveTo(), w.moved().Size()
	within := func(start, end int64) bool { return start == from || start > from && end <= from+size }
	if err := w.checkPartitions(to, size, true, func(off, n int64) bool { return off < from+size && from < off+n }); err != nil {
		return err
	}
	if !w.overwrite {
		if err := w.target.CheckPlace(to, size, func(h target.Holding) bool { return within(h.Start, h.End) }); err != nil {
			return err
		}
	}
	return w.target.Extend(to + size)
}

// refusedDisk tells whether a move was not resumed for what the disk holds.
func refusedDisk(err error) bool {
	changed := (*move.ChangedError)(nil)
	return errors.As(err, &changed) || errors.Is(err, move.ErrOther) || errors.Is(err, move.ErrStale) || errors.Is(err, move.ErrShort)
}
