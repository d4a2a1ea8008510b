package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"e2qcow/internal/progress"
	"e2qcow/internal/target"
)

// An Output is the target of a command, and the files that appear beside the
// target.
type Output struct {
	Target *target.Target // nil where a dry run would write to standard output
	Record Beside         // of --json
	Names  Beside         // of --scramble-map
	Lost   Beside         // of --lost-files

	s      *Session
	dryRun bool
}

// Output becomes the owner of an open target. The target is closed if the
// process must end, and errors then say in which state the target is. again is
// the command that writes the whole image if a part of it stays on the target.
func (s *Session) Output(t *target.Target, dryRun bool, again string) *Output {
	o := &Output{Target: t, s: s, dryRun: dryRun}
	if t == nil || dryRun {
		return o
	}
	s.Guard(t.Close)
	switch {
	case t.Replaces():
		s.AtStake(t.Name()+" is unchanged", false)
	case !t.KeepsPart():
		s.AtStake("nothing usable is left", false)
	default:
		s.StakeOn(func() (string, bool) {
			if !t.Touched() {
				return t.Name() + " is unchanged", false
			}
			return fmt.Sprintf("%s now contains a part of the image, and its old contents are lost: run %s to write all of it", t.Name(), again), true
		})
	}
	return o
}

// InPlace is Output for a target that is written in place. The command itself
// says in which state an error leaves such a target.
func (s *Session) InPlace(t *target.Target, dryRun bool) *Output {
	return &Output{Target: t, s: s, dryRun: dryRun}
}

// Close drops the files that were not committed.
func (o *Output) Close() {
	if o.Target != nil {
		o.Target.Close()
	}
	for _, b := range o.beside() {
		b.Close()
	}
}

// beside returns the files beside the target, in the order in which they appear.
func (o *Output) beside() []Beside { return []Beside{o.Record, o.Names, o.Lost} }

// A Beside is a file that belongs to a target and appears when it is complete,
// or a stream. The zero Beside stands for no file.
type Beside struct{ to *target.Target }

// OpenRecord opens the file for the JSON record; no file if name is "".
func (o *Output) OpenRecord(ctx context.Context, name string, in *Input) (err error) {
	if name == "" {
		return nil
	}
	if o.Record, err = o.openBeside(ctx, "json", name, in, target.Options{Format: target.JSON}); err == nil {
		o.s.Guard(o.Record.Close)
	}
	return err
}

// OpenNames opens the file for old and new names; no file if name is "".
func (o *Output) OpenNames(ctx context.Context, name string, in *Input, overwrite bool) (err error) {
	o.Names, err = o.openList(ctx, "scramble-map", name, in, overwrite)
	return err
}

// OpenLost opens the file for the list of files that are hit; no file if name is
// "".
func (o *Output) OpenLost(ctx context.Context, name string, in *Input, overwrite bool) (err error) {
	o.Lost, err = o.openList(ctx, "lost-files", name, in, overwrite)
	return err
}

// openList opens a file of names that an option names; no file if name is "".
func (o *Output) openList(ctx context.Context, option, name string, in *Input, overwrite bool) (Beside, error) {
	if name == "" {
		return Beside{}, nil
	}
	b, err := o.openBeside(ctx, option, name, in, target.Options{Format: target.Names, Overwrite: overwrite})
	if err != nil {
		return b, err
	}
	for _, other := range o.beside() {
		if other.Is(b.to) {
			b.Close()
			return Beside{}, Usagef("option --%s: %s is also the file of another option", option, b.to.Name())
		}
	}
	o.s.Guard(b.Close)
	return b, nil
}

// openBeside opens the file that an option names. It is neither the source nor
// the target.
func (o *Output) openBeside(ctx context.Context, option, name string, in *Input, opt target.Options) (Beside, error) {
	opt.Source = in.Region
	t, err := target.Open(ctx, name, opt)
	if err != nil {
		return Beside{}, err
	}
	if o.Target != nil && t.Is(o.Target) {
		t.Close()
		return Beside{}, Usagef("option --%s: %s is also the target", option, t.Name())
	}
	return Beside{t}, nil
}

// Is reports whether t is the file.
func (b Beside) Is(t *target.Target) bool { return b.to != nil && t.Is(b.to) }

// settle writes the file to the disk.
func (b Beside) settle() error {
	if b.to == nil {
		return nil
	}
	return b.to.Settle()
}

// Commit makes the file appear.
func (b Beside) Commit() error {
	if b.to == nil {
		return nil
	}
	return b.to.Commit()
}

// Close drops a file that was not committed.
func (b Beside) Close() {
	if b.to != nil {
		b.to.Close()
	}
}

// Writings returns the outputs while a filesystem is frozen.
func (o *Output) Writings() []Writing {
	var list []Writing
	if o.dryRun {
		list = append(list, StdoutWriting()) // standard output gets the list of blocks
	} else {
		list = append(list, Writing{o.Target.Name(), o.Target.On})
	}
	for _, b := range o.beside() {
		if b.to != nil {
			list = append(list, Writing{b.to.Name(), b.to.On})
		}
	}
	return list
}

// A DoneError says that the target is complete, but something beside it failed.
type DoneError struct {
	name string // of the target
	err  error
}

func (e *DoneError) Error() string { return fmt.Sprintf("%s is complete, but %v", e.name, e.err) }

func (e *DoneError) Unwrap() error { return e.err }

// Sync writes the target to the disk, and shows how far that is.
func (o *Output) Sync(shown *progress.Reporter) error {
	if o.Target == nil || o.dryRun || shown == nil {
		return nil // Commit does it
	}
	return o.Target.SettleBy(shown.Phase(syncing, progress.Bytes))
}

// Commit makes the target and its files appear. It first writes all of them to
// the disk, so that none appears if there is no room for one. When the target
// is complete, an error is a *DoneError.
func (o *Output) Commit() error {
	if err := o.Record.settle(); err != nil {
		return err
	}
	if o.Target == nil || o.dryRun {
		return cmp.Or(o.Record.Commit(), o.Names.Commit(), o.Lost.Commit())
	}
	if err := o.Target.Settle(); err != nil {
		return err
	}
	err := o.Target.Commit()
	if unsynced := (*target.SyncError)(nil); err != nil && !errors.As(err, &unsynced) {
		return err
	}
	o.s.Release()
	for _, beside := range o.beside() {
		if e := beside.Commit(); e != nil {
			err = cmp.Or(err, fmt.Errorf("a file beside it failed: %s: %w", beside.to.Name(), e))
		}
	}
	if err != nil {
		return &DoneError{o.Target.Name(), err}
	}
	return nil
}

// CommitRecord makes the record appear beside a complete target.
func (o *Output) CommitRecord(d Done) error {
	err := o.WriteRecord(d, nil)
	if err == nil {
		err = o.Record.Commit()
	}
	if err != nil {
		o.s.Release()
		return &DoneError{o.Target.Name(), fmt.Errorf("a file beside it failed: %w", err)}
	}
	return nil
}
