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
	r := &Reporter{w: &out, now: func() time.Time { return clock }}
	count := r.Phase("scan", Bytes)
	for done := int64(0); done <= 20; done++ {
		count(done<<20, 20<<20)
		clock = clock.Add(time.Second)
	}
	count = r.Phase("copy", Bytes)
	count(math.MaxInt64/2, math.MaxInt64)
	r.Finish()
	r.Finish()
	r.Phase("scan", Groups)(1500, 2000)
	r.Finish()
	r.Phase("scan", Groups)(1, 1)
	r.Finish()
	want := `scan: 0 B of 20 MiB (0%)
scan: 5.0 MiB of 20 MiB (25%), 1.0 MiB/s, 15s left
scan: 10 MiB of 20 MiB (50%), 1.0 MiB/s, 10s left
scan: 15 MiB of 20 MiB (75%), 1.0 MiB/s, 5s left
scan: 20 MiB of 20 MiB (100%), 1.0 MiB/s
copy: 4.0 EiB of 8.0 EiB (50%)
scan: 1,500 groups of 2,000 groups (75%)
scan: 1 group of 1 group (100%)
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestBar(t *testing.T) {
	for unit, rate := range map[Unit]string{Bytes: "iB/s", Groups: "groups/s"} {
		var out strings.Builder
		clock := time.Unix(0, 0)
		r := &Reporter{w: &out, terminal: true, now: func() time.Time { return clock }, columns: func() int { return 0 }}
		count := r.Phase("scan", unit)
		for i, total := range []int64{0, 10, 5, 1 << 40, 1 << 40} {
			time.Sleep(time.Millisecond) // the bar has a clock of its own
			clock = clock.Add(time.Second)
			count(int64(i)<<37, total)
		}
		r.Finish()
		got := out.String()
		if !strings.Contains(got, "scan") || !strings.Contains(got, rate) {
			t.Errorf("no phase or no %s in %q", rate, got)
		}
		if strings.Contains(got, "\n") {
			t.Errorf("the bar scrolls: %q", got)
		}
	}
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
	if r.Phase("scan", Bytes) != nil {
		t.Error("a callback from no Reporter")
	}
	r.Finish()
	if New(f, true) == nil {
		t.Error("no Reporter though it was asked for")
	}
}

// TestNarrow draws bars on terminals of many widths: no line may be longer than
// the terminal is wide.
func TestNarrow(t *testing.T) {
	for _, columns := range []uint16{24, 32, 40, 48, 60, 77, 78, 80, 120, 200} {
		master, tty := testfs.Terminal(t, columns)
		text := make(chan string)
		go func() {
			b, _ := io.ReadAll(master) // ends with EIO when the tty is closed
			text <- string(b)
		}()
		r := New(tty, false)
		clock := time.Unix(0, 0)
		r.now = func() time.Time { return clock }
		for unit, total := range map[Unit]int64{Bytes: 1023 << 30, Groups: 1 << 24, Tables: 1 << 22} {
			count := r.Phase("measure", unit)
			for i := range int64(4) {
				time.Sleep(time.Millisecond) // the bar has a clock of its own
				clock = clock.Add(time.Hour)
				count(i*total/100, total)
			}
		}
		r.Finish()
		tty.Close()
		got := <-text
		if !strings.Contains(got, "measure") || !strings.Contains(got, "%") {
			t.Errorf("%d columns: no bar in %q", columns, got)
		}
		for line := range strings.FieldsFuncSeq(got, func(c rune) bool { return c == '\r' || c == '\n' }) {
			if n := utf8.RuneCountInString(line); n > int(columns) {
				t.Errorf("%d columns: a line of %d: %q", columns, n, line)
			}
		}
	}
}
