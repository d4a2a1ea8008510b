//go:build unix && !linux

package spool

import "os"

// createUnnamed creates a temporary file in dir without a name.
func createUnnamed(dir string) (*os.File, error) { return createRemoved(dir) }
