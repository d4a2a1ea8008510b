package qcow2

import (
	"errors"
	"fmt"
)

// ErrNotQcow2 is returned for a file that does not begin with the magic.
var ErrNotQcow2 = errors.New("not a qcow2 image")

// A CorruptError says that an image contradicts the format or itself.
type CorruptError struct {
	What   string // the structure: "header", "L1 table", "L2 entry", ...
	Offset int64  // where that is in the file
	Guest  int64  // the byte of the virtual disk it stands for, or -1
	Err    error  // what is wrong with it
}

func (e *CorruptError) Error() string {
	if e.Guest >= 0 {
		return fmt.Sprintf("corrupt qcow2 %s at offset %#x, for guest offset %#x: %v", e.What, e.Offset, e.Guest, e.Err)
	}
	return fmt.Sprintf("corrupt qcow2 %s at offset %#x: %v", e.What, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// corrupt returns a CorruptError of a structure that no guest offset belongs to.
func corrupt(what string, offset uint64, format string, args ...any) error {
	return &CorruptError{What: what, Offset: int64(offset), Guest: -1, Err: fmt.Errorf(format, args...)}
}

// An UnsupportedError says that an image seems sound, but uses a feature that
// this package cannot or must not read.
type UnsupportedError struct {
	Feature     string
	BackingFile string  // where Feature is that there is one: its name, not to be trusted
	Header      *Header // nil where it could not be read
}

func (e *UnsupportedError) Error() string { return "unsupported qcow2 image: " + e.Feature }
