package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"e2qcow/internal/advise"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// A page is what the template shows. Text in it is escaped by the template.
type page struct {
	Tool, Source, Title, Lede string
	State, Headline, Verdict  string
	Notes                     []string
	Style                     template.CSS

	Map  *mapView
	Head *headView

	Signs       []sign
	Sums        []sumRow
	Backups     []backupRow
	MoreBackups string

	Types  string
	Shapes []shapeView

	Findings []findingView
	NoDamage string
	Lost     *lostView
	Bits     *bitsView

	Features    []chip
	FeatureNote string
}

// WriteHTML writes the page.
func (r *Report) WriteHTML(w io.Writer) error {
	p := &page{
		Tool:   r.Tool,
		Source: shown(r.Source),
		Title:  "No filesystem that can be used",
		Style:  template.CSS(pageCSS), //nolint:gosec // ours
	}
	p.State, p.Verdict = r.verdict()
	p.Headline = map[string]string{sound: "Looks sound:", notable: "Mind:", damaged: "Damaged:"}[p.State]
	r.head(p)
	p.Map, p.Head = r.mapView(), r.headView()
	r.signs(p)
	r.shapes(p)
	r.damage(p)
	r.chips(p)
	return pageTemplate.Execute(w, p)
}

// head fills in the top of the page.
func (r *Report) head(p *page) {
	if f := r.Filesystem; f != nil {
		p.Title = f.Type + " filesystem without a label"
		if f.Label != "" {
			p.Title = fmt.Sprintf("%s %q", f.Type, f.Label)
		}
		parts := []string{advise.Size(f.Blocks, uint64(f.BlockSize)), "blocks of " + advise.Size(uint64(f.BlockSize), 1)}
		if f.Groups > 0 {
			parts = append(parts, advise.Count(uint64(f.Groups), "group"))
		}
		if f.InodeSize > 0 {
			parts = append(parts, fmt.Sprintf("inodes of %d bytes", f.InodeSize))
		}
		p.Lede = strings.Join(append(parts, "UUID "+f.UUID), ", ")
	}
	if r.Scrambled {
		p.Notes = append(p.Notes, "The source is scrambled: its names are not those of the filesystem. Sizes, times and owners are.")
	}
	if r.SuperGroup != 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("The primary superblock is bad. The page shows what the copy in group %d says.", r.SuperGroup))
	}
	if r.Replayed {
		p.Notes = append(p.Notes, "The page shows the filesystem as replay of its journal would leave it. Nothing was written.")
	}
	if r.Lacking > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("The image lacks %s that could not be read when it was made. They are zero here.", advise.Count(r.Lacking, "block")))
	}
}

// shown returns a text of the source as it can be shown: with what does not show
// itself escaped, and of a bounded length.
func shown(s string) string {
	const most = 120 // bytes
	if len(s) > most {
		return advise.Printable(s[:most]) + "…"
	}
	return advise.Printable(s)
}

// moment returns a time in UTC, or that there is none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// percent returns a share of all.
func percent(n, all uint64) string {
	switch {
	case all == 0:
		return "–"
	case n == 0:
		return "0 %"
	}
	share := 100 * float64(n) / float64(all)
	switch {
	case share < 0.1:
		return "< 0.1 %"
	case n < all && share > 99.9:
		return "> 99.9 %"
	}
	return fmt.Sprintf("%.1f %%", share)
}

// size returns the size of blocks of the filesystem.
func (r *Report) size(blocks uint64) string { return advise.Size(blocks, uint64(r.BlockSize)) }
