package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/cmdline"
	"e2qcow/internal/fuse"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
	"e2qcow/scan/diff"
)

const tryHelp = `Usage: e2qcow try [OPTION...] IMAGE [-- COMMAND...]
Run a command on the disk in an image, then throw away what was written and say
what that was. {} in the command is the path of the disk; without it the path
comes last. Without a command, a shell is started beside the disk. Exits as the
command does.

`

const tryExamples = `
Examples:
  e2qcow try report.qcow2 -- e2fsck -fy {}
  e2qcow try report.qcow2 -- sh -c 'e2fsck -fy {}; e2fsck -fn {}'
`

// tryFlags returns the flags of try.
func tryFlags() []cli.Flag {
	return slices.Concat([]cli.Flag{
		&impliedFlag{
			StringFlag: cli.StringFlag{Name: flagJSON, Usage: "all that changed as JSON, to `FILE` or standard output"},
			value:      target.Stdout,
		},
		&cli.BoolFlag{Name: flagAll, Usage: "say all that changed"},
	}, diskFlags())
}

// tryOptions are those of try.
type tryOptions struct {
	diskOptions
	command []string // nil for a shell
	json    string   // the file; "" for none
	all     bool
}

func parseTry(c *cli.Context) (*tryOptions, error) {
	args := c.Args().Slice()
	if len(args) == 0 || args[0] == "" {
		return nil, &app.UsageError{What: "try needs an image, and then a command", Operands: -1}
	}
	o := &tryOptions{command: args[1:], json: c.String(flagJSON), all: c.Bool(flagAll)}
	if c.IsSet(flagJSON) && o.json == "" {
		return nil, app.Usagef("option --%s needs a name", flagJSON)
	}
	var err error
	o.diskOptions, err = parseDisk(c, args[0])
	if err == nil && source.IsStdin(args[0]) {
		err = app.Usagef("standard input is for the command: name a file")
	}
	return o, err
}

// try runs a command on a disk that is thrown away.
func (t *Tool) try(c *cli.Context) error {
	o, err := parseTry(c)
	if err != nil {
		return err
	}
	return o.run(c.Context, t)
}

