package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"e2qcow/image"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// errUnreadable says that the work is done but for metadata that could not be
// read, which the report has listed.
var errUnreadable = errors.New("some metadata could not be read")

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
	block              int // bytes that are counted as one; 0 for blockSize

	imageBytes int64 // of the image that was written
	dataBytes  int64 // of these, not holes
	written    int64 // blocks that were written, or would be
	same       int64 // blocks that had not to be, as they were there
}

// convert does what o asks for.
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
	if err := w.input.checkOptions(o); err != nil {
		return err
	}
	s.sayForeignMap(&w)
	if o.mode == install {
		return s.install(ctx, &w)
	}
	return s.dump(ctx, &w)
}

// dump takes an image of the source, the metadata of the filesystem there or
// the disk as it is, and writes it to the target.
func (s *session) dump(ctx context.Context, w *work) error {
	if err := w.findPart(); err != nil {
		return err
	}
	if err := s.checkSplit(w); err != nil {
		return err
	}
	if err := s.openTargets(ctx, w); err != nil {
		return err
	}
	defer w.close()
	var err error
	if w.freeze {
		err = s.whileFrozen(ctx, w, w.make)
	} else {
		err = w.make(ctx)
	}
	if errors.Is(err, scan.ErrNotExt) {
		s.sayNoSuperblock(w.options)
	}
	if err != nil {
		return err
	}
	done := (*doneError)(nil)
	if err = s.commit(w); err != nil && !errors.As(err, &done) {
		return err
	}
	w.input.drain()
	w.progress.Finish()
	return cmp.Or(err, s.report(*w, time.Since(w.start)))
}

// make writes what is asked for to the target: the disk as it is, or the metadata
// of the filesystem there.
func (w *work) make(ctx context.Context) error {
	img, guest := w.watched(w.disk), w.input.guest
	if !w.input.asItIs(w.options) {
		var err error
		w.scramble.watch(&w.options.scan)
		w.scan, err = metadata(ctx, img, w.name, w.input.src.SectorSize(), w.options, w.progress)
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

// write writes img to the target as the mode and the kind of target ask.
func (w *work) write(ctx context.Context, img image.Image) error {
	switch {
	case w.dryRun:
		return w.rehearse(ctx, img)
	case w.mode == toQCOW2:
		return w.writeQCOW2(ctx, img)
	case w.mode == toNormal:
		return w.writeNormal(ctx, img)
	}
	return w.writeRaw(ctx, img)
}
