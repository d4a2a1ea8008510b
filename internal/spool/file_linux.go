package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// createUnnamed creates a temporary file in dir that never has a name, so that a
// process that is killed leaves nothing behind. Where the filesystem has no such
// files, the name is removed at once.
func createUnnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE|unix.O_EXCL, 0o600)
	if err != nil {
		return createRemoved(dir)
	}
	return f, nil
}
