package testfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// A Tool is a built e2qcow.
type Tool string

// Build builds e2qcow for the architecture of the test, with the race detector
// if the test has it, unless the flags for go build say otherwise. The
// environment variable E2QCOW names a binary to take instead.
func Build(t testing.TB, flags ...string) Tool {
	t.Helper()
	if path := os.Getenv("E2QCOW"); path != "" {
		return Tool(path)
	}
	path := filepath.Join(TempDir(t), "e2qcow")
	args := []string{"build", "-o", path}
	cgo := "0"
	if raceEnabled() {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.Command("go", append(append(args, flags...), "e2qcow/cmd/e2qcow")...)
	cmd.Env = append(os.Environ(), "GOARCH="+runtime.GOARCH, "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building e2qcow: %v\n%s", err, out)
	}
	return Tool(path)
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// A Result is what a command did.
type Result struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs the tool.
func (tool Tool) Run(t testing.TB, args ...string) Result {
	t.Helper()
	cmd := exec.Command(string(tool), args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // else each run takes a second longer
	return runAny(t, cmd)
}

// Dump dumps source to target with -Q and the options given before it, and
// fails the test unless it exits 0.
func (tool Tool) Dump(t testing.TB, source, target string, options ...string) {
	t.Helper()
	tool.must(t, append(options, "-Q", source, target)...)
}

// Restore restores the image to a raw file, or writes the raw metadata image
// of a filesystem, with -r and the options given before it.
func (tool Tool) Restore(t testing.TB, image, target string, options ...string) {
	t.Helper()
	tool.must(t, append(options, "-r", image, target)...)
}

// Normal writes the normal image of source, with no mode and the options given
// before it.
func (tool Tool) Normal(t testing.TB, source, target string, options ...string) {
	t.Helper()
	tool.must(t, append(options, source, target)...)
}

func (tool Tool) must(t testing.TB, args ...string) {
	t.Helper()
	if r := tool.Run(t, args...); r.Exit != 0 {
		t.Fatalf("e2qcow %s: exit %d\n%s%s", strings.Join(args, " "), r.Exit, r.Stdout, r.Stderr)
	}
}

// runAny runs a command that may exit with any status.
func runAny(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
