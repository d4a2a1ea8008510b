package main

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
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/storage"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// advice says what to do about errors, the first that fits.
var advice = []struct {
	errs []error
	text string
}{
	{[]error{errSourceMounted}, "unmount it, or freeze it with --freeze, or read it all the same with -f: the image may then contradict itself"},
	{[]error{errOnFrozen}, "put it elsewhere, or send it through a pipe to who writes elsewhere"},
	{[]error{errSeveral}, "name the device of one of them"},
	{[]error{freeze.ErrFrozen}, "thaw it (fsfreeze --unfreeze), or read it as it is with -f"},
	{[]error{freeze.ErrUnsupported, errSourceUnfrozen}, "unmount it, or read it all the same with -f: the image may then contradict itself"},
	{[]error{freeze.ErrHidden}, "unmount what hides it"},
	{[]error{freeze.ErrThawed}, "try again when nobody else freezes it"},
	{[]error{freeze.ErrStalled}, "see that nothing that takes the image or the messages writes to it"},
	{[]error{freeze.ErrKilled}, "try again"},
	{[]error{errSourceUsed}, "release it, or read it all the same with -f: the image may then contradict itself"},
	{[]error{errMountsUnknown}, "if you know that it is not, read it with -f"},
	{[]error{target.ErrSame}, "name another target"},
	{[]error{target.ErrUnknown}, "see that /proc and /sys are mounted, or name a new file"},
	{[]error{folder.ErrDevices}, "see that its name is right"},
	{[]error{folder.ErrForeign, folder.ErrLinked, folder.ErrLink}, "name another file"},
	{[]error{folder.ErrNoName}, "name a file"},
	{[]error{target.ErrMounted}, "unmount or release it first"},
	{[]error{target.ErrHoldsFilesystem}, "see that source and target are not swapped; --overwrite writes over it"},
	{[]error{target.ErrExists}, "see that source and target are not swapped; --overwrite replaces it"},
	{[]error{errAmbiguous}, "say which it is with --source-format=raw or --source-format=qcow2"},
	{[]error{errAmbiguousNormal}, "say which it is with --source-format=raw or --source-format=e2image"},
	{[]error{e2i.ErrTooLarge}, "write a qcow2 image with -Q, which has no such bound"},
	{[]error{e2i.ErrGroups}, "dump the filesystem with -Q, which has no such bound"},
	{[]error{e2i.ErrNoTables}, "write a qcow2 image with -Q"},
	{[]error{errNoSuperblock}, "write a qcow2 image with -Q, which takes what there is"},
	{[]error{errUnknownFeature}, "a newer version may know it; -f goes on all the same, and what depends on it may be wrong"},
	{[]error{errOtherLayout}, "without -s it is dumped as it is"},
	{[]error{errBackingOutside}, "copy it there, or make one image of both with qemu-img convert"},
	{[]error{errBackingDeep}, "make one image of all with qemu-img convert"},
	{[]error{errNoMap}, "name the file that ddrescue calls its mapfile"},
	{[]error{target.ErrNotJSON}, "name another file, or remove it first"},
	{[]error{target.ErrOnlyCopy}, "name another file"},
	{[]error{target.ErrDevice, target.ErrDirectory}, "name a file"},
	{[]error{errMoveImage}, "name a device or a raw file"},
	{[]error{errMoveUnreadable}, "rescue what can be rescued with ddrescue first"},
	{[]error{errMoveDamaged}, "repair it with e2fsck first; -f moves what there is"},
	{[]error{errMoveVolatile}, "name a file on another disk; -f takes it all the same, against interruptions only"},
	{[]error{errMoveShort}, "repair it with e2fsck, or make the partition or the file longer, first"},
	{[]error{errMoveSplit}, "only --journal=FILE with the journal of that move puts it together again; without that journal it is lost"},
	{[]error{errMoveOther, move.ErrNotJournal}, "name another file for the journal"},
	{[]error{move.ErrOldJournal}, "finish the move with the version that began it, 0.1"},
	{[]error{move.ErrFragmented}, "move it without a journal"},
	{[]error{move.ErrOther, move.ErrShort}, "name the disk that was being moved on"},
	{[]error{move.ErrStale}, "remove the journal and give the command again, with -o and -O: the move begins anew"},
	{[]error{storage.ErrLocked}, "wait till it ends"},
	{[]error{folder.ErrKind, folder.ErrExposed}, "name a regular file of your own that nobody else can write to"},
	{[]error{target.ErrOffset}, "name a file or a device"},
	{[]error{source.ErrTerminal}, "send an image through a pipe"},
	{[]error{target.ErrTerminal}, "send it to a file or another program"},
	{[]error{errTargetIsImage}, "name the device first, then the image"},
	{[]error{errNoFilesystem, errOtherUUID, errOtherSize}, "see that it is the right device; -f installs the image all the same"},
	{[]error{errTargetIsFile}, "the device to install on comes first, the image behind it; -f installs it all the same"},
	{[]error{errImageLacks}, "-f installs it all the same"},
	{[]error{errSourceLacks}, "-f installs the rest, and leaves there what the device has"},
	{[]error{target.ErrStream}, "name a file or a block device"},
	{[]error{target.ErrTooSmall}, "name a larger target"},
	{[]error{source.ErrDirectory, source.ErrKind, source.ErrEmpty}, "name a device or a file that holds a filesystem"},
	{[]error{unix.ENOSPC, unix.EDQUOT}, "make room or write elsewhere"},
	{[]error{unix.EFBIG}, "name a target on another filesystem"},
	{[]error{unix.EPIPE}, "whoever read it went away before the end"},
	{[]error{io.ErrUnexpectedEOF}, "it is damaged or cut short; get it again"},
	{[]error{fs.ErrPermission}, "check its permissions, or run as root"},
}

