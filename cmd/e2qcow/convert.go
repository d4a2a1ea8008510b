package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"e2qcow/internal/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// errUnreadable says that the work is done but for metadata that could not be
// read, which the report has listed.
var errUnreadable = errors.New("some metadata could not be read")

// convert takes an image of the source, the metadata of the filesystem there
// or a whole qcow2 image, and writes it to the target.
func (s *session) convert(ctx context.Context, o options) error {
	start := time.Now()
	src, err := source.Open(o.source)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := checkQuiet(src, o); err != nil {
		return err
	}
	inner, err := openGuest(src)
	if err != nil {
		return err
	}
	whole := o.mode == toRaw && inner != nil
	if whole && o.scanFlag != "" {
		return usagef("option --%s concerns a filesystem; %s is a qcow2 image, restored as it is", o.scanFlag, src.Name())
	}

	dst, err := target.Open(ctx, o.target, target.Options{
		Source:    src.Region(),
		Format:    o.mode.format(),
		Overwrite: o.overwrite,
	})
	if err != nil {
		return err
	}
	s.guard(dst.Close)
	defer dst.Close()

	w := work{options: o, target: dst, progress: progress.New(s.stderr, o.progress)}
	defer w.progress.Finish()
	var img image.Image
	if whole {
		img = inner
	} else {
		d := disk(src)
		if inner != nil {
			d = inner
		}
		w.scan, err = metadata(ctx, d, src.Name(), o, w.progress)
		if err := cmp.Or(inner.damage(), err); err != nil {
			return err
		}
		img = w.scan.View()
	}
	if err := w.write(ctx, img); err != nil {
		return err
	}
	if err := inner.damage(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := dst.Commit(); err != nil {
		return err
	}
	w.progress.Finish()
	return s.report(w, time.Since(start))
}

// format returns what a mode writes.
func (m mode) format() target.Format {
	if m == toQCOW2 {
		return target.QCOW2
	}
	return target.Raw
}

// Why a source is refused without -f: it changes while it is read, or may.
var (
	errSourceMounted = errors.New("is mounted read-write")
	errMountsUnknown = errors.New("may be mounted")
)

// checkQuiet refuses a source that may change, unless told not to.
func checkQuiet(src *source.Source, o options) error {
	if o.force {
		return nil
	}
	point, err := src.Region().WritableMount()
	if err != nil {
		return fmt.Errorf("%s %w: %w", src.Name(), errMountsUnknown, err)
	}
	if point != "" {
		return fmt.Errorf("%s %w (at %s)", src.Name(), errSourceMounted, point)
	}
	return nil
}

// A work is an image on its way to a target.
type work struct {
	options
	target   *target.Target
	progress *progress.Reporter
	scan     *scan.Result // nil where the image is not that of a scan

	imageBytes int64 // of the image that was written
	dataBytes  int64 // of these, not holes
}

// write writes img to the target as the mode and the kind of target ask.
func (w *work) write(ctx context.Context, img image.Image) error {
	if w.mode == toQCOW2 {
		return w.writeQCOW2(ctx, img)
	}
	return w.writeRaw(ctx, img)
}
