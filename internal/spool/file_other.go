//go:build !unix

package spool

import "os"

// createUnnamed creates a temporary file in dir. A system that cannot remove the
// name of an open file keeps the name until closeUnnamed.
func createUnnamed(dir string) (*os.File, error) { return os.CreateTemp(dir, "e2qcow-spool-*") }

// closeUnnamed closes and removes a file of createUnnamed.
func closeUnnamed(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// nextData returns the bounds of the first data of f at or after off, below
// size: without a way to find holes, all is data.
func nextData(_ *os.File, off, size int64) (start, end int64, err error) { return off, size, nil }
