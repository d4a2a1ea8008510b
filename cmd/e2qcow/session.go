package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// name is what the tool calls itself, but where it takes the place of another.
const name = "e2qcow"

// A session is one run of the tool.
type session struct {
	name   string    // in messages
	stdout io.Writer // for what was asked for, as --help; images have their own
	stderr *os.File

	mu       sync.Mutex
	cleanups []func() // leave no half target

	hold  atomic.Pointer[string] // said at the next signal, which then does nothing else
	stake atomic.Pointer[stake]  // nil where there is no target, or no longer
}

func newSession(stderr *os.File) *session {
	return &session{name: name, stdout: os.Stdout, stderr: stderr}
}

// say writes a line to the person.
func (s *session) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.stderr, "%s: %s\n", s.name, printable(fmt.Sprintf(format, args...)))
}

// guard has f called if the session has to end at once.
func (s *session) guard(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// A stake is what the end of a session leaves behind that changes something
// where it is. It returns what there is then and what to do, and whether
// something was written.
type stake func() (text string, touched bool)

// atStake has an error that ends the session from now on come with what it
// leaves behind: while nothing is touched, an interruption and what is
// unfinished only, as other errors say what to do themselves.
func (s *session) atStake(text string, touched bool) {
	s.stakeOn(func() (string, bool) { return text, touched })
}

// stakeOn is atStake with what is known when the session ends.
func (s *session) stakeOn(left stake) { s.stake.Store(&left) }

// holdOn has the next signal to end do nothing but say text.
func (s *session) holdOn(text string) { s.hold.Store(&text) }

// release has nothing at stake or held any more.
func (s *session) release() {
	s.hold.Store(nil)
	s.stake.Store(nil)
}

// left returns what err leaves behind, and what to do; "" where that goes
// without saying.
func (s *session) left(err error) string {
	st := s.stake.Load()
	if st == nil {
		return ""
	}
	var interrupted *interruptedError
	text, touched := (*st)()
	switch {
	case touched, errors.As(err, &interrupted):
		return text
	case slices.ContainsFunc(unfinished, func(known error) bool { return errors.Is(err, known) }):
		return text + "; " + adviceOn(err)
	}
	return ""
}

// An interruptedError is a signal that ended the work.
type interruptedError struct{ signal syscall.Signal }

func (e *interruptedError) Error() string {
	names := map[syscall.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP"}
	return fmt.Sprintf("interrupted by %s", names[e.signal])
}

// patience is how long the work may take to end by itself when told to: a read
// from a dying disk, or a write that nobody takes, may never return.
const patience = 2 * time.Second

// interruptible returns a context that the first signal to end cancels. If the
// work has not ended soon after it, or at a second signal, the target is
// cleaned up and the process exits.
func (s *session) interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // as nohup has it
			signal.Notify(signals, sig)
		}
	}
	ended := make(chan struct{})
	go func() {
		var err *interruptedError
		for err == nil {
			select {
			case sig := <-signals:
				if text := s.hold.Swap(nil); text != nil {
					s.say("%s", *text)
					continue
				}
				number, _ := sig.(syscall.Signal)
				err = &interruptedError{number}
			case <-ended:
				return
			}
		}
		cancel(err)
		select {
		case <-signals:
		case <-time.After(patience):
		case <-ended:
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, f := range s.cleanups {
			f()
		}
		s.exit(err)
	}()
	return ctx, func() { close(ended) }
}
