package report

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/app"
	"e2qcow/scan/survey"
)

// full returns a report in which every list is as long as lists get, and every
// text is hostile.
func full() *Report {
	const text = "<script>alert(1)</script>\x1b[31m\u202e\"'&"
	d := &survey.Data{BlockSize: 4096, Blocks: 1 << 34, Groups: 1 << 19, Head: &survey.Head{Size: 64}}
	d.Map = &survey.Map{Size: 1 << 23}
	for i := range 2048 {
		var cell survey.Cell
		for c := range cell {
			cell[c] = uint64(i*7+c*13)%4001 + 1
			d.Map.Totals[c] += cell[c]
		}
		d.Map.Cells = append(d.Map.Cells, cell)
		for k := range 20 {
			d.Map.Marks = append(d.Map.Marks, survey.Mark{Cell: i, Kind: fmt.Sprintf("kind %d %s", k, text), Count: 1 << 40, First: strings.Repeat(text, 4)})
		}
	}
	for i := range 512 {
		d.Head.Columns = append(d.Head.Columns, survey.Class(i)%survey.Classes)
	}
	for i := range 20 {
		d.Damage.Findings = append(d.Damage.Findings, survey.Finding{Kind: fmt.Sprintf("kind %d", i), Count: 1, What: text, Place: text, Fsck: text})
	}
	for i := range 64 {
		d.Damage.Unreadable = append(d.Damage.Unreadable, survey.Lost{Start: int64(i) << 50, End: int64(i)<<50 + 512, Kinds: []string{"inode table"}})
		d.Damage.Bits = append(d.Damage.Bits, survey.BitRun{Kind: survey.KindMarkedFree, Group: 1 << 19, Start: 1 << 33, Count: 1 << 20})
		d.Backups = append(d.Backups, survey.Backup{Group: 1 << 19, State: "differs", Fields: []string{"s_uuid", "s_volume_name", "s_inodes_count"}})
	}
	d.Damage.Ranges = 1 << 18
	h := &survey.Histogram{Count: 1 << 40, Buckets: make([]uint64, 65)}
	for i := range h.Buckets {
		h.Buckets[i] = 1 << i
	}
	for range 5 {
		h.Largest = append(h.Largest, survey.Largest{Inode: 1 << 31, Value: 1 << 63, Path: strings.Repeat("/"+text, 200)})
	}
	d.Shape = survey.Shape{FreeRuns: h, Sizes: h, Extents: h, Entries: h, Depths: h, Ages: h, DepthKnown: true, Sample: 1}
	for i := range 128 {
		d.Shape.Inodes = append(d.Shape.Inodes, survey.InodeUse{Group: uint32(i), Used: 5, Total: 10})
	}
	f := &app.Description{Filesystem: &app.Filesystem{Type: "ext4", Label: text, Blocks: 1 << 34, BlockSize: 4096}, State: []string{"clean"}, MountedOn: text}
	for name := range features {
		f.Features = append(f.Features, name)
	}
	f.Features = append(f.Features, "FEATURE_I30")
	f.FirstError = &app.FSError{Function: text}
	return &Report{Source: text, Tool: "e2qcow", Filesystem: f, Data: d}
}

func write(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The largest page there can be is below 1 MiB, and text in it is text.
func TestFull(t *testing.T) {
	html := write(t, full())
	if len(html) > 1<<20 {
		t.Errorf("%d bytes", len(html))
	}
	t.Logf("%d bytes", len(html))
	for _, no := range []string{"<script", "\x1b", "\u202e", "http:", "https:", "url(", "@import", "<img", "<iframe", "onload", "javascript"} {
		if strings.Contains(html, no) {
			t.Errorf("the page contains %q", no)
		}
	}
	ids := make(map[string]bool)
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if ids[m[1]] {
			t.Errorf("two elements have the id %q", m[1])
		}
		ids[m[1]] = true
	}
	level := 0
	for _, m := range regexp.MustCompile(`<h([1-6])`).FindAllStringSubmatch(html, -1) {
		n, _ := strconv.Atoi(m[1])
		if n > level+1 {
			t.Errorf("a heading of level %d follows one of level %d", n, level)
		}
		level = n
	}
}

