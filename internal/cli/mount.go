package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"e2qcow/internal/app"
	"e2qcow/internal/fuse"
)

const mountHelp = `Usage: e2qcow mount [OPTION...] SOURCE FOLDER
Serve the disk in an image, or a device, as the file FOLDER/disk, until the folder
is unmounted or the command is interrupted. The disk can be written to; SOURCE
stays as it is. e2fsck, debugfs, dumpe2fs and a loop mount work on the file.

`

const mountExamples = `
Examples:
  e2qcow mount --background report.qcow2 /mnt/x; e2fsck -fy /mnt/x/disk
  umount /mnt/x
`

func mountFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: flagReadOnly, Usage: "the disk cannot be written to"},
		&cli.BoolFlag{Name: flagBackground, Usage: "return when the disk can be used"},
	}, serveFlags()...)
}

// mountOptions are those of mount.
type mountOptions struct {
	serveOptions
	folder     string
	readOnly   bool
	background bool
}

func parseMount(c *cli.Context) (*mountOptions, error) {
	args := c.Args().Slice()
	if len(args) != 2 || args[0] == "" || args[1] == "" {
		return nil, &app.UsageError{What: "mount needs a source and a folder, and nothing else", Operands: len(args) - 2}
	}
	o := &mountOptions{folder: args[1], readOnly: c.Bool(flagReadOnly), background: c.Bool(flagBackground)}
	var err error
	if o.serveOptions, err = parseServe(c, args[0]); err != nil {
		return nil, err
	}
	if o.readOnly && (o.changes != "" || c.IsSet(flagChangesLimit)) {
		return nil, app.Usagef("option --%s: there are no changes to keep", flagReadOnly)
	}
	return o, nil
}

// mount serves a disk in a folder.
func (t *Tool) mount(c *cli.Context) error {
	o, err := parseMount(c)
	if err != nil {
		return err
	}
	if o.background && os.Getenv(readyEnv) == "" {
		return t.inBackground()
	}
	return o.run(c.Context, t)
}

func (o *mountOptions) run(ctx context.Context, t *Tool) error {
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
	m, err := fuse.New(o.folder, s.disk, fuse.Options{
		ReadOnly: o.readOnly,
		Source:   s.in.Src.Name(),
		Trouble:  func(err error) { t.Say("%v", err) },
	})
	if errors.Is(err, fuse.ErrUnavailable) {
		return otherWays(err, o.source.Name)
	}
	if err != nil {
		return err
	}
	t.Patient()
	t.Guard(func() { _ = m.Detach() })
	t.Say("%s: the disk is %s, till the folder is unmounted or this is interrupted", s.in.Src.Name(), m.Disk())
	ready()
	select {
	case <-m.Ended():
	case <-ctx.Done():
		if err := t.unmount(m, o.folder); err != nil {
			return err
		}
	}
	if err := o.keep(ctx, t, s, to); err != nil {
		return err
	}
	return errors.Join(s.in.Damage(), interruption(ctx))
}

// interruption returns why the context ended. A mount in the background is meant
// to be ended by SIGTERM: that is no failure.
func interruption(ctx context.Context) error {
	if os.Getenv(readyEnv) != "" {
		return nil
	}
	return context.Cause(ctx)
}

// unmount unmounts the folder, when nobody uses the disk any more.
func (t *Tool) unmount(m *fuse.Mount, folder string) error {
	for said := false; ; {
		err := m.Unmount()
		if !errors.Is(err, fuse.ErrBusy) {
			return err
		}
		if !said {
			said = true
			t.Say("%s is in use: it is unmounted when it is not; interrupt again to leave it at once, without the changes", folder)
		}
		select {
		case <-m.Ended():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readyEnv is set for the process in the background: the descriptor that takes a
// byte when the disk can be used.
const readyEnv = "E2QCOW_READY"

// ready tells the process in the foreground that the disk can be used. From then
// on nobody reads what this one says.
func ready() {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "ready")
	_, _ = f.Write([]byte{0})
	f.Close()
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), int(os.Stderr.Fd()), 0)
		null.Close()
	}
}

// inBackground calls the same command once more, in a session of its own, and
// returns when the disk can be used.
func (t *Tool) inBackground() error {
	isReady, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer isReady.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.ExtraFiles = []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	child.Close()
	if err != nil {
		return err
	}
	_, _ = io.Copy(t.Stderr(), said) // till the disk can be used, or the end
	if n, _ := isReady.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitStatus(exit.ExitCode())
	}
	return err
}
