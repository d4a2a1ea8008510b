package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"e2qcow/internal/testfs"
)

// TestInterrupt ends a dump in the middle, each way that a person can. The
// dump waits in the middle because nobody takes its progress report: the pipe
// that is its stderr is full.
func TestInterrupt(t *testing.T) {
	for _, test := range []struct {
		signal syscall.Signal
		name   string
		before string // what the target holds
		args   []string
	}{
		{syscall.SIGINT, "SIGINT", "", []string{"-p", "-Q"}},
		{syscall.SIGTERM, "SIGTERM", "an older image", []string{"-p", "--overwrite", "-r"}},
		{syscall.SIGHUP, "SIGHUP", "", []string{"-p", "-Q"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			source := makeFilesystem(t)
			target := filepath.Join(dir, "out")
			if err := os.WriteFile(target, []byte(test.before), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, append(test.args, source, target)...)
			p.waitFor(t, func() bool { return p.hasUnfinished(dir) })
			p.signal(t, test.signal)
			time.Sleep(100 * time.Millisecond) // for the signal to be taken
			ended, text := p.wait(t)
			left := "nothing usable is left"
			if test.before != "" {
				left = target + " is unchanged"
			}
			if want := "e2qcow: interrupted by " + test.name + "; " + left + "\n"; ended != "signal: "+test.signal.String() || !strings.HasSuffix(text, want) {
				t.Errorf("%s and %q, want the signal and %q", ended, text, want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("there is %v, %v", left, err)
			}
			if b, err := os.ReadFile(target); err != nil || string(b) != test.before {
				t.Errorf("the target is not as it was: %q, %v", b, err)
			}
		})
	}
}

// TestInterruptStuck ends a restore that is stuck in writing to a pipe.
func TestInterruptStuck(t *testing.T) {
	dir := t.TempDir()
	source := makeFilesystem(t)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	p := start(t, "-r", source, fifo)
	p.waitFor(t, func() bool {
		n, err := unix.IoctlGetInt(int(reader.Fd()), unix.TIOCINQ)
		return err == nil && n > 0
	})
	p.signal(t, syscall.SIGINT)
	if ended, text := p.wait(t); ended != "signal: interrupt" || !strings.HasSuffix(text, "interrupted by SIGINT; nothing usable is left\n") {
		t.Errorf("%s and %q", ended, text)
	}
}

// TestInterruptWaiting ends a restore that waits for the reader of a FIFO.
func TestInterruptWaiting(t *testing.T) {
	dir := t.TempDir()
	source := makeFilesystem(t)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-r", source, fifo)
	p.waitFor(t, func() bool { return p.hasOpen(source) })
	p.signal(t, syscall.SIGTERM)
	if ended, text := p.wait(t); ended != "signal: terminated" || text != "e2qcow: interrupted by SIGTERM\n" {
		t.Errorf("%s and %q", ended, text)
	}
}

func makeFilesystem(t *testing.T) string {
	t.Helper()
	return testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4", Size: 32 << 20}).Path
}

// A process is a running e2qcow with a stderr that nobody reads till wait.
type process struct {
	cmd    *exec.Cmd
	stderr *os.File
	filler int // bytes in stderr that are not its own
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	filler := fill(t, w)
	cmd := exec.Command("e2qcow", args...)
	cmd.Stderr = w
	// A process inherits that signals are ignored, as under nohup, but not that
	// they are handled.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err = cmd.Start()
	signal.Stop(handled)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &process{cmd: cmd, stderr: r, filler: filler}
}

// fill writes to a pipe till it takes no more.
func fill(t *testing.T, w *os.File) int {
	t.Helper()
	size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.Write(bytes.Repeat([]byte{'.'}, size))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// hasUnfinished reports whether the process has a file open in dir that has no
// name, or a hidden one where the filesystem knows no others.
func (p *process) hasUnfinished(dir string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	return slices.ContainsFunc(links, func(link string) bool {
		to, _ := os.Readlink(link)
		return filepath.Dir(to) == dir && (strings.HasSuffix(to, " (deleted)") || strings.HasPrefix(filepath.Base(to), "."))
	})
}

// hasOpen reports whether the process has a file open, which it opens when it
// handles signals already.
func (p *process) hasOpen(name string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	return slices.ContainsFunc(links, func(link string) bool { to, _ := os.Readlink(link); return to == name })
}

func (p *process) waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to the middle")
		}
	}
}

// wait reads what the process says till it ends, and returns how it ends as
// os.ProcessState spells that.
func (p *process) wait(t *testing.T) (ended, text string) {
	t.Helper()
	_ = p.stderr.SetReadDeadline(time.Now().Add(20 * time.Second))
	said, err := io.ReadAll(p.stderr)
	if err != nil {
		t.Fatalf("it does not end: %v", err)
	}
	err = p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.String(), string(said[p.filler:])
}

// TestInterruptInstall ends an installation before the first byte is written,
// in the same way as TestInterrupt.
func TestInterruptInstall(t *testing.T) {
	image := makeFilesystem(t)
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	device := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(device, before, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-p", "-I", device, image)
	p.waitFor(t, func() bool { return p.hasOpen(device) })
	time.Sleep(100 * time.Millisecond) // to come as far as it gets
	p.signal(t, syscall.SIGINT)
	time.Sleep(100 * time.Millisecond)
	if ended, text := p.wait(t); ended != "signal: interrupt" || !strings.HasSuffix(text, "e2qcow: interrupted by SIGINT; "+device+" is unchanged\n") {
		t.Errorf("%s and %q", ended, text)
	}
	if after, err := os.ReadFile(device); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the device is not as it was: %v", err)
	}
}
