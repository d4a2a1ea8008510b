package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"e2qcow/internal/freeze"
	"e2qcow/internal/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// errUnreadable says that the work is done but for metadata that could not be
// read, which the report has listed.
var errUnreadable = errors.New("some metadata could not be read")

// convert takes an image of the source, the metadata of the filesystem there
// or a whole qcow2 image, and writes it to the target.
func (s *session) convert(ctx context.Context, o options) error {
	w := work{options: o, stdout: s.stdout, start: time.Now(), progress: progress.New(s.stderr, o.progress)}
	defer w.progress.Finish()
	if o.threads > 0 {
		// There are more workers than threads: some wait for a disk.
		runtime.GOMAXPROCS(min(o.threads, runtime.GOMAXPROCS(0)))
	}
	var err error
	if w.options.scan.Bad, err = readBadMap(o.badMap); err != nil {
		return err
	}
	if o.move {
		return s.move(ctx, &w)
	}
	if w.input, err = s.openInput(ctx, o, w.progress); err != nil {
		s.sayNoSuperblock(o)
		return err
	}
	defer w.input.Close()
	if err := s.checkQuiet(w.input, o); err != nil {
		return err
	}
	switch guest := w.input.guest; {
	case o.whole && guest == nil:
		return usagef("option --%s concerns a qcow2 image; %s is none", flagWhole, w.input.src.Name())
	case o.backing && guest == nil:
		return usagef("option --%s concerns a qcow2 image; %s is none", flagBacking, w.input.src.Name())
	case w.input.asItIs(o) && o.scanFlag != "":
		what := signature.QCOW2
		if w.input.normal != nil {
			what = signature.Normal
		}
		return usagef("option --%s concerns a filesystem; %s is %s, taken as it is", o.scanFlag, w.input.src.Name(), what)
	case w.input.normal != nil && o.scramble.on():
		return usagef("option --%s concerns a filesystem; %s is %s, which lacks what names are found by", flagScramble, w.input.src.Name(), signature.Normal)
	case o.badMap != "" && guest != nil:
		return usagef("option --%s is of the disk that was rescued; %s is a qcow2 image, whose offsets are others", flagBadMap, w.input.src.Name())
	}
	s.sayForeignMap(&w)
	if o.mode == install {
		return s.install(ctx, &w)
	}
	if err := w.findPart(); err != nil {
		return err
	}
	if err := s.openTargets(ctx, &w); err != nil {
		return err
	}
	defer w.close()
	defer w.record.Close()
	defer w.scramble.names.Close()
	if o.freeze {
		err = s.whileFrozen(ctx, &w, w.make)
	} else {
		err = w.make(ctx)
	}
	if errors.Is(err, scan.ErrNotExt) {
		s.sayNoSuperblock(o)
	}
	if err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	w.input.drain()
	w.progress.Finish()
	return s.report(w, time.Since(w.start))
}

// make writes what is asked for to the target: the disk as it is, or the metadata
// of the filesystem there.
func (w *work) make(ctx context.Context) error {
	img, guest := w.watched(w.disk), w.input.guest
	if !w.input.asItIs(w.options) {
		var err error
		w.scramble.watch(&w.options.scan)
		w.scan, err = metadata(ctx, img, w.name, w.options, w.progress)
		if err := cmp.Or(guest.damage(), err); err != nil {
			return err
		}
		if img, err = w.scramble.image(ctx, w.scan, w.name); err != nil {
			return err
		}
		if w.cut() {
			// As large as the filesystem: it fits where that does.
			img = image.Section(img, 0, w.scan.FilesystemSize())
		}
	}
	if err := w.write(ctx, img); err != nil {
		return err
	}
	if err := w.scramble.writeNames(ctx); err != nil {
		return err
	}
	if err := guest.damage(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// openTargets opens the target and where the record goes.
func (s *session) openTargets(ctx context.Context, w *work) error {
	opt := target.Options{Source: w.input.region, Format: w.mode.format(), Overwrite: w.overwrite}
	var err error
	switch {
	case w.dryRun:
	case w.to != nil:
		w.target, err = target.OpenPart(w.options.target, *w.to, opt, w.sameFilesystem())
	case w.compare:
		w.target, err = target.OpenPart(w.options.target, 0, opt, w.sameFilesystem())
	default:
		w.target, err = target.Open(ctx, w.options.target, opt)
	}
	if err != nil {
		return err
	}
	s.guard(w.close)
	if w.json != "" {
		if w.record, err = openRecord(ctx, w); err != nil {
			w.close()
			return err
		}
		s.guard(w.record.Close)
	}
	if err = w.scramble.openNames(ctx, w); err != nil {
		w.record.Close()
		w.close()
		return err
	}
	s.guard(w.scramble.names.Close)
	return nil
}

// close gives up a target that was not committed.
func (w *work) close() {
	if w.target != nil {
		w.target.Close()
	}
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

// Why a source is refused without -f: it changes while it is read, or may.
var (
	errSourceMounted   = errors.New("is mounted read-write")
	errSourceElsewhere = errors.New("is mounted read-write")
	errSourceUsed      = errors.New("is in use")
	errMountsUnknown   = errors.New("may be mounted")
)

// checkQuiet refuses a source that may change, unless told not to. Normal images
// are made of filesystems in use, every week: that is said only.
func (s *session) checkQuiet(in *input, o options) error {
	if o.force {
		return nil
	}
	uses, err := in.region.Uses()
	if err != nil {
		return fmt.Errorf("%s %w: %w", in.src.Name(), errMountsUnknown, err)
	}
	for _, u := range uses {
		switch {
		case !u.Writable, o.freeze && u.Kind == storage.Mounted:
		case u.Kind == storage.Mounted && o.mode == toNormal:
			s.say("%s %v (%v): the image may contradict itself", in.src.Name(), errSourceMounted, u)
		case u.Kind == storage.Elsewhere:
			return fmt.Errorf("%s %w (%v)", in.src.Name(), errSourceElsewhere, u)
		case u.Kind == storage.Mounted:
			return fmt.Errorf("%s %w (%v)", in.src.Name(), errSourceMounted, u)
		default:
			return fmt.Errorf("%s %w (%v)", in.src.Name(), errSourceUsed, u)
		}
	}
	return nil
}

// A work is an image on its way to a target.
type work struct {
	options
	stdout   io.Writer
	start    time.Time
	input    *input
	target   *target.Target
	record   record // of what is done
	progress *progress.Reporter
	scan     *scan.Result // nil where the image is not that of a scan

	disk               image.Image // the source, or the part of it that is meant
	name               string      // of that
	partStart, partEnd int64       // in bytes of the source; the end is 0 where it is not known
	frozen             *freeze.Frozen

	imageBytes int64 // of the image that was written
	dataBytes  int64 // of these, not holes
	written    int64 // blocks that were written, or would be
	same       int64 // blocks that had not to be, as they were there
}

// write writes img to the target as the mode and the kind of target ask.
func (w *work) write(ctx context.Context, img image.Image) error {
	switch {
	case w.dryRun:
		return w.list(ctx, img)
	case w.mode == toQCOW2:
		return w.writeQCOW2(ctx, img)
	case w.mode == toNormal:
		return w.writeNormal(ctx, img)
	}
	return w.writeRaw(ctx, img)
}
