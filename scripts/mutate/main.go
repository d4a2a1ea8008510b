// Command mutate measures what the tests of a package notice. It changes the
// package in one small place at a time, as a mistake would, and runs the tests of
// the package with the change. A change that every test passes has survived: no
// test states the rule that the changed place is there for.
//
//	go run ./scripts/mutate [-n 75] [-seed 1] [-match REGEXP] PACKAGE...
//
// The changes, called mutants, are drawn at random from all there are: the same
// seed draws the same mutants of the same sources. The sources themselves are not
// touched. The exit status is 1 if the tests fail without a change.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Limits of one run of the tests. A mutant may loop for ever, or fill the memory.
const (
	maxMemoryKiB = 8 << 20
	spareSeconds = 30 // of CPU, beside three times what the tests take without a change
	maxTime      = 10 * time.Minute
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run() error {
	n := flag.Int("n", 75, "mutants of each package")
	seed := flag.Uint64("seed", 1, "seed of the random choice")
	match := flag.String("match", "", "only mutants whose description matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only, err := regexp.Compile(*match)
	for _, path := range flag.Args() {
		if err == nil {
			err = measure(ctx, path, *n, *seed, only)
		}
	}
	return err
}

// A subject is the package whose tests are measured.
type subject struct {
	Dir        string
	ImportPath string
	GoFiles    []string

	scratch string // a folder for one run, emptied after each
	seconds int    // of CPU that the tests may take
}

// measure draws n mutants of a package that match, runs its tests with each, and
// prints the survivors and their number.
func measure(ctx context.Context, path string, n int, seed uint64, only *regexp.Regexp) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-json", path).Output()
	if err != nil {
		return fmt.Errorf("go list %s: %w", path, err)
	}
	var p subject
	if err := json.Unmarshal(out, &p); err != nil {
		return err
	}
	if p.scratch, err = os.MkdirTemp("", "mutate-"); err != nil {
		return err
	}
	defer os.RemoveAll(p.scratch)
	mutants, err := mutantsOf(p.Dir, p.GoFiles)
	if err != nil {
		return err
	}
	if err := p.baseline(ctx); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	r.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
	tried, survived := 0, 0
	for _, m := range mutants {
		if tried == n {
			break
		}
		if !only.MatchString(m.String()) {
			continue
		}
		result, _, err := p.try(ctx, &m)
		if err != nil {
			return err
		}
		switch result {
		case invalid:
			continue
		case survives:
			survived++
		}
		tried++
		fmt.Printf("%-8s %s\n", result, m)
	}
	fmt.Printf("%s: %d of %d mutants survived (%d places, seed %d)\n", p.ImportPath, survived, tried, len(mutants), seed)
	return nil
}

// baseline runs the tests without a change: they must pass, and their time sets
// the limit for the others.
func (p *subject) baseline(ctx context.Context) error {
	p.seconds = 600
	result, took, err := p.try(ctx, nil)
	if err == nil && result != survives {
		err = fmt.Errorf("the tests of %s fail without a change", p.ImportPath)
	}
	p.seconds = spareSeconds + 3*int(took.Seconds())
	return err
}

// A result is what the tests made of a mutant.
type result string

const (
	invalid  result = "invalid" // the compiler refuses it
	noticed  result = "noticed"
	tooLong  result = "too long" // noticed, as the tests did not end
	survives result = "SURVIVES"
)

// try runs the tests with a mutant, or without one, and returns the CPU time that
// the tests took.
func (p *subject) try(ctx context.Context, m *mutant) (result, time.Duration, error) {
	dir, err := os.MkdirTemp(p.scratch, "")
	if err != nil {
		return "", 0, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "test")
	args := []string{"test", "-c", "-o", binary}
	if m != nil {
		overlay, err := m.overlay(dir)
		if err != nil {
			return "", 0, err
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, p.ImportPath)...).CombinedOutput(); err != nil {
		if m == nil || ctx.Err() != nil {
			return "", 0, fmt.Errorf("%w\n%s", err, out)
		}
		return invalid, 0, nil
	}
	limited := fmt.Sprintf(`ulimit -c 0 -v %d -t %d; exec "$@"`, maxMemoryKiB, p.seconds)
	cmd := exec.CommandContext(ctx, "bash", "-c", limited, "bash", binary, "-test.short", "-test.failfast", "-test.timeout", maxTime.String())
	cmd.Dir, cmd.Env = p.Dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", 0, ctx.Err()
	case err == nil:
		return survives, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
	case !errors.As(err, &exit):
		return "", 0, err
	case m == nil:
		fmt.Fprintf(os.Stderr, "%s", out)
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that it has left
	if exit.ExitCode() < 0 || strings.Contains(string(out), "panic: test timed out") {
		return tooLong, 0, nil
	}
	return noticed, 0, nil
}
