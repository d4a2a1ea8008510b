//go:build 386 || arm

package fuse

import "fmt"

// A Mount is a disk that is served. There is none here: the library for FUSE does
// not build where an int has 32 bits.
type Mount struct{}

// New returns ErrUnavailable.
func New(string, Disk, Options) (*Mount, error) {
	return nil, fmt.Errorf("%w by a program of 32 bits", ErrUnavailable)
}

// Disk returns nothing.
func (*Mount) Disk() string { return "" }

// Ended returns a channel that is never closed.
func (*Mount) Ended() <-chan struct{} { return nil }

// Unmount does nothing.
func (*Mount) Unmount() error { return nil }

// Detach does nothing.
func (*Mount) Detach() error { return nil }

// Users returns nobody.
func (*Mount) Users() []string { return nil }
