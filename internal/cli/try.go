package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
	"e2qcow/internal/fuse"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/source"
	"e2qcow/scan"
	"e2qcow/scan/diff"
)

const tryHelp = `Usage: e2qcow try [OPTION...] SOURCE [-- COMMAND [ARGUMENT...]]
Run COMMAND on a disk that is thrown away, and say what it changed. "{}" in
ARGUMENT stands for the disk, which else comes last. SOURCE, an image, a file or a
device, stays as it is. Without a COMMAND, a shell is opened beside the disk.
Exits as COMMAND does.

`

const tryExamples = `
Examples:
  e2qcow try report.qcow2 -- e2fsck -fy {}
  e2qcow try report.qcow2 -- sh -c 'e2fsck -fy {}; e2fsck -fn {}'
`

func tryFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: flagJSON, Usage: "print what changed as a JSON object, on standard output"},
		&cli.BoolFlag{Name: flagAll, Usage: "say all that changed"},
	}, serveFlags()...)
}

// tryOptions are those of try.
type tryOptions struct {
	serveOptions
	command []string // none for a shell
	json    bool
	all     bool
}

func parseTry(c *cli.Context) (*tryOptions, error) {
	args := c.Args().Slice()
	if len(args) == 0 || args[0] == "" {
		return nil, app.Usagef("try needs a source and, behind --, a command")
	}
	o := &tryOptions{command: args[1:], json: c.Bool(flagJSON), all: c.Bool(flagAll)}
	var err error
	o.serveOptions, err = parseServe(c, args[0])
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
	s, err := o.serve(ctx, t, shown)
	if err != nil {
		return err
	}
	defer s.close()
	to, err := o.openChanges(ctx, t, s)
	if err != nil {
		return err
	}
	if to != nil {
		defer to.Close()
	}
	folder, err := os.MkdirTemp(o.source.Spool.Folder(), "e2qcow-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	t.Guard(func() { os.RemoveAll(folder) })
	t.Patient()

	m, err := fuse.New(folder, s.disk, fuse.Options{Source: s.in.Src.Name(), Trouble: func(err error) { t.Say("%v", err) }})
	if errors.Is(err, fuse.ErrUnavailable) {
		if to != nil {
			return otherWays(err, o.source.Name)
		}
		return o.onFile(ctx, t, s, folder, err)
	}
	if err != nil {
		return err
	}
	t.Guard(func() { _ = m.Detach() })
	status := o.execute(ctx, m.Disk(), folder)
	if err := t.unmount(m, folder); err != nil {
		return err
	}
	if err := o.keep(ctx, t, s, to); err != nil {
		return err
	}
	after := diff.Source{Reader: s.disk, Size: s.disk.Size()}
	if err := o.sayChanges(ctx, t, s, after, s.disk, shown); err != nil {
		t.Say("what changed cannot be said: %v", err)
	}
	return errors.Join(s.in.Damage(), status)
}

// onFile runs the command on a restored file, where FUSE is not available.
func (o *tryOptions) onFile(ctx context.Context, t *Tool, s *served, folder string, why error) error {
	name := filepath.Join(folder, fuse.DiskName)
	t.Say("%v: the disk is a restored file, %s", why, name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	shown := t.Progress(false)
	defer shown.Finish()
	if _, err := raw.WriteFile(ctx, f, s.base, raw.Options{Progress: shown.Phase("restore", progress.Bytes)}); err != nil {
		return err
	}
	shown.Finish()
	status := o.execute(ctx, name, folder)
	after, err := source.Open(context.WithoutCancel(ctx), name)
	if err == nil {
		err = o.sayChanges(ctx, t, s, diff.Source{Reader: after, Size: after.Size()}, nil, shown)
		after.Close()
	}
	if err != nil {
		t.Say("what changed cannot be said: %v", err)
	}
	return errors.Join(s.in.Damage(), status)
}

// execute runs the command, or a shell, and returns how it ended.
func (o *tryOptions) execute(ctx context.Context, disk, folder string) error {
	args, given := slices.Clone(o.command), false
	for i, a := range args {
		if strings.Contains(a, "{}") {
			args[i], given = strings.ReplaceAll(a, "{}", disk), true
		}
	}
	switch {
	case len(args) == 0:
		args = []string{shell()}
	case !given:
		args = append(args, disk)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if len(o.command) == 0 {
		cmd.Dir = folder
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { // a terminal sends its signals to the command itself
		var interrupted *app.InterruptedError
		if errors.As(context.Cause(ctx), &interrupted) && interrupted.Signal != syscall.SIGINT {
			_ = cmd.Process.Signal(interrupted.Signal)
		}
	})()
	return exitOf(cmd.Wait())
}

// shell returns the shell of the user.
func shell() string {
	if name := os.Getenv("SHELL"); name != "" {
		return name
	}
	return "/bin/sh"
}

// exitOf returns the exit status of a command that has ended: 128 and the signal
// where a signal ended it, as shells say it.
func exitOf(err error) error {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitStatus(128 + int(status.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

// mostLines is how many lines a person is told of what changed.
const mostLines = 20

// sayChanges says what became another. The changes are nil where nobody knows
// what was written.
func (o *tryOptions) sayChanges(ctx context.Context, t *Tool, s *served, after diff.Source, changes diff.Changes, shown *progress.Reporter) error {
	ctx = context.WithoutCancel(ctx)
	start := time.Now()
	opt := diff.Options{Changes: changes, Scan: scan.Options{Threads: o.source.Threads, Progress: shown.Phase("compare", progress.Groups)}}
	d, err := diff.Compare(ctx, diff.Source{Reader: s.base, Size: s.base.Size()}, after, opt)
	shown.Finish()
	if err != nil {
		return err
	}
	if o.json {
		return app.EncodeJSON(t.Stdout, jsonDiff{s.in.Src.Name(), "after " + strings.Join(o.command, " "), d.Same(), d})
	}
	if d.Same() {
		t.Say("nothing changed")
		return nil
	}
	var b bytes.Buffer
	text := diff.TextOptions{Lines: mostLines, All: o.all}
	if o.all {
		text.Lines = 0
	}
	if err := d.WriteText(&b, text); err != nil {
		return err
	}
	t.Say("what changed, compared in %v:", time.Since(start).Round(time.Millisecond))
	_, err = fmt.Fprint(t.Stderr(), b.String())
	return err
}
