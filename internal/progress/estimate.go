package progress

import (
	"math"
	"slices"
	"time"
)

// A Step is a part of the work that is known before it begins.
type Step struct {
	// Name is that of its phase.
	Name string
	// Bytes is how many bytes the step works on, or AsFirst.
	Bytes int64
	// Rate is the speed that is assumed until the step has shown its own, in
	// bytes a second. 0 is that of the first step.
	Rate int64
	// Fresh is how many bytes of the source the step is the first to read. They
	// come at the rate of the first step, whatever Rate says.
	Fresh int64
	// Read returns how many of the fresh bytes have been read; nil where that is
	// not known.
	Read func() int64
	// Fixed is the time for the step that does not depend on bytes.
	Fixed time.Duration
}

// AsFirst stands for as many bytes as the first step works on.
const AsFirst = -1

// An estimator says how long the work will still take. It does no I/O and asks no
// clock.
//
//	┌ past ─┐┌── current ──────┐┌─ ahead ──────────────┐
//	 scan     copy               verify     sync
//	 measured measured, assumed  assumed, by bytes and rate
type estimator struct {
	began time.Time // the first phase
	first pace      // of the first step, which reads the source
	now   pace      // of the current step
	cur   Step
	ahead []Step
	waits float64   // how much longer all takes for want of a processor; 0 is not known
	part  float64   // of all work, from 0 to 1, that the bar shows as done
	moved time.Time // when part was changed
}

// A pace is how a step went so far.
type pace struct {
	began, last time.Time // last: when done was told
	done, total int64
	marks       []mark // ascending; a few dozen over the whole step
}

// A mark says what was done at a time.
type mark struct {
	at   time.Time
	done int64
}

// maxMarks is how many marks are kept. Then every other one is dropped.
const maxMarks = 64

func (p *pace) tell(now time.Time, done, total int64) {
	p.last, p.done, p.total = now, done, total
	n := len(p.marks)
	if n > 0 && now.Sub(p.marks[n-1].at) < now.Sub(p.began)/maxMarks {
		return
	}
	if n == maxMarks {
		for i := range n / 2 {
			p.marks[i] = p.marks[2*i]
		}
		p.marks = p.marks[:n/2]
	}
	p.marks = append(p.marks, mark{now, done})
}

// part returns how much of the step is done, from 0 to 1.
func (p *pace) part() float64 {
	if p.total <= 0 {
		return 0
	}
	return min(1, float64(max(p.done, 0))/float64(p.total))
}

// rate returns the bytes a second since the middle of the time that passed, 0 if
// that is not known.
func (p *pace) rate(now time.Time) float64 {
	middle := p.began.Add(now.Sub(p.began) / 2)
	from := mark{at: p.began}
	for _, m := range p.marks {
		if m.at.After(middle) || m.done > p.done {
			break
		}
		from = m
	}
	seconds := now.Sub(from.at).Seconds()
	if seconds <= 0 || p.done <= from.done {
		if seconds = now.Sub(p.began).Seconds(); seconds <= 0 {
			return 0
		}
		return float64(p.done) / seconds
	}
	return float64(p.done-from.done) / seconds
}

// begin begins a step. Planned steps before the one of this name are left out. A
// step that was not planned is work of its own if nothing else is ahead.
func (e *estimator) begin(name string, now time.Time) {
	i := slices.IndexFunc(e.ahead, func(s Step) bool { return s.Name == name })
	if i < 0 && len(e.ahead) == 0 {
		*e = estimator{}
	}
	if e.began.IsZero() {
		e.began = now
	}
	e.now = pace{began: now, last: now}
	e.cur = Step{Name: name, Bytes: AsFirst}
	if i >= 0 {
		e.cur, e.ahead = e.ahead[i], e.ahead[i+1:]
	}
}

// end ends the current step.
func (e *estimator) end(now time.Time) {
	if e.first.began.IsZero() {
		e.now.last = now
		e.first = e.now
	}
}

// tell takes in how much of the current step is done.
func (e *estimator) tell(now time.Time, done, total int64) { e.now.tell(now, done, total) }

