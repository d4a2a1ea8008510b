package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/spool"
	"e2qcow/internal/storage"
)

// Why a filesystem is not frozen.
var (
	errOnFrozen = advise.New("lies on the filesystem that is to be frozen", "name a file on another filesystem, or send the image through a pipe to another machine")
	errSeveral  = advise.New("contains several filesystems that are mounted read-write", "name the device of one of them")
)

// A Writing is an output of a command while a filesystem is frozen.
type Writing struct {
	Name string
	On   func(dev uint64) (bool, error) // reports whether the output lies on the filesystem of the device
}

// StdoutWriting is standard output.
func StdoutWriting() Writing {
	return Writing{"standard output", func(dev uint64) (bool, error) { return storage.On(os.Stdout, dev) }}
}

// SpoolWriting is the folder for temporary files.
func SpoolWriting(o spool.Options) Writing {
	folder := o.Folder()
	return Writing{"the folder for temporary files, " + folder + ",", func(dev uint64) (bool, error) {
		f, err := os.Open(folder)
		if err != nil {
			return false, nil // the folder does not exist, so there will be no temporary files
		}
		defer f.Close()
		return storage.On(f, dev)
	}}
}

// WhileFrozen freezes the filesystem that is mounted from in while do works. If
// none is mounted read-write, it says so and calls do. No output may lie on the
// frozen filesystem: do would wait for itself.
func (s *Session) WhileFrozen(ctx context.Context, in *Input, writings []Writing, do func(context.Context, *freeze.Frozen) error) error {
	points, dev, err := in.mounted()
	if err != nil {
		return err
	}
	if len(points) == 0 {
		s.Say("%s is not mounted read-write, so nothing was frozen", in.Src.Name())
		return do(ctx, nil)
	}
	if err := s.checkFrozen(writings, dev); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var frozen *freeze.Frozen
	for _, point := range points {
		frozen, err = freeze.Start(ctx, point, dev, freeze.Stall, func(err error) { cancel(err) })
		if !errors.Is(err, freeze.ErrHidden) {
			break // other errors: the filesystem may be reachable at another mount point
		}
	}
	if err != nil {
		return err
	}
	// An interruption does not wait for the filesystem.
	defer context.AfterFunc(ctx, func() { _ = frozen.Thaw() })()
	if err = in.Src.DropCache(); err == nil {
		err = do(ctx, frozen)
	}
	if lost := frozen.Thaw(); lost != nil {
		return lost // whatever that led to
	}
	if err == nil {
		s.Say("%s was frozen for %v", frozen.Point(), frozen.Took().Round(time.Millisecond))
	}
	return err
}

// mounted returns the mount points and the device of the filesystem on the
// source; no mount points if the filesystem cannot change.
func (in *Input) mounted() (points []string, dev uint64, err error) {
	uses, err := in.Region.Uses()
	if err != nil {
		return nil, 0, err
	}
	for _, u := range uses {
		if u.Kind != storage.Mounted || !u.Writable {
			continue
		}
		if len(points) > 0 && u.Dev != dev {
			return nil, 0, fmt.Errorf("%s %w (at %s and %s)", in.Src.Name(), errSeveral, points[0], u.Name)
		}
		points, dev = append(points, u.Name), u.Dev
	}
	return points, dev, nil
}

// checkFrozen refuses to write anything to the filesystem of dev.
func (s *Session) checkFrozen(writings []Writing, dev uint64) error {
	own := Writing{"standard error", func(dev uint64) (bool, error) { return storage.On(s.stderr, dev) }}
	for _, w := range append([]Writing{own}, writings...) {
		on, err := w.On(dev)
		if err != nil {
			return err
		}
		if on {
			return fmt.Errorf("%s %w", w.Name, errOnFrozen)
		}
	}
	return nil
}

// Copying returns a function that counts copied bytes. While a filesystem is
// frozen, each call is also a Beat.
func Copying(shown *progress.Reporter, frozen *freeze.Frozen) func(done, total int64) {
	count := shown.Phase(copying, progress.Bytes)
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

// Watched returns a part whose reads are also Beats of frozen.
func (p *Part) Watched(frozen *freeze.Frozen) *Part {
	if frozen == nil {
		return p
	}
	w := *p
	w.Disk = watched{p.Disk, frozen}
	return &w
}

type watched struct {
	img    image.Image
	frozen *freeze.Frozen
}

// Size returns the size of the image.
func (i watched) Size() int64 { return i.img.Size() }

// NextRun returns the next run as image.Image says.
func (i watched) NextRun(off int64) (start, end int64, err error) { return i.img.NextRun(off) }

// NextLost returns the next lost range as image.LossFinder says.
func (i watched) NextLost(off int64) (start, end int64, err error) { return image.NextLost(i.img, off) }

// ReadAt reads as io.ReaderAt does.
func (i watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := i.img.ReadAt(p, off)
	i.frozen.Beat()
	return n, err
}
