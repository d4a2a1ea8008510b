// Package advise turns errors and numbers into text for people.
//
//	error ──► what happened; what to do about it
//
// An error of a package that knows what to do about it carries its own advice:
//
//	var errUsed = advise.New("is in use", "release it, or read it anyway with -f")
//
// A table holds the advice on errors of the libraries.
package advise

import (
	"errors"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"e2qcow/internal/e2i"
	"e2qcow/internal/folder"
	"e2qcow/internal/freeze"
	"e2qcow/internal/move"
	"e2qcow/internal/simg"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// New returns an error that says what happened, and carries what to do about it.
func New(what, advice string) error { return &knownError{what, advice} }

type knownError struct{ what, advice string }

func (e *knownError) Error() string  { return e.what }
func (e *knownError) Advice() string { return e.advice }

// An adviser is an error that knows what to do about it.
type adviser interface{ Advice() string }

// Explain returns err in one line, followed by what to do about err.
func Explain(err error) string {
	if text := On(err); text != "" {
		return err.Error() + "; " + text
	}
	return err.Error()
}

// On returns what to do about err, "" where nothing is known.
func On(err error) string {
	var (
		known       adviser
		unread      *scan.ReadError
		corrupt     *qcow2.CorruptError
		normal      *e2i.CorruptError
		sparse      *simg.CorruptError
		unsupported *qcow2.UnsupportedError
		spooled     *spool.Error
		changed     *move.ChangedError
	)
	switch {
	case errors.As(err, &known):
		return known.Advice()
	case errors.As(err, &unread):
		return "if there is a copy of the superblock elsewhere, name its block with -b and the block size with -B; e2qcow info --search SOURCE lists the copies"
	case errors.As(err, &corrupt) || errors.As(err, &normal) || errors.As(err, &sparse):
		return "the image is damaged or incomplete; get it again"
	case errors.As(err, &spooled):
		return "name another folder with --spool-dir or TMPDIR"
	case errors.As(err, &changed):
		return "restore the disk from a copy made before the change; -f continues anyway, and then run e2fsck -f at the new place"
	case errors.As(err, &unsupported) && unsupported.BackingFile != "":
		return "--backing opens the backing file, if it lies in the folder of the image"
	case errors.As(err, &unsupported):
		return "convert it with qemu-img convert first"
	}
	for _, a := range onLibraries {
		if slices.ContainsFunc(a.errs, func(known error) bool { return errors.Is(err, known) }) {
			return a.text
		}
	}
	return ""
}

// onLibraries says what to do about errors of the libraries. The first entry
// that fits counts.
var onLibraries = []struct {
	errs []error
	text string
}{
	{[]error{freeze.ErrFrozen}, "thaw it with fsfreeze --unfreeze, or read it as it is with -f"},
	{[]error{freeze.ErrUnsupported}, "unmount it, or read it anyway with -f: the image may then contradict itself"},
	{[]error{freeze.ErrHidden}, "unmount the filesystem that is mounted over it"},
	{[]error{freeze.ErrThawed}, "try again when no other program freezes the filesystem"},
	{[]error{freeze.ErrStalled}, "check that no program that reads the image or the messages writes to the filesystem"},
	{[]error{freeze.ErrKilled}, "try again"},
	{[]error{target.ErrSame}, "name another target"},
	{[]error{target.ErrUnknown}, "mount /proc and /sys, or name a new file"},
	{[]error{folder.ErrDevices}, "check the name of the device"},
	{[]error{folder.ErrForeign, folder.ErrLinked, folder.ErrLink}, "name another file"},
	{[]error{folder.ErrNoName}, "name a file"},
	{[]error{target.ErrMounted}, "unmount or release it first"},
	{[]error{target.ErrHoldsFilesystem}, "check that source and target are not swapped; --overwrite replaces it"},
	{[]error{target.ErrExists}, "check that source and target are not swapped; --overwrite replaces it"},
	{[]error{e2i.ErrTooLarge}, "write a qcow2 image with -Q, which has no such limit"},
	{[]error{e2i.ErrGroups}, "dump the filesystem with -Q, which has no such limit"},
	{[]error{e2i.ErrNoTables}, "write a qcow2 image with -Q"},
	{[]error{target.ErrNotJSON}, "name another file, or remove it first"},
	{[]error{target.ErrOnlyCopy}, "name another file"},
	{[]error{target.ErrDevice, target.ErrDirectory}, "name a file"},
	{[]error{move.ErrNotJournal}, "name another file for the journal"},
	{[]error{move.ErrOldJournal}, "finish the move with the version that began it, 0.1"},
	{[]error{move.ErrFragmented}, "move it without a journal"},
	{[]error{move.ErrOther, move.ErrShort}, "name the disk on which the move was begun"},
	{[]error{move.ErrStale}, "remove the journal and run the command again with -o and -O, which begins a new move"},
	{[]error{storage.ErrLocked}, "wait until the other program ends"},
	{[]error{folder.ErrKind, folder.ErrExposed}, "name a regular file that belongs to you and that only you can write to"},
	{[]error{target.ErrOffset}, "name a file or a device"},
	{[]error{simg.ErrVersion, simg.ErrTooMany}, "convert it with simg2img first"},
	{[]error{simg.ErrNotSparse}, "leave --source-format out to have the format told by the content"},
	{[]error{source.ErrCut}, "get the file again; of a qcow2 image in it, --salvage reads what is there"},
	{[]error{source.ErrBomb}, "decompress it first, or read it all the same with -f"},
	{[]error{source.ErrTerminal}, "read the image from a pipe or a file"},
	{[]error{target.ErrTerminal}, "redirect standard output to a file or a pipe"},
	{[]error{target.ErrStream}, "name a file or a block device"},
	{[]error{target.ErrTooSmall}, "name a larger target"},
	{[]error{source.ErrDirectory, source.ErrKind, source.ErrEmpty}, "name a device or a file that holds a filesystem"},
	{[]error{unix.ENOSPC, unix.EDQUOT}, "free some space, or write to another filesystem"},
	{[]error{unix.EFBIG}, "name a target on another filesystem"},
	{[]error{unix.EPIPE}, "the program that reads the pipe ended too early"},
	{[]error{io.ErrUnexpectedEOF}, "the file is damaged or incomplete; get it again"},
	{[]error{fs.ErrPermission}, "check the permissions, or run as root"},
}
