package app

import (
	"context"
	"fmt"

	"e2qcow/internal/advise"
	"e2qcow/internal/progress"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
)

// Why a source is refused without -f: the source changes while it is read, or may.
var (
	errSourceMounted = advise.New("is mounted read-write",
		"unmount it, freeze it with --freeze, or read it anyway with -f: the image may then contradict itself")
	errSourceUnfrozen = advise.New("is mounted read-write", // and cannot be frozen
		"unmount it, or read it anyway with -f: the image may then contradict itself")
	errSourceUsed = advise.New("is in use",
		"release it, or read it anyway with -f: the image may then contradict itself")
	errMountsUnknown = advise.New("may be mounted", "if you know that it is not mounted, read it with -f")
)

// A Quiet says which uses of a source are allowed while the source is read.
type Quiet struct {
	Forced  bool // every use is allowed, with a message
	Freeze  bool // the filesystem will be frozen: it may be mounted
	Mounted bool // it may be mounted, with a message: scripts make normal images of filesystems in use
	Unused  bool // no use is allowed, not even one that only reads
	Image   bool // the source is an image, so freezing does not help
}

// CheckQuiet refuses a source that may change while it is read.
func (s *Session) CheckQuiet(in *Input, q Quiet) error {
	uses, err := in.Region.Uses()
	if err != nil && q.Forced {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w: %w", in.Src.Name(), errMountsUnknown, err)
	}
	for _, u := range uses {
		var why error
		switch {
		case q.Unused && !q.Forced:
			why = target.ErrMounted
		case !u.Writable, q.Freeze && u.Kind == storage.Mounted:
			continue
		case u.Kind == storage.Mounted && !q.Image:
			why = errSourceMounted
		case u.Kind == storage.Mounted || u.Kind == storage.Elsewhere:
			why = errSourceUnfrozen
		default:
			why = errSourceUsed
		}
		if q.Forced || u.Kind == storage.Mounted && q.Mounted {
			s.Say("%s %v (%v): the image may contradict itself", in.Src.Name(), why, u)
			continue
		}
		return fmt.Errorf("%s %w (%v)", in.Src.Name(), why, u)
	}
	return nil
}

// OpenQuiet opens a source, and refuses one that may change while it is read.
func (s *Session) OpenQuiet(ctx context.Context, o Source, q Quiet, shown *progress.Reporter) (*Input, error) {
	in, err := s.Open(ctx, o, shown)
	if err != nil {
		return nil, err
	}
	if err := s.CheckQuiet(in, q); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}
