// Package progress shows how far the work of a command is: one bar over all of
// it, with the time that is left. The work is a row of phases. A command says
// beforehand which phases come and how long they may be (Plan), and each phase
// then counts its bytes. Where there is no terminal the package is silent, or, if
// asked, writes a line now and then.
package progress

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// A Unit is what a phase counts.
type Unit uint8

// The units.
const (
	Bytes Unit = iota
	Names
)

// format returns n with its unit.
func (u Unit) format(n int64) string {
	switch {
	case u == Bytes:
		return humanize.IBytes(uint64(max(n, 0)))
	case n == 1:
		return "1 name"
	}
	return humanize.Comma(n) + " names"
}

// A Reporter shows the progress of phases that follow one another. A nil
// Reporter shows nothing.
type Reporter struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	columns  func() int           // of the terminal; 0 where that is not known
	interval time.Duration        // between what is shown
	waits    func() float64       // see estimator; nil where that is not known
	tick     func() (stop func()) // has the line redrawn now and then; nil in tests

	mu       sync.Mutex
	estimate estimator
	phase    string // "" between phases
	unit     Unit
	last     time.Time // when something was shown
	said     bool      // whether the last line of text says how far the phase is
	drawn    bool      // whether a line is on the terminal
	stop     func()    // ends the redrawing; nil where there is none
}

// How often something is shown.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 5 * time.Second
)

// New returns a Reporter to f if that is a terminal or always is set, else nil.
func New(f *os.File, always bool) *Reporter {
	terminal := term.IsTerminal(int(f.Fd()))
	if !terminal && !always {
		return nil
	}
	columns := func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0
		}
		return width
	}
	r := &Reporter{w: f, terminal: terminal, now: time.Now, columns: columns, interval: lineInterval}
	if terminal {
		r.interval = barInterval
	}
	r.tick, r.waits = r.redraw, new(contention).factor
	return r
}

// redraw shows now and then how far the work is, also while a phase counts
// nothing, until stop is called.
func (r *Reporter) redraw() (stop func()) {
	end := make(chan struct{})
	ticker := time.NewTicker(r.interval)
	go func() {
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				r.mu.Lock()
				r.show()
				r.mu.Unlock()
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(end)
	}
}

// Plan begins work of its own, and says which steps it has, in their order.
func (r *Reporter) Plan(steps ...Step) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPhase(r.now())
	r.estimate = estimator{ahead: slices.Clone(steps)}
}

// Expect says how many bytes a planned step will work on, and how many of them
// the step is the first to read from the source. read, which may be nil, returns how
// many of these it has read.
func (r *Reporter) Expect(name string, bytes, fresh int64, read func() int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.estimate.ahead {
		if s := &r.estimate.ahead[i]; s.Name == name {
			s.Bytes, s.Fresh, s.Read = bytes, fresh, read
		}
	}
}

// Phase ends the phase before and begins one. It returns the callback that
// counts in it, to be called from one goroutine at a time; nil if r is.
func (r *Reporter) Phase(name string, unit Unit) func(done, total int64) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.endPhase(now)
	r.phase, r.unit, r.said = name, unit, false
	r.estimate.begin(name, now)
	if r.tick != nil && r.stop == nil {
		r.stop = r.tick()
	}
	return r.count
}

func (r *Reporter) count(done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = r.said && done == r.estimate.now.done && total == r.estimate.now.total
	r.estimate.tell(r.now(), done, total)
	r.show()
}

// show draws the line, or writes one, unless that was done a moment ago.
func (r *Reporter) show() {
	now := r.now()
	if r.phase == "" || now.Sub(r.last) < r.interval {
		return
	}
	r.last = now
	s := r.status(now)
	if r.terminal {
		_, _ = io.WriteString(r.w, "\r"+s.line(r.columns())+eraseRest)
		r.drawn = true
		return
	}
	_, _ = fmt.Fprintln(r.w, s.sentence())
	r.said = true
}

// eraseRest is the escape sequence that clears a terminal from the cursor to the
// end of the line.
const eraseRest = "\x1b[K"

// status returns what there is to say.
func (r *Reporter) status(now time.Time) status {
	e := &r.estimate
	if r.waits != nil {
		e.waits = r.waits()
	}
	e.advance(now)
	s := status{phase: r.phase, unit: r.unit, done: e.now.done, total: e.now.total, part: e.part}
	s.left, s.known = e.left(now)
	if now.Sub(e.now.began) >= time.Second {
		s.rate = e.now.rate(now)
	}
	return s
}

// endPhase ends the phase, if there is one. Where there is no terminal it writes
// how far the phase came.
func (r *Reporter) endPhase(now time.Time) {
	if r.phase == "" {
		return
	}
	if s := r.status(now); !r.terminal && !r.said {
		r.last = now
		_, _ = fmt.Fprintln(r.w, s.sentence())
	}
	r.estimate.end(now)
	r.phase = ""
}

// Aside calls f, which writes to the terminal, and has no bar in the way.
func (r *Reporter) Aside(f func()) {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.clear()
	}
	f()
}

// clear takes the line off the terminal.
func (r *Reporter) clear() {
	if r.drawn {
		_, _ = io.WriteString(r.w, "\r"+eraseRest)
		r.drawn, r.last = false, time.Time{}
	}
}

// Finish ends the work: the bar is cleared away, the last line written.
func (r *Reporter) Finish() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	if len(r.estimate.ahead) == 0 && r.estimate.now.done >= r.estimate.now.total {
		r.estimate.moved, r.estimate.part = time.Time{}, 1
	}
	r.endPhase(r.now())
	r.clear()
	r.estimate = estimator{}
}
