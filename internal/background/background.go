// Package background has a program go on when its caller thinks that it is done.
// The program starts itself again, in a session of its own, and waits for the word
// that all is ready, or for the end of that process.
package background

import (
	"bufio"
	"errors"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable tells the second process which file says that it is ready.
const variable = "E2QCOW_BACKGROUND"

// readyFD is that file: the first one behind standard error.
const readyFD = 3

// IsChild reports whether this is the process that stays.
func IsChild() bool { return os.Getenv(variable) == strconv.Itoa(readyFD) }

// Start runs the program again, with the same arguments, and returns when Ready is
// called there; or with the exit code of the other process.
func Start() (code int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(readyFD))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, err
	}
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return 0, cmd.Process.Release()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if code = cmd.ProcessState.ExitCode(); code <= 0 {
		code = 1 // it was killed before it was ready
	}
	return code, nil
}

// Ready lets go of the terminal: what is said from now on goes to the system log,
// under that name, if there is one. Then it lets the first process end.
func Ready(name string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	stderr := null
	if system, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, name); err == nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close()
		stderr = w
		go pass(system, r)
	}
	for fd, f := range []*os.File{null, null, stderr} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return err
		}
	}
	ready := os.NewFile(readyFD, "ready")
	defer ready.Close()
	_, err = ready.Write([]byte{1})
	return err
}

// pass passes lines to the system log.
func pass(system io.Writer, r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		_, _ = system.Write(lines.Bytes())
	}
	_, _ = io.Copy(io.Discard, r) // a line that is too long must not stop who writes
}