func (o *tryOptions) run(ctx context.Context, t *Tool) error {
	shown := t.Progress(false)
	defer shown.Finish()
	d, err := o.open(ctx, t, shown)
	if err != nil {
		return err
	}
	defer d.Close()
	var record *target.Target
	if o.json != "" {
		if record, err = target.Open(ctx, o.json, target.Options{Source: d.in.Region, Format: target.JSON}); err != nil {
			return err
		}
		defer record.Close()
		t.Guard(record.Close)
	}
	folder, err := os.MkdirTemp(o.source.Spool.Folder(), "e2qcow-try-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	status, err := o.runOn(ctx, t, d, folder, shown)
	if err != nil {
		return err
	}
	if err := d.keep(context.WithoutCancel(ctx), t); err != nil {
		return err
	}
	_ = t.SaySalvaged(d.in) // the exit status is that of the command
	if err := cmp.Or(o.report(ctx, t, d, record, shown), d.in.Damage()); err != nil {
		return err
	}
	return status
}

// runOn runs the command on the disk in a folder. The first error is how the
// command ended.
func (o *tryOptions) runOn(ctx context.Context, t *Tool, d *openDisk, folder string, shown *progress.Reporter) (status, err error) {
	inner := filepath.Join(folder, "mnt")
	if err := os.Mkdir(inner, 0o700); err != nil {
		return nil, err
	}
	signals, stop := t.takeSignals()
	defer stop()
	m, err := d.mount(t, inner, false)
	if errors.Is(err, fuse.ErrUnavailable) && d.in.Salvaged() == nil { // a copy has no read errors
		t.Say("%v: the image is restored into a temporary file in %s", err, folder)
		stop()
		return o.runOnCopy(ctx, t, d, folder, shown)
	}
	if err != nil {
		return nil, err
	}
	shown.Finish()
	status, err = o.execute(m.Disk(), signals)
	err = cmp.Or(d.unmount(t, m, signals), err)
	d.disk.End()
	return status, err
}

// runOnCopy runs the command on a sparse copy of the disk, and takes over what
// changed in the copy.
func (o *tryOptions) runOnCopy(ctx context.Context, t *Tool, d *openDisk, folder string, shown *progress.Reporter) (status, err error) {
	name := filepath.Join(folder, fuse.DiskName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t.Guard(func() { _ = os.RemoveAll(folder) })
	if _, err := raw.WriteFile(ctx, f, d.before, raw.Options{Progress: shown.Phase("restore", progress.Bytes)}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	shown.Finish()
	signals, stop := t.takeSignals()
	defer stop()
	if status, err = o.execute(name, signals); err != nil {
		return nil, err
	}
	return status, d.disk.Adopt(ctx, f)
}

// execute runs the command, or a shell. A signal is passed on, unless the
// terminal gave it to the command too.
func (o *tryOptions) execute(disk string, signals <-chan os.Signal) (status, err error) {
	words := o.command
	if len(words) == 0 {
		// The shell goes to the folder by itself: a child that is not yet a program of
		// its own must not wait for a disk that this process serves.
		words = []string{"/bin/sh", "-c", `cd "$1" && exec "$0"`, cmp.Or(os.Getenv("SHELL"), "/bin/sh"), filepath.Dir(disk)}
	} else {
		words = cmdline.Insert(words, disk)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGINT || !inForeground() {
				_ = cmd.Process.Signal(sig)
			}
		case err := <-ended:
			return endOf(cmd.ProcessState), ignoreExit(err)
		}
	}
}

// inForeground reports whether Ctrl-C on the terminal reaches the command by
// itself.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// endOf returns how a command ended, nil for success.
func endOf(state *os.ProcessState) error {
	ws, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case ok && ws.Signaled():
		return &app.DiedError{Signal: ws.Signal()}
	case state.ExitCode() != 0:
		return exitStatus(state.ExitCode())
	}
	return nil
}

// ignoreExit returns err unless it only says how the command ended.
func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// mostTried is how many lines are printed of what a command changed.
const mostTried = 20

// report says what the command changed. A disk that cannot be compared any more is
// no failure of the command.
func (o *tryOptions) report(ctx context.Context, t *Tool, d *openDisk, record *target.Target, shown *progress.Reporter) error {
	n, runs, err := d.disk.Changed()
	if err != nil {
		return err
	}
	if n > 0 {
		t.Say("what changed, %s in %s:", advise.Size(uint64(n), 1), advise.Count(runs, "place"))
	}
	size := d.before.Size()
	found, err := diff.Compare(ctx, diff.Source{Reader: d.before, Size: size}, diff.Source{Reader: d.disk, Size: size},
		diff.Options{Changes: d.disk, Scan: o.search.Scan})
	shown.Finish()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && n == 0:
		t.Say("nothing changed")
		return nil
	case err != nil && record != nil:
		return fmt.Errorf("what changed cannot be told by structure: %w", err)
	case err != nil:
		t.Say("that cannot be told by structure: %v", err)
		return nil
	}
	if record != nil {
		if err := app.EncodeJSON(record, jsonDiff{d.in.Src.Name(), "after " + strings.Join(o.command, " "), found.Same(), found}); err != nil {
			return err
		}
		if err := record.Commit(); err != nil {
			return err
		}
	}
	if found.Same() {
		t.Say("nothing changed")
		return nil
	}
	opt := diff.TextOptions{Lines: mostTried}
	if o.all {
		opt = diff.TextOptions{All: true}
	}
	var text bytes.Buffer
	if err := found.WriteText(&text, opt); err != nil {
		return err
	}
	_, err = t.Stderr().Write(text.Bytes())
	return err
}