// source returns the first step as far as it is known, and its rate.
func (e *estimator) source(now time.Time) (p *pace, rate float64) {
	if e.first.began.IsZero() {
		return &e.now, e.now.rate(now)
	}
	p = &e.first
	if seconds := p.last.Sub(p.began).Seconds(); seconds > 0 {
		rate = float64(p.done) / seconds
	}
	return p, rate
}

// assumed returns how many seconds a step takes by its bytes and its rate.
func (e *estimator) assumed(s Step, now time.Time) float64 {
	p, source := e.source(now)
	bytes, rate := float64(s.Bytes), float64(s.Rate)
	if s.Bytes == AsFirst {
		bytes = float64(p.total)
	}
	if s.Rate == 0 {
		rate = source
	}
	seconds := s.Fixed.Seconds()
	if s.Rate != 0 {
		rate /= max(e.waits, 1)
	}
	if rate > 0 {
		seconds += bytes / rate
	}
	if source > 0 {
		seconds += float64(s.Fresh) / source
	}
	return seconds
}

// left returns how long the work will still take. ok is false where nothing is
// known about the current step.
func (e *estimator) left(now time.Time) (left time.Duration, ok bool) {
	seconds, ok := e.current(now)
	for _, s := range e.ahead {
		seconds += e.assumed(s, now)
	}
	if seconds > math.MaxInt64/float64(time.Second) {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), ok
}

// overdue is the part of its time that a step still takes, if nothing else is
// known of it.
const overdue = 0.1

// current returns how many seconds the current step will still take.
func (e *estimator) current(now time.Time) (seconds float64, ok bool) {
	took := now.Sub(e.now.began).Seconds()
	assumed := 0.0
	if e.cur.Rate != 0 || e.cur.Fresh != 0 || e.cur.Fixed != 0 {
		assumed = e.assumed(e.cur, now)
	}
	part, rate := e.now.part(), e.now.rate(now)
	byRate := 0.0
	if rate > 0 {
		byRate = float64(max(e.now.total-e.now.done, 0)) / rate
	}
	switch {
	case assumed == 0:
		return byRate, rate > 0 && e.now.total > 0
	case part == 0 || rate == 0:
		return max(assumed-took, overdue*took), true
	}
	if e.cur.Fresh > 0 && e.cur.Read != nil {
		return e.mixed(took, rate, now), true
	}
	// What was assumed counts less the more the step has shown. Bytes that come
	// from the source for the first time may all lie at the end, so only time
	// shows something then.
	const enough, soon = 0.1, 0.5 // of the step, and seconds
	shown := took / assumed
	if e.cur.Fresh == 0 {
		shown = max(shown, part/enough, took/soon)
	}
	shown = min(shown, 1)
	return shown*byRate + (1-shown)*assumed*(1-part), true
}

// mixed returns how many seconds the current step will still take, if some of its
// bytes come from the source for the first time and the others from memory: as many
// as are assumed for them, times what the step was slower so far than assumed.
func (e *estimator) mixed(took, rate float64, now time.Time) float64 {
	_, fromSource := e.source(now)
	fromMemory := float64(e.cur.Rate) / max(e.waits, 1)
	if fromMemory == 0 {
		fromMemory = rate
	}
	if fromSource == 0 {
		fromSource = fromMemory
	}
	read := float64(min(e.cur.Read(), e.cur.Fresh))
	others := max(float64(e.now.done)-read, 0)
	freshLeft := float64(e.cur.Fresh) - read
	othersLeft := max(float64(e.now.total-e.now.done)-freshLeft, 0)
	const calm = 1 // second: less than that says little
	slower := (took + calm) / (read/fromSource + others/fromMemory + calm)
	return slower * (freshLeft/fromSource + othersLeft/fromMemory)
}

// advance moves the bar on to now. The bar goes at the speed at which it reaches
// its end when nothing is left to be done, so it never jumps or goes back.
func (e *estimator) advance(now time.Time) {
	left, ok := e.left(now)
	if took := now.Sub(e.moved); ok && !e.moved.IsZero() && took > 0 {
		e.part += (almost - e.part) * float64(took) / float64(took+left)
	}
	e.moved = now
}

// almost is the largest part that is shown of work that goes on.
const almost = 0.99
