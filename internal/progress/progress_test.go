package progress

import (
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"e2qcow/internal/testfs"
)

func TestLines(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	r := &Reporter{w: &out, now: func() time.Time { return clock }, interval: lineInterval}
	r.Plan(Step{Name: "scan"}, Step{Name: "copy", Rate: 4 << 20, Bytes: AsFirst})
	count := r.Phase("scan", Bytes)
	for done := int64(0); done <= 20; done++ {
		count(done<<20, 20<<20)
		clock = clock.Add(time.Second)
	}
	count = r.Phase("copy", Bytes)
	for done := int64(0); done <= 20; done += 2 {
		count(done<<20, 20<<20)
		clock = clock.Add(time.Second)
	}
	r.Finish()
	r.Finish()
	r.Phase("scramble", Names)(1500, 2000)
	r.Finish()
	r.Phase("scramble", Names)(1, 1)
	r.Finish()
	r.Phase("copy", Bytes)(math.MaxInt64/2, math.MaxInt64)
	r.Finish()
	want := `scan: 0 B of 20 MiB; 0% of all
scan: 5.0 MiB of 20 MiB, 1.0 MiB/s; 20% of all, 20s left
scan: 10 MiB of 20 MiB, 1.0 MiB/s; 40% of all, 15s left
scan: 15 MiB of 20 MiB, 1.0 MiB/s; 59% of all, 10s left
scan: 20 MiB of 20 MiB, 1.0 MiB/s; 79% of all, 5s left
copy: 8.0 MiB of 20 MiB, 2.0 MiB/s; 89% of all, 6s left
copy: 18 MiB of 20 MiB, 2.0 MiB/s; 97% of all, 1s left
copy: 20 MiB of 20 MiB, 1.7 MiB/s; 100% of all
scramble: 1,500 names of 2,000 names; 0% of all
scramble: 1 name of 1 name; 100% of all
copy: 4.0 EiB of 8.0 EiB; 0% of all
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A stage is a step of simulated work: how long it really takes, and how it
// counts.
type stage struct {
	step    Step
	total   int64
	seconds float64
	silent  bool                                  // it counts nothing
	guess   func(part float64, total int64) int64 // the total that it tells; nil for the real one
	at      func(part float64) (done float64)     // how much is done after a part of its time; nil for as much
	fresh   func(part float64) (read float64)     // how many of the fresh bytes are read; nil where nobody knows
}

// TestRemaining drives a reporter by a clock of its own through work of many
// shapes. From the first tenth of the time on, the time that is left is within a
// third of the truth, or a second; the part that is done never shrinks, and is
// not within a hundredth of all while more than a tenth is left.
func TestRemaining(t *testing.T) {
	const mib = 1 << 20
	scan := func(seconds float64) stage {
		return stage{step: Step{Name: "scan"}, total: 900 * mib, seconds: seconds}
	}
	cp := func(rate int64, seconds float64) stage {
		return stage{step: Step{Name: "copy", Rate: rate * mib, Bytes: AsFirst}, total: 900 * mib, seconds: seconds}
	}
	sync := func(seconds float64) stage {
		return stage{step: Step{Name: "sync", Rate: 1500 * mib, Bytes: 900 * mib}, seconds: seconds, silent: true}
	}
	growing := scan(60)
	growing.guess = func(part float64, total int64) int64 { return int64(float64(total) * (0.8 + 0.2*part)) }
	slowing := scan(60)
	slowing.at = func(part float64) float64 { return min(1, 1.2*part-0.2*part*part) }
	burst := scan(60)
	burst.at = func(part float64) float64 { return 0.02 + 0.98*part } // a throttle that lets the first bytes pass
	fresh := cp(2500, 30)
	fresh.step.Fresh = 450 * mib // half as many as were scanned in a minute
	journal := fresh             // a quarter of the rest, then a journal, then the others
	journal.at = func(part float64) float64 { return 0.125 + 0.5*part + 0.375*max(0, part-0.99)/0.01 }
	journal.fresh = func(part float64) float64 { return part }
	tenth := cp(2500, 0.05)
	tenth.total /= 10
	for name, stages := range map[string][]stage{
		"paced source":        {scan(60), cp(2500, 0.4), sync(0.5)},
		"paced, compressed":   {scan(60), cp(450, 2), sync(0.1)},
		"paced, scrambled":    {scan(60), {step: Step{Name: "scramble", Rate: 800 * mib, Bytes: AsFirst}, total: 1e6, seconds: 1}, cp(450, 2), {step: Step{Name: "verify", Rate: 1000 * mib, Bytes: AsFirst}, total: 900 * mib, seconds: 1, silent: true}, sync(1)},
		"estimate grows":      {growing, cp(2500, 0.4), sync(0.5)},
		"source slows down":   {slowing, cp(2500, 0.4), sync(0.5)},
		"burst":               {burst, cp(2500, 0.4), sync(0.5)},
		"unread before":       {scan(60), fresh, sync(0.5)},
		"a journal":           {scan(60), journal, sync(0.5)},
		"one phase":           {cp(0, 100)},
		"slower than assumed": {cp(2500, 100)},
		"faster than assumed": {cp(1, 10)},
		"slow copy of it":     {scan(3), cp(450, 30), sync(0.5)},
		"all as assumed":      {scan(0.4), cp(450, 2), sync(0.6)},
		"two sides":           {{step: Step{Name: "scan"}, total: 1800 * mib, seconds: 50}, {step: Step{Name: "compare", Rate: 1000 * mib, Bytes: AsFirst}, seconds: 1, silent: true}},
		"little to be copied": {scan(20), tenth},
	} {
		t.Run(name, func(t *testing.T) { simulate(t, stages) })
	}
}

func simulate(t *testing.T, stages []stage) {
	clock := time.Unix(0, 0)
	r := &Reporter{w: io.Discard, terminal: true, now: func() time.Time { return clock }, columns: func() int { return 80 }}
	var steps []Step
	whole := 0.0
	read := 0.0
	for _, s := range stages {
		if s.fresh != nil {
			s.step.Read = func() int64 { return int64(read * float64(s.step.Fresh)) }
		}
		steps = append(steps, s.step)
		whole += s.seconds
	}
	r.Plan(steps...)
	const tick = 0.02
	passed, most := 0.0, 0.0
	for _, s := range stages {
		count := r.Phase(s.step.Name, Bytes)
		for took := 0.0; took < s.seconds; took += tick {
			part := took / s.seconds
			if !s.silent {
				done, total := part, s.total
				if s.fresh != nil {
					read = s.fresh(part)
				}
				if s.at != nil {
					done = s.at(part)
				}
				if s.guess != nil {
					total = s.guess(part, s.total)
				}
				count(int64(done*float64(s.total)), total)
			}
			left, ok := r.estimate.left(clock)
			truth := whole - passed
			r.estimate.advance(clock)
			shown := r.estimate.part
			switch {
			case passed < whole/10:
			case !ok:
				t.Errorf("at %.1f of %.1f s, in %s: no time is known", passed, whole, s.step.Name)
			case math.Abs(left.Seconds()-truth) > max(truth/3, 1):
				t.Fatalf("at %.1f of %.1f s, in %s: %.1f s are said to be left, not %.1f", passed, whole, s.step.Name, left.Seconds(), truth)
			case shown > 0.98 && truth > max(whole/10, 1):
				t.Fatalf("at %.1f of %.1f s, in %s: %.0f%% are said to be done", passed, whole, s.step.Name, 100*shown)
			}
			if shown < most {
				t.Fatalf("the part shrinks from %v to %v", most, shown)
			}
			most = shown
			clock, passed = clock.Add(time.Duration(tick*float64(time.Second))), passed+tick
		}
		if !s.silent {
			count(s.total, s.total)
		}
	}
	r.Finish()
}

func TestNil(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := New(f, false)
	if r != nil {
		t.Error("a Reporter to a file that nobody asked for")
	}
	r.Plan(Step{Name: "scan"})
	r.Expect("scan", 1, 1, nil)
	if r.Phase("scan", Bytes) != nil {
		t.Error("a callback from no Reporter")
	}
	aside := false
	r.Aside(func() { aside = true })
	r.Finish()
	if !aside {
		t.Error("no Reporter does not call what is to be called")
	}
	if New(f, true) == nil {
		t.Error("no Reporter though it was asked for")
	}
}

// TestNarrow draws bars on terminals of many widths: no line is as long as the
// terminal is wide, and none ends, so nothing scrolls.
func TestNarrow(t *testing.T) {
	for _, columns := range []uint16{1, 2, 5, 10, 20, 24, 32, 40, 48, 60, 77, 78, 80, 120, 200} {
		master, tty := testfs.Terminal(t, columns)
		text := make(chan string)
		go func() {
			b, _ := io.ReadAll(master) // ends with EIO when the tty is closed
			text <- string(b)
		}()
		r := New(tty, false)
		clock := time.Unix(0, 0)
		r.now = func() time.Time { return clock }
		r.tick = nil
		for unit, total := range map[Unit]int64{Bytes: 1023 << 30, Names: 1 << 30} {
			count := r.Phase("measure", unit)
			for i := range int64(5) {
				clock = clock.Add(time.Hour)
				count(i*total/4, total)
			}
		}
		r.Finish()
		tty.Close()
		got := <-text
		if columns >= 20 && (!strings.Contains(got, "measure") || !strings.Contains(got, "left")) || columns >= 10 && !strings.Contains(got, "%") {
			t.Errorf("%d columns: no bar in %q", columns, got)
		}
		if columns >= 120 && !strings.Contains(got, "iB/s") {
			t.Errorf("%d columns: no rate in %q", columns, got)
		}
		if strings.Contains(got, "\n") {
			t.Errorf("%d columns: the bar scrolls: %q", columns, got)
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(got, eraseRest, ""), "\r") {
			if n := utf8.RuneCountInString(line); n >= int(columns) && n > 0 {
				t.Errorf("%d columns: a line of %d: %q", columns, n, line)
			}
		}
	}
}

// TestPlanned begins planned work after a phase of which nobody knew: what that did
// says nothing about the work.
func TestPlanned(t *testing.T) {
	clock := time.Unix(0, 0)
	r := &Reporter{w: io.Discard, terminal: true, now: func() time.Time { return clock }, columns: func() int { return 80 }}
	spool := r.Phase("spool", Bytes)
	spool(1<<40, 0)
	clock = clock.Add(time.Hour)
	spool(2<<40, 0)
	r.Plan(Step{Name: "scan"}, Step{Name: "copy", Bytes: AsFirst, Rate: 10 << 20})
	count := r.Phase("scan", Bytes)
	for i := range int64(5) {
		clock = clock.Add(time.Second)
		count((i+1)<<20, 10<<20)
	}
	left, ok := r.estimate.left(clock)
	if !ok || (left-6*time.Second).Abs() > time.Second/2 {
		t.Errorf("%v are said to be left (%v), not 6 s", left, ok)
	}
	if part := r.estimate.part; part > 0.6 {
		t.Errorf("%.2f are said to be done", part)
	}
}

// TestContention reads what the kernel says of threads, and lets what is assumed of
// later steps take as much longer.
func TestContention(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"1": "100000000 200000000 7\n", "2": "100000000 0 7\n", "3": "rubbish"} {
		if err := os.MkdirAll(folder+"/"+name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(folder+"/"+name+"/schedstat", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := factorOf(folder); got != 2 {
		t.Errorf("the factor is %v", got)
	}
	if got := factorOf(folder + "/none"); got != 0 {
		t.Errorf("the factor of nothing is %v", got)
	}
	clock := time.Unix(0, 0)
	r := &Reporter{w: io.Discard, terminal: true, now: func() time.Time { return clock }, columns: func() int { return 80 }, waits: func() float64 { return 5 }}
	r.Plan(Step{Name: "scan"}, Step{Name: "copy", Bytes: AsFirst, Rate: 10 << 20})
	count := r.Phase("scan", Bytes)
	for i := range int64(5) {
		clock = clock.Add(time.Second)
		count((i+1)<<20, 10<<20)
	}
	if left, ok := r.estimate.left(clock); !ok || (left-10*time.Second).Abs() > time.Second/2 {
		t.Errorf("%v are said to be left (%v), not 10 s", left, ok)
	}
}

// TestAside writes beside the bar: the line is clear when that happens.
func TestAside(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	r := &Reporter{w: &out, terminal: true, now: func() time.Time { return clock }, columns: func() int { return 80 }, interval: barInterval}
	count := r.Phase("copy", Bytes)
	count(1, 2)
	r.Aside(func() { out.WriteString("a message\n") })
	count(1, 2)
	r.Finish()
	got := out.String()
	if want := "\r" + eraseRest + "a message\n\rcopy"; !strings.Contains(got, want) || !strings.HasSuffix(got, "\r"+eraseRest) {
		t.Errorf("the message and the bar are mixed: %q", got)
	}
}
