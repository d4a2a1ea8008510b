// Package progress shows on a terminal how far the work is: a phase at a time,
// each with a bar, a rate and the time it still needs. Where there is no
// terminal it is silent, or, if asked, writes a line now and then.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A Unit is what a phase counts.
type Unit uint8

// The units.
const (
	Bytes Unit = iota
	Groups
	Tables
	Names
)

// format returns n with its unit.
func (u Unit) format(n int64) string {
	if u == Bytes {
		return humanize.IBytes(uint64(max(n, 0)))
	}
	name := u.name()
	if n == 1 {
		name = strings.TrimSuffix(name, "s")
	}
	return humanize.Comma(n) + " " + name
}

// name returns what is counted.
func (u Unit) name() string {
	switch u {
	case Groups:
		return "groups"
	case Tables:
		return "tables"
	case Names:
		return "names"
	}
	return "bytes"
}

// A Reporter shows the progress of phases that follow one another. A nil
// Reporter shows nothing.
type Reporter struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	columns  func() int // of the terminal; 0 where that is not known

	bar    *progressbar.ProgressBar // of the phase, on a terminal
	layout layout                   // of the bar
	phase  string
	unit   Unit
	start  time.Time // of the phase
	last   time.Time // when something was shown
	shown  bool      // whether a line says what done and total are
	done   int64
	total  int64
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
	return &Reporter{w: f, terminal: terminal, now: time.Now, columns: columns}
}

// A layout is what stands beside the bar. A line that is longer than the
// terminal is wide would scroll.
type layout uint8

const (
	barOnly  layout = iota // the phase and the percentage
	withTime               // the time that passed and the time that is left too
	withRate               // the counts and the rate too
)

// layoutFor returns the layout for a terminal of some columns.
func layoutFor(columns int) layout {
	const time, rate = 40, 78 // columns of the longest line, with a bar of four
	switch {
	case columns <= 0 || columns >= rate:
		return withRate
	case columns >= time:
		return withTime
	}
	return barOnly
}

// Phase ends the phase before and begins one. It returns the callback that
// counts in it, to be called from one goroutine at a time; nil if r is.
func (r *Reporter) Phase(name string, unit Unit) func(done, total int64) {
	if r == nil {
		return nil
	}
	r.Finish()
	r.phase, r.unit, r.start, r.last, r.shown = name, unit, r.now(), time.Time{}, false
	r.done, r.total = 0, 0
	return r.count
}

func (r *Reporter) count(done, total int64) {
	r.shown = r.shown && done == r.done && total == r.total
	r.done, r.total = done, total
	interval := lineInterval
	if r.terminal {
		interval = barInterval
	}
	now := r.now()
	if now.Sub(r.last) < interval {
		return
	}
	r.last = now
	if !r.terminal {
		r.line(now)
		return
	}
	if now := layoutFor(r.columns()); r.bar == nil || now != r.layout {
		r.clear()
		r.layout = now
		r.bar = r.newBar(max(total, 1))
	}
	if total > 0 && total != r.bar.GetMax64() {
		r.bar.ChangeMax64(total)
	}
	// One byte short of the end, lest the bar takes itself for finished while
	// the total still grows.
	_ = r.bar.Set64(max(0, min(done, r.bar.GetMax64()-1)))
}

func (r *Reporter) newBar(total int64) *progressbar.ProgressBar {
	options := []progressbar.Option{
		progressbar.OptionSetWriter(r.w),
		progressbar.OptionSetDescription(r.phase),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetElapsedTime(r.layout >= withTime),
		progressbar.OptionSetPredictTime(r.layout >= withTime),
	}
	switch {
	case r.layout < withRate:
	case r.unit == Bytes:
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true))
	default:
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(r.unit.name()))
	}
	return progressbar.NewOptions64(total, options...)
}

// clear takes the bar off the terminal.
func (r *Reporter) clear() {
	if r.bar == nil {
		return
	}
	_ = r.bar.Exit()
	_ = r.bar.Clear()
	r.bar = nil
}

// line writes a line of text about the phase.
func (r *Reporter) line(now time.Time) {
	text := fmt.Sprintf("%s: %s", r.phase, r.unit.format(r.done))
	if r.total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", r.unit.format(r.total), percent(r.done, r.total))
	}
	if seconds := now.Sub(r.start).Seconds(); seconds >= 1 && r.done > 0 {
		rate := float64(r.done) / seconds
		text += fmt.Sprintf(", %s/s", r.unit.format(int64(rate)))
		if r.total > r.done {
			left := time.Duration(float64(r.total-r.done) / rate * float64(time.Second))
			text += fmt.Sprintf(", %v left", left.Round(time.Second))
		}
	}
	_, _ = fmt.Fprintln(r.w, text)
	r.shown = true
}

// percent divides without overflow.
func percent(done, total int64) int64 {
	if total >= 100 {
		return min(done/(total/100), 100)
	}
	return min(done*100/total, 100)
}

// Finish ends the phase: the bar is cleared away, the last line written.
func (r *Reporter) Finish() {
	switch {
	case r == nil || r.phase == "":
	case r.terminal:
		r.clear()
	case !r.shown:
		r.line(r.now())
	}
	if r != nil {
		r.phase = ""
	}
}
