package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"e2qcow/image"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
)

// Why --freeze is refused.
var (
	errOnFrozen = errors.New("lies on the filesystem that is to be frozen")
	errSeveral  = errors.New("holds several filesystems that are mounted read-write")
)

// whileFrozen freezes the filesystem that is mounted from the source while do
// makes the image. Where none is, it says so and calls do.
func (s *session) whileFrozen(ctx context.Context, w *work, do func(context.Context) error) error {
	points, dev, err := w.toFreeze()
	if err != nil {
		return err
	}
	if len(points) == 0 {
		s.say("%s is not mounted read-write: there is nothing to freeze", w.input.src.Name())
		return do(ctx)
	}
	if err := s.checkFrozen(w, dev); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, point := range points {
		w.frozen, err = freeze.Start(ctx, point, dev, freeze.Stall, func(err error) { cancel(err) })
		if !errors.Is(err, freeze.ErrHidden) {
			break // else the filesystem may be seen elsewhere
		}
	}
	if err != nil {
		return err
	}
	// Who interrupts the work waits for the filesystem no longer.
	defer context.AfterFunc(ctx, func() { _ = w.frozen.Thaw() })()
	if err = w.input.src.DropCache(); err == nil {
		err = do(ctx)
	}
	if lost := w.frozen.Thaw(); lost != nil {
		return lost // whatever that led to
	}
	if err == nil {
		s.say("%s was frozen for %v", w.frozen.Point(), w.frozen.Took().Round(time.Millisecond))
	}
	return err
}

// toFreeze returns where the filesystem is mounted that the source holds, and
// its device; no points if it cannot change.
func (w *work) toFreeze() (points []string, dev uint64, err error) {
	uses, err := w.input.region.Uses()
	if err != nil {
		return nil, 0, err
	}
	for _, u := range uses {
		if u.Kind != storage.Mounted || !u.Writable {
			continue
		}
		if len(points) > 0 && u.Dev != dev {
			return nil, 0, fmt.Errorf("%s %w (at %s and %s)", w.input.src.Name(), errSeveral, points[0], u.Name)
		}
		points, dev = append(points, u.Name), u.Dev
	}
	return points, dev, nil
}

// checkFrozen refuses what would have the work wait for itself: anything that it
// writes, if that lies on the filesystem of dev.
func (s *session) checkFrozen(w *work, dev uint64) error {
	type place struct {
		name string
		on   func(dev uint64) (bool, error)
	}
	places := []place{{"standard error", func(dev uint64) (bool, error) { return storage.On(s.stderr, dev) }}}
	if !w.dryRun {
		places = append(places, place{w.target.Name(), w.target.On})
	} else { // -n prints
		places = append(places, place{"standard output", func(dev uint64) (bool, error) { return storage.On(os.Stdout, dev) }})
	}
	for _, r := range []record{w.record, w.scramble.names} {
		if r.to != nil {
			places = append(places, place{r.to.Name(), r.to.On})
		}
	}
	if !w.dryRun && w.target.Kind() == target.Stream && w.mode != toRaw {
		folder := w.spool.Folder()
		places = append(places, place{"the folder for temporary files, " + folder + ",", func(dev uint64) (bool, error) {
			f, err := os.Open(folder)
			if err != nil {
				return false, nil // there will be none
			}
			defer f.Close()
			return storage.On(f, dev)
		}})
	}
	for _, p := range places {
		on, err := p.on(dev)
		if err != nil {
			return err
		}
		if on {
			return fmt.Errorf("%s %w", p.name, errOnFrozen)
		}
	}
	return nil
}

// copying returns what counts the bytes that are copied.
func (w *work) copying() func(done, total int64) {
	count, frozen := w.progress.Phase("copy", progress.Bytes), w.frozen
	if frozen == nil {
		return count
	}
	return func(done, total int64) {
		frozen.Beat()
		if count != nil {
			count(done, total)
		}
	}
}

// watched returns img, whose reads tell that the work goes on while a filesystem
// is frozen.
func (w *work) watched(img image.Image) image.Image {
	if w.frozen == nil {
		return img
	}
	return watched{img, w.frozen}
}

type watched struct {
	image.Image
	frozen *freeze.Frozen
}

// ReadAt reads as io.ReaderAt does.
func (i watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := i.Image.ReadAt(p, off)
	i.frozen.Beat()
	return n, err
}
