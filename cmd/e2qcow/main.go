// Command e2qcow saves the metadata of an ext2, ext3 or ext4 filesystem,
// without the contents of files, as a qcow2 image, and restores such an image
// to a raw file or device.
//
//	main    signals, exit codes          argv, flags   the command line
//	app     what is asked for            report        what is said about it
//	advice  what to do about an error    words         numbers and text for people
//	convert source ─► image ─► target    record        the same for programs
//	input   guest, backing: the sources  dump, restore the images
//	place   where on source and target   outputs       what is opened to be written
//	quiet   sources that may change      frozen        while the source is frozen
//	install, undo: an image put back     move          a filesystem moved in place
//	dryrun  what a run would do          room          whether the image fits
//	info, check: what looks at images    completion: for shells; help
//	e2image what differs under that name
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"e2qcow/internal/freeze"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailed     = 1 // nothing usable is left, but what was there before
	exitUsage      = 2
	exitUnreadable = 3 // done, but metadata could not be read, or see doneError
)

// Of check, exit codes are those of qemu-img check: 2 is a damaged image, so
// wrong usage is 1, and 3 is lost space.

func main() {
	if freeze.IsChild(os.Args) {
		os.Exit(freeze.Child(os.Args))
	}
	// A reader that goes away is an error of writing, also on stdout.
	signal.Ignore(syscall.SIGPIPE)
	s := newSession(os.Stderr)
	s.calledAs(os.Args[0])
	ctx, stop := s.interruptible()
	err := s.run(ctx, os.Args)
	stop()
	s.exit(err)
}

// exit says what is wrong, if anything, and ends the process. A process that a
// signal interrupted ends by the same signal, as a shell expects: the shell
// then ends the loop that the process was started from.
func (s *session) exit(err error) {
	code := s.exitCode(err)
	var interrupted *interruptedError
	if errors.As(err, &interrupted) {
		signal.Reset(interrupted.signal)
		_ = syscall.Kill(os.Getpid(), interrupted.signal)
		time.Sleep(time.Second) // the signal may reach another thread first
	}
	os.Exit(code)
}

// exitCode says what is wrong, if anything, and returns what to exit with.
func (s *session) exitCode(err error) int {
	var (
		usage  *usageError
		status exitStatus
		done   *doneError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &done):
		s.say("%v", done)
		return exitUnreadable
	case errors.Is(err, errUnreadable):
		return exitUnreadable
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage) && s.isE2image():
		s.sayUsage(usage)
		return exitFailed
	case errors.As(err, &usage):
		s.say("%v", usage)
		call := name
		if usage.command != "" {
			call += " " + usage.command
		}
		_, _ = fmt.Fprintf(s.stderr, "Try %q for help.\n", call+" --help")
		if usage.command == "check" {
			return exitFailed
		}
		return exitUsage
	}
	switch left := s.left(err); {
	case left != "":
		s.say("%v; %s", err, left)
	case s.isE2image():
		s.say("%s", explainE2image(err))
	default:
		s.say("%s", explain(err))
	}
	return exitFailed
}