// Each link inside the page leads to an element.
func TestLinks(t *testing.T) {
	r := full()
	r.Map.Marks = nil
	for i, kind := range []string{survey.KindUnreadable, "kind 3"} {
		r.Map.Marks = append(r.Map.Marks, survey.Mark{Cell: i, Kind: kind, Count: 1, First: "x"})
	}
	html := write(t, r)
	for _, m := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if !strings.Contains(html, ` id="`+m[1]+`"`) {
			t.Errorf("nothing has the id %q", m[1])
		}
	}
}

// A report on nothing is a page too.
func TestNothing(t *testing.T) {
	r := &Report{Source: "x", Data: &survey.Data{}}
	if html := write(t, r); !strings.Contains(html, "no usable superblock") || !strings.Contains(html, "There is no map") {
		t.Error(html)
	}
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		change      func(*Report)
		state, text string
	}{
		{func(*Report) {}, sound, "no damage found"},
		{func(r *Report) { r.Filesystem.State[0] = "not clean" }, notable, "no damage found, but not unmounted cleanly"},
		{func(r *Report) { r.Log = &survey.Log{Transactions: 2} }, notable, "no damage found; the journal is to be replayed"},
		{func(r *Report) { r.Filesystem.ErrorCount = 1 }, notable, "no damage found, but the kernel has recorded 1 error"},
		{func(r *Report) { r.Damage.Findings = make([]survey.Finding, 2); r.Damage.Ranges = 1 }, damaged, "2 kinds of damage, 1 range of metadata unreadable"},
		{func(r *Report) { r.Lacking = 3 }, damaged, "3 blocks of metadata were unreadable when the image was made"},
		{func(r *Report) { r.Filesystem = nil }, damaged, "no usable superblock"},
	} {
		r := &Report{Filesystem: &app.Description{State: []string{"clean"}}, Data: &survey.Data{}}
		test.change(r)
		if state, text := r.verdict(); state != test.state || text != test.text {
			t.Errorf("%s: %s, want %s: %s", state, text, test.state, test.text)
		}
	}
}

// What is in a cell can be seen, and what is in it fits.
func TestHeights(t *testing.T) {
	const side = 8.8
	for _, shares := range [][]float64{{0}, {1}, {1e-9, 1 - 1e-9}, {.5, .25}, {.01, .01, .01, .01, .01, .95}, {1e-9, 0, 1e-9}} {
		parts := make([]part, len(shares))
		for i, s := range shares {
			parts[i].share = s
		}
		total := 0.0
		for i, h := range heights(parts, side) {
			total += h
			if shares[i] > 0 && h < least/2 || shares[i] == 0 && h != 0 {
				t.Errorf("%v: part %d is %g high", shares, i, h)
			}
		}
		if total > side+1e-9 {
			t.Errorf("%v: %g high", shares, total)
		}
	}
}

