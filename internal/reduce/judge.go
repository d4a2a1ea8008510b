package reduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"e2qcow/internal/cmdline"
)

// A Judge says on which disks a command still says what it said at first.
type Judge struct {
	Command []string         // {} stands for the disk, which else comes last
	Keep    []*regexp.Regexp // each has to match the output; without any, all messages stay
	Test    bool             // the command ends with 0 on an interesting disk; what it says is of no account
	Time    time.Duration    // that the command may take; 0 for a minute at first, then ten times what it took, and at least 2 s
	Runs    int              // how often the command is tried at first; 0 for twice
}

// A Verdict is what a command says of a disk.
type Verdict struct {
	Exit     int    // -1 if a signal ended the command
	Signal   string // "" for none
	Late     bool   // the command did not end in time
	Output   string // the first maxOutput bytes
	messages map[string]bool
}

// maxOutput bounds what is kept of the output, in bytes.
const maxOutput = 4 << 20

// String says how the command ended.
func (v Verdict) String() string {
	switch {
	case v.Late:
		return "does not end in time"
	case v.Signal != "":
		return "ended by " + v.Signal
	}
	return fmt.Sprintf("exit status %d", v.Exit)
}

// ErrCommand says that there is nothing to search for.
var ErrCommand = errors.New("the command says nothing to search for")

// check refuses a first verdict that cannot be kept.
func (j Judge) check(v Verdict) error {
	switch {
	case v.Late:
		return fmt.Errorf("%w: it did not end within %v", ErrCommand, j.time())
	case j.Test && v.Exit != 0:
		return fmt.Errorf("%w: %v on the whole disk, 0 is expected", ErrCommand, v)
	}
	for _, k := range j.Keep {
		if !k.MatchString(v.Output) {
			return fmt.Errorf("%w: its output does not match %q", ErrCommand, k)
		}
	}
	return nil
}

func (j Judge) time() time.Duration {
	if j.Time > 0 {
		return j.Time
	}
	return time.Minute
}

// within returns a judge whose command may take ten times as long as it took, if
// nothing else was said.
func (j Judge) within(took time.Duration) Judge {
	if j.Time == 0 {
		j.Time = max(10*took, 2*time.Second)
	}
	return j
}

// same reports whether v is what the search has to keep of want.
func (j Judge) same(want, v Verdict) bool {
	if v.Exit != want.Exit || v.Signal != want.Signal || v.Late != want.Late {
		return false
	}
	if j.Test {
		return true
	}
	for _, k := range j.Keep {
		if !k.MatchString(v.Output) {
			return false
		}
	}
	return len(j.Keep) > 0 || maps.Equal(want.messages, v.messages)
}

// difference names a message that only one of two verdicts has.
func difference(a, b Verdict) string {
	if a.String() != b.String() {
		return a.String() + ", then " + b.String()
	}
	for _, pair := range [][2]Verdict{{a, b}, {b, a}} {
		for _, m := range slices.Sorted(maps.Keys(pair[0].messages)) {
			if !pair[1].messages[m] {
				return strconv.Quote(m) + " comes in one run only"
			}
		}
	}
	return "its output differs"
}

var (
	digits = regexp.MustCompile(`[0-9]+`)
	number = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)
)

var (
	// numberList is a list of numbers and ranges as e2fsck prints it: how long it is says
	// as little as the numbers.
	numberList = regexp.MustCompile(`(?: ?[-+]?\(?N(?:--N)?\)?){2,}`)

	// progress is a line that tells how far e2fsck is.
	progress = regexp.MustCompile(`^Pass \d+[A-Z]?: `)
)

// mask returns the distinct lines of an output, with numbers masked.
func mask(output, path string) map[string]bool {
	lines := map[string]bool{}
	for line := range strings.Lines(strings.ReplaceAll(output, path, "{}")) {
		if line = strings.TrimRight(line, " \r\n"); line != "" && !progress.MatchString(line) {
			lines[numberList.ReplaceAllString(number.ReplaceAllString(line, "N"), " N")] = true
		}
	}
	return lines
}

// run runs the command on the disk that path names.
func (j Judge) run(ctx context.Context, path string) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, j.time())
	defer cancel()
	args := cmdline.Insert(j.Command, path)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out := &bounded{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it starts ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the command has left behind
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the command has ended, with 0; what it has left behind held its output open
	}
	v := Verdict{Output: out.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		v.Late = true
	case ctx.Err() != nil:
		return v, context.Cause(ctx)
	case errors.As(err, &exit):
		v.Exit = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			v.Signal = status.Signal().String()
		}
	case err != nil:
		return v, err
	}
	v.messages = mask(v.Output, path)
	return v, nil
}

// numbers returns the numbers in an output, at most most of them.
func numbers(output string, most int) map[uint64]bool {
	list := map[uint64]bool{}
	for _, text := range digits.FindAllString(output, -1) {
		if len(list) == most {
			break
		}
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			list[n] = true
		}
	}
	return list
}

// A bounded buffer takes all and keeps the first maxOutput bytes.
type bounded struct{ b bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.b.Write(p[:min(len(p), maxOutput-b.b.Len())])
	return len(p), nil
}

func (b *bounded) String() string { return b.b.String() }
