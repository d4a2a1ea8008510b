package main

import (
	"errors"
	"fmt"

	"e2qcow/internal/storage"
)

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
