// Package cli is the command line of e2qcow. Each command has a file with its
// options, their checks, and the work of the command, in that order.
//
//	-Q        dump.go      a qcow2 image of the metadata
//	-r        restore.go   a raw image of the metadata, or of the disk in an image
//	-ra       clone.go     the filesystem with the contents of files
//	-ra       move.go      … with one operand: on the disk that it lies on
//	(none)    normal.go    a normal image, as e2image writes it
//	-I        install.go   the metadata in an image back on a device; undo.go
//	diff      diff.go      what differs between two images
//	mount     mount.go     the disk in an image as a file; disk.go
//	try       try.go       a command on a disk that is thrown away; disk.go
//	domain    domain.go    what ddrescue is to read of a dying disk
//	report    report.go    a picture of a filesystem and its damage
//	reduce    reduce.go    a small image on which a command says the same
//	info, check, completion, help, version
//
// The shared options of several commands are in common.go, scramble.go and
// raw.go. The parser is in argv.go, flags.go and number.go. e2image.go contains
// the differences under that name. main calls the package:
//
//	t := cli.New(os.Args[0], os.Stderr)
//	err := t.Run(ctx, os.Args)
//	os.Exit(t.Status(err))
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/raw"
)

// Exit codes. Those of diff are the codes of diff(1). Those of check are the codes of qemu-img check: there 2 is a
// damaged image, so wrong usage is 1, and 3 is lost space.
const (
	exitOK         = 0
	exitFailed     = 1 // nothing usable is left, except an older target
	exitUsage      = 2
	exitUnreadable = 3 // done, but metadata could not be read, or see app.DoneError
)

// signalBase is the number that a shell adds to the number of a signal.
const signalBase = 128

func init() {
	// Otherwise package cli answers --help itself, even with HideHelp.
	cli.HelpFlag = nil
}

// A Tool is one run of the command line.
type Tool struct {
	*app.Session
	e2image bool // the tool takes the place of e2image
	failed  int  // exit code if the command fails
}

// New returns the tool as called by the name called. Messages go to stderr.
func New(called string, stderr *os.File) *Tool {
	if filepath.Base(called) == e2image {
		return &Tool{app.NewSession(e2image, stderr), true, exitFailed}
	}
	return &Tool{app.NewSession(app.Name, stderr), false, exitFailed}
}

// A command is one way to call the tool.
type command struct {
	name  string // the first argument; "" if that is an option or operand
	flags []cli.Flag
	help  string // text before the list of flags
	run   func(*Tool, *cli.Context) error

	examples string // text behind the list of flags

	failed int // exit code if the command fails; 0 for exitFailed
}

// commands returns all commands, the one without a name first.
func commands() []command {
	return []command{
		{flags: flags(), help: help, examples: examples, run: (*Tool).runMode},
		{name: "info", flags: infoFlags(), help: infoHelp, run: (*Tool).info},
		{name: "check", flags: inspectFlags(), help: checkHelp, run: (*Tool).check},
		{name: "diff", flags: diffFlags(), help: diffHelp, run: (*Tool).diff, failed: exitTrouble},
		{name: "mount", flags: mountFlags(), help: mountHelp, examples: mountExamples, run: (*Tool).mount},
		{name: "try", flags: tryFlags(), help: tryHelp, examples: tryExamples, run: (*Tool).try},
		{name: "domain", flags: domainFlags(), help: domainHelp, examples: domainExamples, run: (*Tool).domain},
		{name: "report", flags: reportFlags(), help: reportHelp, examples: reportExamples, run: (*Tool).report},
		{name: "reduce", flags: reduceFlags(), help: reduceHelp, examples: reduceExamples, run: (*Tool).reduce},
		{name: "completion", flags: helpFlags(), help: completionHelp, run: (*Tool).completion},
		{name: "help", flags: helpFlags(), help: helpHelp, run: (*Tool).printHelp},
		{name: "version", flags: helpFlags(), help: versionHelp, run: (*Tool).printVersion},
	}
}