// Cells have their place, and parts of a class are one path.
func TestGrid(t *testing.T) {
	g := &grid{
		label: `a "label" <b>`, columns: 2,
		cells:  [][]part{{{"contents", 1}}, nil, {{"super", .5}}},
		ground: []string{"free", "uninit", "free"},
		marks:  []mark{{1, "of-x", "a & b", "ring"}},
	}
	got := string(g.draw(drawn))
	want := `<svg viewBox="0 0 21.2 21.2" role="group" aria-label="a &#34;label&#34; &lt;b&gt;">` +
		`<path class="free" d="M1.2 1.2h8.8v8.8h-8.8zM1.2 11.2h8.8v8.8h-8.8z"/>` +
		`<path class="uninit" d="M11.2 1.2h8.8v8.8h-8.8z"/>` +
		`<path class="contents" d="M1.2 1.2h8.8v8.8h-8.8z"/>` +
		`<path class="super" d="M1.2 15.6h8.8v4.4h-8.8z"/>` +
		`<path class="halo" d="M10.6 0.6h10v10h-10z"/>` +
		`<a href="#of-x"><title>a &amp; b</title><rect class="ring" x="10.6" y="0.6" width="10" height="10"/></a></svg>`
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestStripAndBars(t *testing.T) {
	if got, want := string(drawStrip("x", []string{"super", "super", "free", "super"})),
		`<path class="super" d="M0 0h320v36h-320zM480 0h160v36h-160z"/><path class="free" d="M320 0h160v36h-160z"/>`; !strings.Contains(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got, want := string(drawBars("x", []float64{0, 10, 0.001}, "bar")), `d="M21.5 0h17v100h-17zM41.5 98.5h17v1.5h-17z"`; !strings.Contains(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, values := range [][]float64{nil, {0, 0}} {
		if got := string(drawBars("x", values, "bar")); strings.Contains(got, "NaN") || strings.Contains(got, "path") {
			t.Error(got)
		}
	}
}

// Text has the contrast of WCAG AA and colours that mean something are seen on the
// ground, in light, in dark and on paper; to eyes that lack one kind of cones,
// too, the colours of structures differ.
func TestColours(t *testing.T) {
	sheets := strings.Split(pageCSS, ":root{")[1:]
	if len(sheets) != 3 {
		t.Fatal(len(sheets))
	}
	for i, sheet := range sheets {
		colour := make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--(\w+):#(\w{3,6})[;}]`).FindAllStringSubmatch(sheet[:strings.Index(sheet, "}")+1], -1) {
			colour[m[1]] = parse(t, m[2])
		}
		for _, ground := range []string{"bg", "card"} {
			for _, name := range []string{"fg", "quiet", "link", "damage", "good", "warn"} {
				if c := contrast(colour[name], colour[ground]); c < 4.5 {
					t.Errorf("sheet %d: text in %s on %s has a contrast of %.2f", i, name, ground, c)
				}
			}
		}
		for name, ground := range map[string]string{"damage": "tint", "good": "tintgood", "warn": "tintwarn"} {
			if c := contrast(colour[name], colour[ground]); c < 4.5 {
				t.Errorf("sheet %d: text in %s on %s has a contrast of %.2f", i, name, ground, c)
			}
		}
		structures := []string{"super", "bitmaps", "tables", "journal", "trees", "contents", "damage"}
		for k, a := range structures {
			if c := contrast(colour[a], colour["bg"]); c < 3 {
				t.Errorf("sheet %d: %s has a contrast of %.2f", i, a, c)
			}
			for _, b := range structures[:k] {
				for eye, m := range eyes {
					if d := distance(see(m, colour[a]), see(m, colour[b])); d < 12 {
						t.Errorf("sheet %d: %s and %s are %.1f apart (%s)", i, a, b, d, eye)
					}
				}
			}
		}
	}
}

// parse returns a colour in linear light.
func parse(t *testing.T, hex string) (c [3]float64) {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	for i := range c {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		x := float64(n) / 255
		if c[i] = x / 12.92; x > 0.04045 {
			c[i] = math.Pow((x+0.055)/1.055, 2.4)
		}
	}
	return c
}

func luminance(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

func contrast(a, b [3]float64) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// eyes are the ways to see: the matrices of Machado, Oliveira and Fernandes
// (2009) for eyes that lack a kind of cones.
var eyes = map[string][3][3]float64{
	"all cones":    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"tritanopia":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

func see(m [3][3]float64, c [3]float64) (out [3]float64) {
	for i, row := range m {
		for k, x := range row {
			out[i] += x * c[k]
		}
		out[i] = min(max(out[i], 0), 1)
	}
	return out
}

// distance returns the distance of two colours in CIELAB.
func distance(a, b [3]float64) float64 {
	lab := func(c [3]float64) [3]float64 {
		f := func(t float64) float64 {
			if t > 0.008856 {
				return math.Cbrt(t)
			}
			return 7.787*t + 16.0/116
		}
		x := f((0.4124*c[0] + 0.3576*c[1] + 0.1805*c[2]) / 0.9505)
		y := f(0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2])
		z := f((0.0193*c[0] + 0.1192*c[1] + 0.9505*c[2]) / 1.089)
		return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
	}
	p, q := lab(a), lab(b)
	return math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
}
