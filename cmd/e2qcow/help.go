package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"
)

const helpHelp = `Usage: e2qcow help [COMMAND]
Print how e2qcow, or one of its commands, is used.

`

const versionHelp = `Usage: e2qcow version
Print the version, as --version does.

`

// helpFlags are the flags of commands that only print.
func helpFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"}}
}

// printHelp prints the help of the command that the operand names, or that of
// the tool.
func (s *session) printHelp(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) > 1 {
		return usagef("help takes the name of one command, nothing more: %q", args[1])
	}
	list := commands()
	cmd := list[0]
	if len(args) == 1 {
		i := slices.IndexFunc(list, func(c command) bool { return c.name == args[0] })
		if i < 1 {
			return usagef("there is no command %q", args[0])
		}
		cmd = list[i]
	}
	return s.printHelpOf(cmd)
}

func (s *session) printHelpOf(cmd command) error {
	_, err := fmt.Fprint(s.stdout, cmd.help, flagHelpText(cmd.flags), cmd.examples)
	return err
}

// printVersion prints the version of the tool.
func (s *session) printVersion(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("version takes no operand: %q", c.Args().First())
	}
	_, err := fmt.Fprintln(s.stdout, toolName())
	return err
}