// runMode runs the mode of -Q, -r, -I, or of none of them.
func (t *Tool) runMode(c *cli.Context) error {
	m, err := parseMode(c)
	if err != nil {
		return err
	}
	if err := checkFlags(c, m); err != nil {
		return err
	}
	var o interface {
		run(context.Context, *Tool) error
	}
	switch {
	case m == toQCOW2:
		o, err = parseDump(c, t.e2image)
	case m == toNormal:
		o, err = parseNormal(c, t.e2image)
	case m == install:
		o, err = parseInstall(c, t.e2image)
	case isMove(c):
		o, err = parseMove(c, t.e2image)
	case c.Bool(flagAllData):
		o, err = parseClone(c, t.e2image)
	default:
		o, err = parseRestore(c, t.e2image)
	}
	if err != nil {
		return err
	}
	if threads := c.String(flagThreads); threads != "" {
		// There are more workers than threads, because some workers wait for
		// the disk.
		n, err := number(c, flagThreads, 1, maxThreads)
		if err != nil {
			return err
		}
		runtime.GOMAXPROCS(min(int(n), runtime.GOMAXPROCS(0)))
	}
	return o.run(c.Context, t)
}

// Run runs the command in args, which begin with the name of the program. The
// name of a command is a command as the first argument only; elsewhere it is an
// operand.
func (t *Tool) Run(ctx context.Context, args []string) error {
	args = args[min(1, len(args)):]
	t.sayBanner()
	list := commands()
	cmd := list[0]
	if t.e2image {
		list = list[:1]
	}
	for _, c := range list[1:] {
		if len(args) > 0 && args[0] == c.name {
			cmd, args = c, args[1:]
			break
		}
	}
	t.failed = cmp.Or(cmd.failed, exitFailed)
	rest, hint, err := normalise(args, cmd.flags)
	if err == nil {
		err = t.parser(cmd).RunContext(ctx, append([]string{app.Name}, rest...))
	}
	var usage *app.UsageError
	if errors.As(err, &usage) {
		if hint != nil {
			hint(usage)
		}
		usage.Command = cmd.name
	}
	var part *raw.PartialError
	if err != nil && ctx.Err() != nil && !errors.As(err, &part) {
		return context.Cause(ctx) // other errors follow from the interruption
	}
	return err
}

// parser returns the command line. Package cli only parses: help and version
// are ordinary flags, and the tool itself prints messages and returns exit
// codes.
func (t *Tool) parser(cmd command) *cli.App {
	return &cli.App{
		Name:            app.Name,
		Flags:           cmd.flags,
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,

		DisableSliceFlagSeparator: true, // a comma is part of the value
		Writer:                    io.Discard,
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return app.Usagef("%v", err) },
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool(flagHelp) && t.e2image:
				_, err := fmt.Fprint(t.Stdout, e2imageUsage)
				return err
			case c.Bool(flagHelp):
				return t.printHelpOf(cmd)
			case c.Bool(flagVersion):
				_, err := fmt.Fprintln(t.Stdout, app.Tool())
				return err
			}
			return cmd.run(t, c)
		},
	}
}

// An exitStatus ends the tool with that status and no further message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Status prints the message for err, if any, and returns the exit code.
func (t *Tool) Status(err error) int {
	var (
		usage  *app.UsageError
		status exitStatus
		done   *app.DoneError
		died   *app.DiedError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &done):
		t.Say("%v", done)
		return exitUnreadable
	case errors.Is(err, app.ErrUnreadable):
		return exitUnreadable
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &died):
		return signalBase + int(died.Signal)
	case errors.As(err, &usage) && t.e2image:
		t.sayUsage(usage)
		return exitFailed
	case errors.As(err, &usage):
		t.Say("%v", usage)
		call := app.Name
		if usage.Command != "" {
			call += " " + usage.Command
		}
		_, _ = fmt.Fprintf(t.Stderr(), "Try %q for help.\n", call+" --help")
		if usage.Command == "check" {
			return exitFailed
		}
		return exitUsage
	}
	switch left := t.Left(err); {
	case left != "":
		t.Say("%v; %s", err, left)
	case t.e2image:
		t.Say("%s", explainE2image(err))
	default:
		t.Say("%s", advise.Explain(err))
	}
	return t.failed
}
