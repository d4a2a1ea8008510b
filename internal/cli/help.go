package cli

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

// The texts of --help. Flags are listed between help and examples.
const help = `Usage: e2qcow -Q|-r [OPTION...] SOURCE TARGET
       e2qcow -I [OPTION...] DEVICE IMAGE
       e2qcow info|check|diff|report|mount|try|domain|reduce|completion ...
       e2qcow help COMMAND, for the usage of each
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
func (t *Tool) printHelp(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) > 1 {
		return app.Usagef("help takes the name of one command, but %q is left over", args[1])
	}
	list := commands()
	cmd := list[0]
	if len(args) == 1 {
		i := slices.IndexFunc(list, func(c command) bool { return c.name == args[0] })
		if i < 1 {
			return app.Usagef("there is no command %q", args[0])
		}
		cmd = list[i]
	}
	return t.printHelpOf(cmd)
}

func (t *Tool) printHelpOf(cmd command) error {
	_, err := fmt.Fprint(t.Stdout, cmd.help, flagHelpText(cmd.flags), cmd.examples)
	return err
}

// printVersion prints the version of the tool.
func (t *Tool) printVersion(c *cli.Context) error {
	if c.Args().Present() {
		return app.Usagef("version takes no operand: %q", c.Args().First())
	}
	_, err := fmt.Fprintln(t.Stdout, app.Tool())
	return err
}
