package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"e2qcow/internal/e2i"
	"e2qcow/internal/freeze"
	"e2qcow/internal/move"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// report says what was done. It returns errUnreadable where that is not all.
func (s *session) report(w work, took time.Duration) error {
	var parts []string
	if w.scan != nil {
		if sb := w.scan.Super(); sb != nil {
			parts = append(parts, "filesystem "+size(sb.BlocksCount(), uint64(sb.BlockSize())))
		}
		parts = append(parts, "metadata "+humanize.IBytes(uint64(w.scan.MetadataBytes())))
		if w.options.scan.Files {
			parts = append(parts, "contents "+humanize.IBytes(uint64(w.scan.UsedBytes()-w.scan.MetadataBytes())))
		}
	}
	image := "image " + humanize.IBytes(uint64(w.imageBytes))
	if w.dataBytes < w.imageBytes {
		image += fmt.Sprintf(" with %s of data", humanize.IBytes(uint64(w.dataBytes)))
	}
	if w.compare && !w.dryRun {
		image += fmt.Sprintf(" (%s written, %s there already)", count(w.written, "block"), comma(w.same))
	}
	parts = append(parts, image, took.Round(time.Millisecond).String())
	var err error
	if w.scan != nil {
		s.sayProblems(w.scan.Problems())
		err = s.sayUnreadable(w.scan.Unreadable())
	}
	if i, ok := w.input.guest.info(); ok && i.Unreadable > 0 {
		s.say("%s lacks what could not be read when it was made, %s: zero in this image", w.input.src.Name(), count(i.Unreadable, "block"))
		if w.scan != nil {
			err = errUnreadable // what a dump is to have
		}
	}
	if w.compare {
		// As e2image says it, and where.
		_, _ = fmt.Fprintf(s.stdout, "%d blocks already contained the data to be copied\n", w.same)
	}
	switch {
	case w.quiet:
		return err
	case w.dryRun:
		s.say("%s to %s: %s would be written: %s", w.name, w.options.target, count(w.written, "block"), strings.Join(parts, ", "))
		return err
	}
	s.say("%s to %s: %s", w.name, w.target.Name(), strings.Join(parts, ", "))
	switch {
	case w.scramble.view != nil:
		s.say("%s", w.scramble.summary())
	case w.mode == toNormal:
		s.say("the image holds what is in inodes: owners, times, attributes, short symlink targets and, with inline_data, names and contents of small files")
	case w.scan != nil && !w.options.scan.Files:
		s.say("the image holds the names of files, their attributes, and contents that are in inodes, in the journal, or by damage taken for structure; -s leaves them out")
	}
	return err
}

// sayProblems names the damage found, a line for each kind.
func (s *session) sayProblems(problems []scan.Problem) {
	for _, p := range problems {
		if p.Count > 1 {
			s.say("damage: %s (the first of %s)", problem(p), comma(p.Count))
		} else {
			s.say("damage: %s", problem(p))
		}
	}
}

// problem returns damage in words. What is wrong often names the kind of damage
// itself.
func problem(p scan.Problem) string {
	kind, text := p.Kind.String(), p.String()
	if rest, ok := strings.CutPrefix(text, kind+": "); ok && strings.HasPrefix(rest, kind) {
		return rest
	}
	return text
}

// maxRanges is how many ranges a person is told of.
const maxRanges = 8

// sayUnreadable lists what could not be read and is zero in the image.
func (s *session) sayUnreadable(ranges []scan.Range) error {
	if len(ranges) == 0 {
		return nil
	}
	var (
		total int64
		list  []string
	)
	for i, r := range ranges {
		total += r.End - r.Start
		if i < maxRanges {
			list = append(list, fmt.Sprintf("%d-%d", r.Start, r.End-1))
		}
	}
	if more := len(ranges) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	s.say("%s of metadata could not be read and are zero in the image: bytes %s", humanize.IBytes(uint64(total)), strings.Join(list, ", "))
	return errUnreadable
}

