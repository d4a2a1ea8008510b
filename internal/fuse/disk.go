// Package fuse serves a disk as a file: a mounted folder holds one file, "disk",
// as long as the disk.
//
//	FOLDER/disk  ──kernel──►  /dev/fuse  ──►  node  ──►  Disk
//
// Nobody changes the disk but through the file, so the kernel may keep what it
// has read for as long as it likes. It may not hold back what is written: a write
// that there is no room for must fail as that write. So there is no write-back
// cache.
package fuse

import (
	"errors"
	"io"
)

// DiskName is the name of the file in the folder.
const DiskName = "disk"

// A Disk is what is served. Its methods are safe for concurrent use.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Size returns the length in bytes, which does not change.
	Size() int64
	// Clear makes bytes zero, which lie within the disk.
	Clear(off, n int64) error
	// NextData returns the next run that may hold bytes other than zero, io.EOF
	// where there is none.
	NextData(off int64) (start, end int64, err error)
	// Room returns how many bytes can still be written, about, and how many
	// could be at first.
	Room() (free, all int64)
}

// Options say how a disk is served.
type Options struct {
	ReadOnly bool
	Source   string // what the disk is of, for the table of mounts
	// Trouble, if not nil, is called with each error of the disk that is not one
	// of the caller.
	Trouble func(error)
}

// ErrUnavailable says that this system cannot serve a disk as a file, or not for
// this user.
var ErrUnavailable = errors.New("FUSE cannot be used")

// ErrBusy says that the disk is open, mounted or the working folder of a program.
var ErrBusy = errors.New("the disk is in use")
