package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func init() {
	// Else package cli answers --help itself, also with HideHelp.
	cli.HelpFlag = nil
}

// run does what args, with the name of the program first, ask for.
func (s *session) run(ctx context.Context, args []string) error {
	app := s.app()
	rest, err := normalise(args[min(1, len(args)):], app.Flags)
	if err != nil {
		return err
	}
	err = app.RunContext(ctx, append([]string{name}, rest...))
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // whatever that led to
	}
	return err
}

// app returns the command line. Parsing is all that package cli does: help and
// version are flags like others, messages and exit codes are the session's.
func (s *session) app() *cli.App {
	return &cli.App{
		Name:            name,
		Flags:           flags(),
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		Writer:          io.Discard,
		ErrWriter:       io.Discard,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) },
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool(flagHelp):
				_, err := fmt.Fprintf(s.stdout, help, flagHelpText(c.App.Flags))
				return err
			case c.Bool(flagVersion):
				_, err := fmt.Fprintf(s.stdout, "%s %s\n", name, version())
				return err
			}
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			return s.convert(c.Context, o)
		},
	}
}

const help = `Usage: e2qcow -Q [OPTION...] SOURCE IMAGE
       e2qcow -r [OPTION...] SOURCE RAW
Save the metadata of an ext2, ext3 or ext4 filesystem as an image, without the
contents of files, and restore it. SOURCE, a device, a file or a qcow2 image,
is only read. "-" as a target is standard output.

%s
Examples:
  e2qcow -Q /dev/sdb1 meta.qcow2     save the metadata of a filesystem
  e2qcow -r meta.qcow2 raw.img       restore it, for e2fsck -fn raw.img
`

// version returns the version that the program was built as.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