// advice says what to do about errors, the first that fits.
var advice = []struct {
	err  error
	text string
}{
	{errSourceMounted, "unmount it, or freeze it with --freeze, or read it all the same with -f: the image may then contradict itself"},
	{errOnFrozen, "put it elsewhere, or send it through a pipe to who writes elsewhere"},
	{errSeveral, "name the device of one of them"},
	{freeze.ErrFrozen, "thaw it (fsfreeze --unfreeze), or read it as it is with -f"},
	{freeze.ErrUnsupported, "unmount it, or read it all the same with -f: the image may then contradict itself"},
	{freeze.ErrHidden, "unmount what hides it"},
	{freeze.ErrThawed, "nothing usable is left; try again when nobody else freezes it"},
	{freeze.ErrStalled, "nothing usable is left; see that nothing that takes the image or the messages writes to it"},
	{freeze.ErrKilled, "nothing usable is left; try again"},
	{errSourceUnfrozen, "unmount it, or read it all the same with -f: the image may then contradict itself"},
	{errSourceUsed, "release it, or read it all the same with -f: the image may then contradict itself"},
	{errMountsUnknown, "if you know that it is not, read it with -f"},
	{target.ErrSame, "name another target"},
	{target.ErrMounted, "unmount or release it first"},
	{target.ErrHoldsFilesystem, "see that source and target are not swapped; --overwrite writes over it"},
	{target.ErrExists, "see that source and target are not swapped; --overwrite replaces it"},
	{target.ErrOnlyCopy, "name another file"},
	{errAmbiguous, "say which it is with --source-format=raw or --source-format=qcow2"},
	{errAmbiguousNormal, "say which it is with --source-format=raw or --source-format=e2image"},
	{e2i.ErrTooLarge, "write a qcow2 image with -Q, which has no such bound"},
	{e2i.ErrNoTables, "write a qcow2 image with -Q"},
	{errNoSuperblock, "write a qcow2 image with -Q, which takes what there is"},
	{errBackingOutside, "copy it there, or make one image of both with qemu-img convert"},
	{errBackingDeep, "make one image of all with qemu-img convert"},
	{target.ErrNotJSON, "name another file, or remove it first"},
	{target.ErrDevice, "name a file"},
	{errMoveImage, "name a device or a raw file"},
	{errMoveUnreadable, "rescue what can be rescued with ddrescue first"},
	{errMoveOther, "name another file for the journal"},
	{move.ErrOther, "name the disk that was being moved on"},
	{move.ErrNotJournal, "name another file for the journal"},
	{target.ErrOffset, "name a file or a device"},
	{source.ErrTerminal, "send an image through a pipe"},
	{target.ErrTerminal, "send it to a file or another program"},
	{target.ErrClosed, "redirect it to a file or a program, or name the target"},
	{errTargetIsImage, "name the device first, then the image"},
	{errNoFilesystem, "see that it is the right device; -f installs the image all the same"},
	{errOtherUUID, "see that it is the right device; -f installs the image all the same"},
	{errTargetIsFile, "the device to install on comes first, the image behind it; -f installs it all the same"},
	{errOtherSize, "see that it is the right device; -f installs the image all the same"},
	{errImageLacks, "-f installs it all the same"},
	{errSourceLacks, "-f installs the rest, and leaves there what the device has"},
	{target.ErrStream, "name a file or a block device"},
	{target.ErrTooSmall, "name a larger target"},
	{target.ErrDirectory, "name a file"},
	{source.ErrDirectory, "name a device or a file that holds a filesystem"},
	{source.ErrKind, "name a device or a file that holds a filesystem"},
	{source.ErrEmpty, "name a device or a file that holds a filesystem"},
	{unix.ENOSPC, "nothing usable is left there; make room or name another target"},
	{unix.EDQUOT, "nothing usable is left there; make room or name another target"},
	{unix.EFBIG, "nothing usable is left there; name a target on another filesystem"},
	{unix.EPIPE, "whoever read it went away before the end"},
	{io.ErrUnexpectedEOF, "it is damaged or cut short; get it again"},
	{fs.ErrPermission, "check its permissions, or run as root"},
}

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
	signature.QCOW2:            "restore it with -r first",
	signature.Normal:           "it is read as one without --source-format=raw",
}

// explain returns err in one line with what to do about it.
func explain(err error) string {
	var (
		notExt      *notExtError
		unread      *scan.ReadError
		corrupt     *qcow2.CorruptError
		normal      *e2i.CorruptError
		unsupported *qcow2.UnsupportedError
		interrupted *interruptedError
		spooled     *spool.Error
	)
	text := ""
	switch {
	case errors.As(err, &interrupted):
		return interrupted.Error() + "; nothing usable is left"
	case errors.As(err, &notExt):
		text = cmp.Or(notExt.partitions, looks[notExt.found.Name])
	case errors.As(err, &unread):
		text = "if there is a copy of the superblock elsewhere, name its block with -b and the block size with -B"
	case errors.As(err, &corrupt) || errors.As(err, &normal):
		text = "the image is damaged or cut short; get it again"
	case errors.As(err, &spooled):
		text = "name another folder with --spool-dir or TMPDIR"
	case errors.As(err, &unsupported) && unsupported.BackingFile != "":
		text = "it is opened with --backing only, and only in the folder of the image"
	case errors.As(err, &unsupported):
		text = "convert it with qemu-img convert first"
	default:
		for _, a := range advice {
			if errors.Is(err, a.err) {
				text = a.text
				break
			}
		}
	}
	if text == "" {
		return err.Error()
	}
	return err.Error() + "; " + text
}
