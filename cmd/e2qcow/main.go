// Command e2qcow saves the metadata of an ext2, ext3 or ext4 filesystem,
// without the contents of files, as a qcow2 image, and restores such an image
// to a raw file or device.
//
//	e2qcow -Q /dev/sdb1 meta.qcow2
//	e2qcow -r meta.qcow2 raw.img
//
// The command line is in internal/cli, the way of a command in docs/ARCHITECTURE.md.
package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"e2qcow/internal/app"
	"e2qcow/internal/cli"
	"e2qcow/internal/freeze"
)

func main() {
	if freeze.IsChild(os.Args) {
		os.Exit(freeze.Child(os.Args))
	}
	// A reader that goes away is an error of writing, also on stdout.
	signal.Ignore(syscall.SIGPIPE)
	tool := cli.New(os.Args[0], os.Stderr)
	exit := func(err error) { end(err, tool.Status(err)) }
	ctx, stop := tool.Interruptible(exit)
	err := tool.Run(ctx, os.Args)
	stop()
	exit(err)
}

// end ends the process. A process that a signal interrupted, or whose command a
// signal ended, ends by the same signal, as a shell expects: the shell then ends the loop that the process was
// started from.
func end(err error, code int) {
	var (
		interrupted *app.InterruptedError
		died        *app.DiedError
		by          syscall.Signal
	)
	switch {
	case errors.As(err, &interrupted):
		by = interrupted.Signal
	case errors.As(err, &died):
		by = died.Signal
	}
	if by != 0 {
		signal.Reset(by)
		_ = syscall.Kill(os.Getpid(), by)
		time.Sleep(time.Second) // the signal may reach another thread first
	}
	os.Exit(code)
}
