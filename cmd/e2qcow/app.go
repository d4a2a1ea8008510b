package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/raw"
	"e2qcow/internal/version"
)

func init() {
	// Else package cli answers --help itself, also with HideHelp.
	cli.HelpFlag = nil
}

// A command is one way to call the tool.
type command struct {
	name  string // the first argument; "" where that is an option or operand
	flags []cli.Flag
	help  string // the flags are listed behind it
	run   func(*session, *cli.Context) error

	examples string // behind the flags
}

// commands returns the ways to call the tool, the usual one first.
func commands() []command {
	return []command{
		{flags: flags(), help: help, examples: examples, run: func(s *session, c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			if s.isE2image() {
				o.asE2image()
			}
			return s.convert(c.Context, o)
		}},
		{name: "info", flags: inspectFlags(), help: infoHelp, run: (*session).info},
		{name: "check", flags: inspectFlags(), help: checkHelp, run: (*session).check},
		{name: "completion", flags: helpFlags(), help: completionHelp, run: (*session).completion},
		{name: "help", flags: helpFlags(), help: helpHelp, run: (*session).printHelp},
		{name: "version", flags: helpFlags(), help: versionHelp, run: (*session).printVersion},
	}
}

// run does what args, with the name of the program first, ask for. A command is
// known by its name as the first argument only: elsewhere that is an operand.
func (s *session) run(ctx context.Context, args []string) error {
	args = args[min(1, len(args)):]
	s.sayBanner()
	list := commands()
	cmd := list[0]
	if s.isE2image() {
		list = list[:1]
	}
	for _, c := range list[1:] {
		if len(args) > 0 && args[0] == c.name {
			cmd, args = c, args[1:]
			break
		}
	}
	rest, hint, err := normalise(args, cmd.flags)
	if err == nil {
		err = s.app(cmd).RunContext(ctx, append([]string{name}, rest...))
	}
	var usage *usageError
	if errors.As(err, &usage) {
		if hint != nil {
			hint(usage)
		}
		usage.command = cmd.name
	}
	var part *raw.PartialError
	if err != nil && ctx.Err() != nil && !errors.As(err, &part) {
		return context.Cause(ctx) // whatever that led to
	}
	return err
}

// app returns the command line. Parsing is all that package cli does: help and
// version are flags like others, messages and exit codes are the session's.
func (s *session) app(cmd command) *cli.App {
	return &cli.App{
		Name:            name,
		Flags:           cmd.flags,
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		Writer:          io.Discard,
		ErrWriter:       io.Discard,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return usagef("%v", err) },
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool(flagHelp) && s.isE2image():
				_, err := fmt.Fprint(s.stdout, e2imageUsage)
				return err
			case c.Bool(flagHelp):
				return s.printHelpOf(cmd)
			case c.Bool(flagVersion):
				_, err := fmt.Fprintln(s.stdout, toolName())
				return err
			}
			return cmd.run(s, c)
		},
	}
}

const help = `Usage: e2qcow -Q|-r [OPTION...] SOURCE TARGET
       e2qcow -I [OPTION...] DEVICE IMAGE
       e2qcow info|check IMAGE [--json]  |  e2qcow completion bash|zsh|fish
       e2qcow help [COMMAND]  |  e2qcow version
Save the metadata of an ext2, ext3 or ext4 filesystem as a qcow2 image, without
the contents of files, and restore it. SOURCE, a device, a file or an image, is
only read. "-" is standard input or output. Without -Q, -r or -I, TARGET
is in the format that dumpe2fs -i and debugfs -i read.
Exits with 0; 1 failed; 2 wrong usage; 3 done, but metadata could not be read.
The manual page has the details.

`

const examples = `
Examples:
  e2qcow -Q /dev/sdb1 meta.qcow2     save the metadata of a filesystem
  e2qcow -r meta.qcow2 raw.img       restore it, for e2fsck -fn raw.img
  e2qcow -Qz /dev/sdb1 - | ssh host 'cat > meta.qcow2'
`

// toolName returns the name and the version of the program.
func toolName() string { return name + " " + version.String() }
