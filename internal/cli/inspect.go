package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/signature"
	"e2qcow/internal/source"
	"e2qcow/internal/spool"
	"e2qcow/qcow2"
)

// inspectFlags returns the flags of the commands that look at an image.
func inspectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: flagJSON, Usage: "print a JSON object"},
		&cli.BoolFlag{Name: flagSalvage, Usage: "say what can be read of a damaged qcow2 image"},
		&cli.BoolFlag{Name: flagHelp, Aliases: []string{"h"}, Usage: "print this text"},
	}
}

// openImage opens the only operand of a command.
func openImage(c *cli.Context, command string) (*source.Source, error) {
	args := c.Args().Slice()
	if len(args) != 1 {
		return nil, app.Usagef("%s needs one image, and nothing else", command)
	}
	name, err := app.DeviceName(args[0])
	if err != nil {
		return nil, err
	}
	src, err := source.Open(c.Context, name)
	if errors.Is(err, source.ErrDirectory) || errors.Is(err, source.ErrKind) || errors.Is(err, source.ErrEmpty) {
		return nil, &imageError{err}
	}
	if err != nil {
		return nil, err
	}
	if c.Bool(flagSalvage) {
		src.EndAtDamage()
	}
	if head, failed := src.Head(app.HeadSize); failed == nil { // else reading it meets the error again
		_, err = src.Decompress(head, false)
	}
	if err == nil && src.IsPipe() {
		err = src.Spool(c.Context, spool.Options{}, nil)
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// An imageError says that an operand cannot contain an image: a folder, a
// character device, an empty file.
type imageError struct{ err error }

func (e *imageError) Error() string { return e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }

// Advice returns what to do.
func (e *imageError) Advice() string { return "name an image" }

// notImage adds the name of src to an error of reading src as an image. If src
// is not an image, it says what src looks like, and what to do.
func notImage(src *source.Source, err error) error {
	found, ok, _ := signature.Find(src, src.Size())
	if !ok || !errors.Is(err, qcow2.ErrNotQcow2) {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	err = fmt.Errorf("%s: %w; it looks like %s", src.Name(), err, found.Name)
	hint := advise.OnContent(found, 0)
	switch {
	case found.Name == signature.Normal:
		hint = "e2qcow info describes it"
	case found.Name == signature.Ext || found.Name == signature.PartitionTable || hint == "":
		hint = "name an image of it"
	}
	return fmt.Errorf("%w; %s", err, hint)
}
