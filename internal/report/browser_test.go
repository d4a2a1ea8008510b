package report

import (
	"bytes"
	"errors"
	"image"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/app"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

// disks are filesystems of all kinds that a report may be of.
func disks(t *testing.T) map[string]disk {
	t.Helper()
	sample := func(change func([]byte)) disk {
		b := testfs.Sample("../..")
		change(b)
		return disk{bytes.NewReader(b), int64(len(b))}
	}
	made := func(options string, size int64) disk {
		f, err := os.Open(testfs.Make(t, testfs.Spec{Mke2fs: options, Size: size}).Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return disk{f, size}
	}
	list := map[string]disk{
		"sound":      sample(func([]byte) {}),
		"no primary": sample(func(b []byte) { clear(b[:2048]) }),
		"damaged": sample(func(b []byte) {
			bitmap := b[194*1024:]
			for bit := 3000; bit < 3500; bit++ {
				bitmap[bit/8] &^= 1 << (bit % 8)
			}
			b[200*1024+19*256+42] = 0xff // no extent header in inode 20
		}),
		"many problems": sample(func(b []byte) {
			r := rand.New(rand.NewSource(1))
			for range 20000 { // in inode tables, directories and the bitmaps
				b[(194+r.Intn(400))*1024+r.Intn(1024)] = byte(r.Intn(256))
			}
		}),
		"empty":  made("-t ext4 -b 4096", 64<<20),
		"60 KiB": made("-t ext2 -b 1024 -N 16", 60<<10),
	}
	unreadable := sample(func([]byte) {})
	list["unreadable"] = disk{badSectors{unreadable.ReaderAt, 203 * 1024, 205 * 1024}, unreadable.size}
	if !testing.Short() {
		list["60 TiB"] = made("-t ext4 -i 67108864 -O ^resize_inode", 60<<40)
	}
	return list
}

type disk struct {
	io.ReaderAt
	size int64
}

// badSectors cannot be read between two bytes.
type badSectors struct {
	io.ReaderAt
	start, end int64
}

func (b badSectors) ReadAt(p []byte, off int64) (int, error) {
	if off < b.end && off+int64(len(p)) > b.start {
		return 0, errors.New("bad sector")
	}
	return b.ReaderAt.ReadAt(p, off)
}

// page returns the page of a disk.
func pageOf(t *testing.T, d disk) string {
	t.Helper()
	res, err := scan.Scan(t.Context(), d, d.size, survey.Watch(scan.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	data, err := survey.Gather(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{Source: "disk", Tool: "e2qcow", Data: data}
	if res.Super() != nil {
		r.Filesystem = app.Describe(d, res.Super())
	}
	return write(t, r)
}

// Chromium shows the page of any filesystem without a complaint and without
// asking for anything, on a phone, on a screen and on paper, to eyes and ears;
// and sees where a filesystem is damaged.
func TestBrowser(t *testing.T) {
	b := newBrowser(t)
	pages := map[string]string{"full": write(t, full())}
	for name, d := range disks(t) {
		pages[name] = pageOf(t, d)
	}
	pictures := make(map[string]map[string]image.Image)
	regions := []string{".map svg", ".verdict", "#damage", "#shape"}
	for name, html := range pages {
		if len(html) > 1<<20 {
			t.Errorf("%s: %d bytes", name, len(html))
		}
		b.media("light")
		b.size(1280, 900)
		b.open(html)
		b.checkWidths(name)
		b.checkTree(name, html)
		b.checkPaper(name)
		b.size(1280, 900)
		pictures[name] = make(map[string]image.Image)
		for _, region := range regions {
			pictures[name][region] = b.picture(region)
		}
		if name == "damaged" {
			b.media("dark")
			if same(pictures[name][".map svg"], b.picture(".map svg")) {
				t.Error("the map is the same in light and in dark")
			}
		}
		if dir := os.Getenv("REPORT_PAGES"); dir != "" { // to look at
			if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".html"), []byte(html), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name, region string
		same         bool
	}{
		{"damaged", ".map svg", false},
		{"damaged", ".verdict", false},
		{"damaged", "#damage", false},
		{"unreadable", ".map svg", false},
		{"unreadable", ".verdict", false},
		{"many problems", ".map svg", false},
	} {
		if same(pictures["sound"][test.region], pictures[test.name][test.region]) {
			t.Errorf("%s of the sound and of the %s filesystem look the same", test.region, test.name)
		}
	}
	if again := pageOf(t, disks(t)["sound"]); again != pages["sound"] {
		t.Error("a filesystem has two pages")
	}
}

// checkWidths looks whether all of the page can be seen without scrolling
// sideways.
func (b *browser) checkWidths(name string) {
	for _, width := range []int{360, 1280} {
		b.size(width, 900)
		var got int
		if b.eval("document.documentElement.scrollWidth", &got); got > width {
			var wide string
			b.eval(`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide"))
				.map(e => e.tagName + "." + e.className).slice(0, 5).join(" ")`, &wide)
			b.t.Errorf("%s is %d pixels wide in a window of %d: %s", name, got, width, wide)
		}
	}
}

// checkTree looks at what a screen reader is told: the headings in their order,
// names of pictures, and a table for each.
func (b *browser) checkTree(name, html string) {
	var tree struct {
		Nodes []struct {
			Role, Name struct{ Value any }
			Ignored    bool
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	var headings []string
	pictures, tables := 0, 0
	for _, n := range tree.Nodes {
		text, _ := n.Name.Value.(string)
		switch n.Role.Value {
		case "heading":
			headings = append(headings, text)
		case "image", "img", "SvgRoot":
			if pictures++; text == "" && !n.Ignored {
				b.t.Errorf("%s: a picture without a name", name)
			}
		case "table":
			tables++
		case "link":
			if text == "" {
				b.t.Errorf("%s: a link without a name", name)
			}
		}
	}
	at := 0
	for _, want := range []string{"Map", "Vital signs", "Shape", "Damage", "Features"} {
		for at < len(headings) && headings[at] != want {
			at++
		}
		if at == len(headings) {
			b.t.Errorf("%s: no heading %q in its place in %q", name, want, headings)
			return
		}
	}
	if strings.Contains(html, `class="map"`) && tables == 0 {
		b.t.Errorf("%s: no table beside the pictures", name)
	}
}

// checkPaper prints the page on A4.
func (b *browser) checkPaper(name string) {
	var pdf struct{ Data string }
	b.call("Page.printToPDF", map[string]any{"preferCSSPageSize": true}, &pdf)
	if len(pdf.Data) < 1000 {
		b.t.Errorf("%s: nothing on paper", name)
	}
}

// same reports whether two pictures are the same, dot for dot.
func same(a, b image.Image) bool {
	if a == nil || b == nil || a.Bounds() != b.Bounds() {
		return false
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				return false
			}
		}
	}
	return true
}