// unfinished are errors that end the work when the target is open: before what
// to do about them comes what they leave there.
var unfinished = []error{freeze.ErrThawed, freeze.ErrStalled, freeze.ErrKilled, unix.ENOSPC, unix.EDQUOT, unix.EFBIG}

// looks says what to do about what was found in place of a filesystem.
var looks = map[string]string{
	signature.PartitionTable:   "name a partition of it with --partition",
	"a LUKS container":         "open it with cryptsetup and name the device that appears",
	"an LVM physical volume":   "name a logical volume of it",
	"a member of a RAID array": "name the array",
	"gzip data":                "decompress it first",
	"xz data":                  "decompress it first",
	"zstd data":                "decompress it first",
	"bzip2 data":               "decompress it first",
	"a zip archive":            "extract it first",
	"a tar archive":            "extract it first",
	"a VMDK image":             "convert it with qemu-img first",
	"a VHDX image":             "convert it with qemu-img first",
	"a VDI image":              "convert it with qemu-img first",
	"a VHD image":              "convert it with qemu-img first",
	"a QED image":              "convert it with qemu-img first",
	"a Parallels image":        "convert it with qemu-img first",
	"an Android sparse image":  "convert it with simg2img first",
	"a partclone image":        "restore it with partclone.restore first",
	"an EWF (E01) image":       "mount it with ewfmount first",
	signature.QCOW2:            "restore it with -r first",
	signature.Split:            "finish the move first, by -ra with its journal",
	signature.Normal:           "it is read as one without --source-format=raw",
}

// explain returns err in one line with what to do about it.
func explain(err error) string {
	if text := adviceOn(err); text != "" {
		return err.Error() + "; " + text
	}
	return err.Error()
}

// adviceOn returns what to do about err, "" where there is no saying.
func adviceOn(err error) string {
	var (
		notExt      *notExtError
		unread      *scan.ReadError
		corrupt     *qcow2.CorruptError
		normal      *e2i.CorruptError
		unsupported *qcow2.UnsupportedError
		spooled     *spool.Error
		changed     *move.ChangedError
		noImage     *imageError
	)
	switch {
	case errors.As(err, &noImage):
		return "name an image"
	case errors.As(err, &notExt):
		return notExt.choices()
	case errors.As(err, &unread):
		return "if there is a copy of the superblock elsewhere, name its block with -b and the block size with -B"
	case errors.Is(err, errContradicts):
		return "get it again; if it is the only copy, -f reads it as its tables say, and the bytes may be wrong"
	case errors.As(err, &corrupt) || errors.As(err, &normal):
		return "the image is damaged or cut short; get it again"
	case errors.As(err, &spooled):
		return "name another folder with --spool-dir or TMPDIR"
	case errors.As(err, &changed):
		return "put it back as it was, from a copy; -f goes on all the same, and e2fsck -f has to follow at the new place"
	case errors.As(err, &unsupported) && unsupported.BackingFile != "":
		return "it is opened with --backing only, and only in the folder of the image"
	case errors.As(err, &unsupported):
		return "convert it with qemu-img convert first"
	}
	for _, a := range advice {
		if slices.ContainsFunc(a.errs, func(known error) bool { return errors.Is(err, known) }) {
			return a.text
		}
	}
	return ""
}
