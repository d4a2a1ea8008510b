package main

import (
	"errors"
	"fmt"

	"e2qcow/internal/storage"
	"e2qcow/internal/target"
)

// Why a source is refused without -f: it changes while it is read, or may.
var (
	errSourceMounted  = errors.New("is mounted read-write")
	errSourceUnfrozen = errors.New("is mounted read-write") // and cannot be frozen
	errSourceUsed     = errors.New("is in use")
	errMountsUnknown  = errors.New("may be mounted")
)

// checkQuiet refuses a source that may change, and one that is in use in any
// way if it is to be moved. It is said only where -f asks for it, and of normal
// images, which are made of filesystems in use, every week.
func (s *session) checkQuiet(in *input, o options) error {
	forced := o.force && (!o.move || o.dryRun)
	uses, err := in.region.Uses()
	if err != nil && forced {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %w: %w", in.src.Name(), errMountsUnknown, err)
	}
	for _, u := range uses {
		var why error
		switch {
		case o.move && !forced:
			why = target.ErrMounted
		case !u.Writable, o.freeze && u.Kind == storage.Mounted:
			continue
		case u.Kind == storage.Mounted && o.mode != install:
			why = errSourceMounted
		case u.Kind == storage.Mounted || u.Kind == storage.Elsewhere:
			why = errSourceUnfrozen
		default:
			why = errSourceUsed
		}
		if forced || u.Kind == storage.Mounted && o.mode == toNormal {
			s.say("%s %v (%v): the image may contradict itself", in.src.Name(), why, u)
			continue
		}
		return fmt.Errorf("%s %w (%v)", in.src.Name(), why, u)
	}
	return nil
}
