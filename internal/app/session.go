// Package app holds what the commands of e2qcow share: the session that speaks
// to the person, the opening of inputs and outputs, freezing, the report and the
// JSON record.
//
//	Open ──► Input ──► Part ──► Search.Scan ──► Scrambler.Image ──► a sink
//	 disk,    the disk   where    the metadata     without what      Output:
//	 image,   in it      -o says  of a filesystem  is private        target, record
//	 pipe
//
// A command of internal/cli calls these one after the other:
//
//	in, err := s.Open(ctx, app.Source{Name: "/dev/sdb1"}, shown)
//	part, err := in.Part(app.Place{})
//	res, err := search.Scan(ctx, part, shown)
//
// Nothing here knows how options are spelled but the text of messages.
package app

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

	"golang.org/x/sys/unix"

	"e2qcow/internal/advise"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/version"
)

// Name is the name of the tool.
const Name = "e2qcow"

// Tool returns the name and the version of the tool.
func Tool() string { return Name + " " + version.String() }

// A Session is one run of the tool.
type Session struct {
	Stdout io.Writer // for requested output such as --help; images have their own target

	name   string // in messages
	stderr *os.File
	shown  atomic.Pointer[progress.Reporter] // nil if there is none

	mu       sync.Mutex
	cleanups []func() // functions that remove unfinished targets

	taken atomic.Pointer[func(os.Signal)] // nil, or gets all signals
	hold  atomic.Pointer[string]          // the text to print at the next signal, which is otherwise ignored
	stake atomic.Pointer[Stake]           // nil if there is no target, or no longer one
}

// NewSession returns a session whose messages go to stderr and begin with name.
func NewSession(name string, stderr *os.File) *Session {
	return &Session{Stdout: os.Stdout, name: name, stderr: stderr}
}

// Stderr returns where messages go.
func (s *Session) Stderr() *os.File { return s.stderr }

// Say writes a line to the person.
func (s *Session) Say(format string, args ...any) {
	line := fmt.Sprintf("%s: %s\n", s.name, advise.Printable(fmt.Sprintf(format, args...)))
	s.shown.Load().Aside(func() { _, _ = io.WriteString(s.stderr, line) })
}

// Progress returns what shows the progress of a command: on a terminal, or
// wherever standard error goes if always is set.
func (s *Session) Progress(always bool) *progress.Reporter {
	shown := progress.New(s.stderr, always)
	s.shown.Store(shown)
	return shown
}

// Guard registers f to be called if the process must end at once.
func (s *Session) Guard(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// A Stake returns a text that says in which state an error leaves the target at
// this moment, and what to do. It also reports whether the target was written
// to.
type Stake func() (text string, touched bool)

// AtStake sets the text that is appended to a fatal error. If the target was
// not touched, only interruptions and the errors of unfinished get the text:
// other errors say themselves what to do.
func (s *Session) AtStake(text string, touched bool) {
	s.StakeOn(func() (string, bool) { return text, touched })
}

// StakeOn is AtStake with a function that makes the text when the session ends.
func (s *Session) StakeOn(left Stake) { s.stake.Store(&left) }

// HoldOn makes the next signal that would end the process only print text.
func (s *Session) HoldOn(text string) { s.hold.Store(&text) }

// TakeSignals has f called with each signal that would end the process, till
// TakeSignals is called with nil.
func (s *Session) TakeSignals(f func(os.Signal)) {
	if f == nil {
		s.taken.Store(nil)
		return
	}
	s.taken.Store(&f)
}

// Release undoes AtStake and HoldOn: the target is complete.
func (s *Session) Release() {
	s.hold.Store(nil)
	s.stake.Store(nil)
}

// unfinished are errors that end the work when the target is open. The message
// first says in which state the target is, then what to do.
var unfinished = []error{freeze.ErrThawed, freeze.ErrStalled, freeze.ErrKilled, unix.ENOSPC, unix.EDQUOT, unix.EFBIG}

// Left returns in which state err leaves the target and what to do, "" if err
// says everything itself.
func (s *Session) Left(err error) string {
	st := s.stake.Load()
	if st == nil {
		return ""
	}
	var interrupted *InterruptedError
	text, touched := (*st)()
	switch {
	case touched, errors.As(err, &interrupted):
		return text
	case slices.ContainsFunc(unfinished, func(known error) bool { return errors.Is(err, known) }):
		return text + "; " + advise.On(err)
	}
	return ""
}

// An InterruptedError is a signal that ended the work.
type InterruptedError struct{ Signal syscall.Signal }

func (e *InterruptedError) Error() string {
	names := map[syscall.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP"}
	return fmt.Sprintf("interrupted by %s", names[e.Signal])
}

// A DiedError is a signal that ended a command which the tool ran: the tool ends
// the same way. All has been said.
type DiedError struct{ Signal syscall.Signal }

func (e *DiedError) Error() string { return fmt.Sprintf("the command was ended by %v", e.Signal) }

// patience is how long the work may take to end after a signal. A read from a
// dying disk, or a write to a pipe that nobody reads, may never return.
const patience = 2 * time.Second

// Interruptible returns a context that the first signal to end cancels. If the
// work has not ended soon after the signal, or at a second signal, the targets
// are cleaned up and exit is called.
func (s *Session) Interruptible(exit func(error)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // as nohup sets SIGHUP
			signal.Notify(signals, sig)
		}
	}
	ended := make(chan struct{})
	go func() {
		var err *InterruptedError
		for err == nil {
			select {
			case sig := <-signals:
				if f := s.taken.Load(); f != nil {
					(*f)(sig)
					continue
				}
				if text := s.hold.Swap(nil); text != nil {
					s.Say("%s", *text)
					continue
				}
				number, _ := sig.(syscall.Signal)
				err = &InterruptedError{number}
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
		exit(err)
	}()
	return ctx, func() { close(ended) }
}
