package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/background"
)

const mountHelp = `Usage: e2qcow mount [OPTION...] SOURCE FOLDER
Show an image, a device or a file as a disk: FOLDER/disk. It can be written to;
the source is not changed. It ends with Ctrl-C, SIGTERM or umount FOLDER.

`

const mountExamples = `
Examples:
  e2qcow mount --background report.qcow2 /mnt/x; e2fsck -fy /mnt/x/disk
  umount /mnt/x
`

const (
	flagReadOnly   = "read-only"
	flagBackground = "background"
)

// mountFlags returns the flags of mount.
func mountFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.BoolFlag{Name: flagReadOnly, Usage: "the disk cannot be written to"},
		&cli.BoolFlag{Name: flagBackground, Usage: "return when the disk can be used, and go on"},
	}, diskFlags())
}

// mountOptions are those of mount.
type mountOptions struct {
	diskOptions
	folder     string
	readOnly   bool
	background bool
}

func parseMount(c *cli.Context) (*mountOptions, error) {
	args := c.Args().Slice()
	switch {
	case slices.Contains(args, ""):
		return nil, app.Usagef("an operand is empty")
	case len(args) != 2:
		return nil, &app.UsageError{What: "mount needs a source and a folder, and nothing else", Operands: len(args) - 2}
	}
	o := &mountOptions{folder: args[1], readOnly: c.Bool(flagReadOnly), background: c.Bool(flagBackground)}
	var err error
	if o.diskOptions, err = parseDisk(c, args[0]); err != nil {
		return nil, err
	}
	if o.readOnly && (o.changes != "" || c.IsSet(flagChangesLimit)) {
		return nil, app.Usagef("option --%s: there are no changes to keep", flagReadOnly)
	}
	return o, nil
}

// mount shows an image as a disk.
func (t *Tool) mount(c *cli.Context) error {
	o, err := parseMount(c)
	if err != nil {
		return err
	}
	if o.background && !background.IsChild() {
		code, err := background.Start()
		if err == nil && code != 0 {
			err = exitStatus(code)
		}
		return err
	}
	return o.run(c.Context, t)
}

func (o *mountOptions) run(ctx context.Context, t *Tool) error {
	shown := t.Progress(false)
	defer shown.Finish()
	d, err := o.open(ctx, t, shown)
	if err != nil {
		return err
	}
	defer d.Close()
	shown.Finish()
	signals, stop := t.takeSignals() // before anybody can see the disk
	defer stop()
	m, err := d.mount(t, o.folder, o.readOnly)
	if err != nil {
		return err
	}
	t.Say("%s is the disk in %s, %s%s; it ends with umount, Ctrl-C or SIGTERM", m.Disk(), d.in.Src.Name(), advise.Size(uint64(d.disk.Size()), 1), o.sayUse())
	if o.background {
		if err := background.Ready(app.Name); err != nil {
			return fmt.Errorf("going to the background: %w", err)
		}
	}
	select {
	case <-m.Ended():
	case <-signals:
		if err := d.unmount(t, m, signals); err != nil {
			return err
		}
	case <-ctx.Done():
		_ = d.unmount(t, m, signals)
		return context.Cause(ctx)
	}
	d.disk.End()
	return cmp.Or(d.keep(context.WithoutCancel(ctx), t), d.in.Damage(), t.SaySalvaged(d.in))
}

// sayUse says what will happen to the changes.
func (o *mountOptions) sayUse() string {
	switch {
	case o.readOnly:
		return ", read-only"
	case o.changes != "":
		return ", what is written will be in " + o.changes
	}
	return ", what is written is gone at the end"
}
