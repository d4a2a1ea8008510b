package qcow2

import (
	"errors"
	"io"
	"sync/atomic"

	"e2qcow/image"
)

// A damage holds the first contradiction that reading an image came across.
type damage struct{ first atomic.Pointer[error] }

var _ image.DamageReporter = (*Image)(nil)

// note remembers err if err says that the file contradicts itself or is cut
// short, and returns err.
func (d *damage) note(err error) error {
	if corrupt := (*CorruptError)(nil); errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
		d.first.CompareAndSwap(nil, &err)
	}
	return err
}

// Damage returns the first *CorruptError, or io.ErrUnexpectedEOF of a file that
// is cut short, that a method of the image has returned; nil if there was none.
// scan.Scan fails with that error: such an image is no disk with bad sectors.
func (m *Image) Damage() error {
	if err := m.damage.first.Load(); err != nil {
		return *err
	}
	return nil
}
