package report

import (
	"fmt"
	"html"
	"html/template"
	"strconv"
	"strings"
)

// An svg is a picture in the making. Colours come from classes of the style
// sheet, so that they follow the reader's choice of light or dark.
type svg struct{ b strings.Builder }

// newSVG begins a picture of a size in its own units, which the page scales. A
// picture with links is a group for who listens to the page, else an image.
func newSVG(width, height float64, label string, links bool, stretch bool) *svg {
	s := new(svg)
	role, ratio := "img", ""
	if links {
		role = "group"
	}
	if stretch {
		ratio = ` preserveAspectRatio="none"`
	}
	fmt.Fprintf(&s.b, `<svg viewBox="0 0 %s %s"%s role="%s" aria-label="%s">`, num(width), num(height), ratio, role, html.EscapeString(label))
	return s
}

// end returns the whole picture.
func (s *svg) end() template.HTML {
	s.b.WriteString("</svg>")
	return template.HTML(s.b.String()) //nolint:gosec // numbers, names of classes, and escaped text
}

// num writes a coordinate.
func num(x float64) string {
	t := strconv.FormatFloat(x, 'f', 2, 64)
	return strings.TrimRight(strings.TrimRight(t, "0"), ".")
}

// A path is rectangles of one class, drawn as one.
type path struct{ b strings.Builder }

func (p *path) rect(x, y, w, h float64) {
	p.b.WriteString("M" + num(x) + " " + num(y) + "h" + num(w) + "v" + num(h) + "h" + num(-w) + "z")
}

// draw adds a path to the picture.
func (s *svg) draw(p *path, class string) {
	if p.b.Len() > 0 {
		fmt.Fprintf(&s.b, `<path class="%s" d="%s"/>`, class, p.b.String())
	}
}

// link adds a ring around a rectangle that leads to an element of the page, and
// a text that shows up over it.
func (s *svg) link(to, title, class string, x, y, w, h float64) {
	fmt.Fprintf(&s.b, `<a href="#%s"><title>%s</title><rect class="%s" x="%s" y="%s" width="%s" height="%s"/></a>`,
		html.EscapeString(to), html.EscapeString(title), class, num(x), num(y), num(w), num(h))
}

// ring adds a ring that leads nowhere.
func (s *svg) ring(class string, x, y, w, h float64) {
	fmt.Fprintf(&s.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, num(x), num(y), num(w), num(h))
}

// A part is one of the parts that a cell is filled with.
type part struct {
	class string
	share float64 // of the cell
}

// A mark is drawn over a cell.
type mark struct {
	cell  int
	to    string // id of the element that says more
	title string
	class string
}

// A grid is a picture of cells in rows, each filled from below with its parts.
type grid struct {
	label   string
	columns int
	cells   [][]part
	ground  []string // class behind the parts of each cell
	marks   []mark
}

const (
	pitch    = 10.0 // from cell to cell
	gap      = 1.2  // between cells
	least    = 1.4  // height of the smallest part that can be seen
	maxLinks = 256  // marks that lead somewhere; the others are rings
)

// draw returns the picture. order has the classes in the order in which they
// are filled in.
func (g *grid) draw(order []string) template.HTML {
	rows := (len(g.cells) + g.columns - 1) / g.columns
	s := newSVG(float64(g.columns)*pitch+gap, float64(rows)*pitch+gap, g.label, len(g.marks) > 0, false)
	paths := make(map[string]*path, len(order))
	for _, class := range order {
		paths[class] = new(path)
	}
	const side = pitch - gap
	for i, parts := range g.cells {
		x, y := float64(i%g.columns)*pitch+gap, float64(i/g.columns)*pitch+gap
		if p := paths[g.ground[i]]; p != nil {
			p.rect(x, y, side, side)
		}
		bottom := y + side
		for k, h := range heights(parts, side) {
			if p := paths[parts[k].class]; p != nil && h > 0 {
				p.rect(x, bottom-h, side, h)
			}
			bottom -= h
		}
	}
	for _, class := range order {
		s.draw(paths[class], class)
	}
	halo := new(path)
	for _, m := range g.marks {
		halo.rect(float64(m.cell%g.columns)*pitch+gap/2, float64(m.cell/g.columns)*pitch+gap/2, pitch, pitch)
	}
	s.draw(halo, "halo")
	for i, m := range g.marks {
		x, y := float64(m.cell%g.columns)*pitch, float64(m.cell/g.columns)*pitch
		if i < maxLinks {
			s.link(m.to, m.title, m.class, x+gap/2, y+gap/2, pitch, pitch)
		} else {
			s.ring(m.class, x+gap/2, y+gap/2, pitch, pitch)
		}
	}
	return s.end()
}

// heights returns how high the parts of a cell are: what is there can be seen,
// and together they are no higher than the cell.
func heights(parts []part, side float64) []float64 {
	list := make([]float64, len(parts))
	total := 0.0
	for k, p := range parts {
		if p.share > 0 {
			list[k] = max(p.share*side, least)
		}
		total += list[k]
	}
	if total > side {
		for k := range list {
			list[k] *= side / total
		}
	}
	return list
}

// drawStrip returns a band of columns, each of one class; columns of one class
// that follow each other are one rectangle.
func drawStrip(label string, columns []string) template.HTML {
	const width, height = 640.0, 36.0
	s := newSVG(width, height, label, false, true)
	step := width / float64(max(len(columns), 1))
	paths := make(map[string]*path)
	var order []string
	for at := 0; at < len(columns); {
		end := at + 1
		for end < len(columns) && columns[end] == columns[at] {
			end++
		}
		p := paths[columns[at]]
		if p == nil {
			p = new(path)
			paths[columns[at]] = p
			order = append(order, columns[at])
		}
		p.rect(float64(at)*step, 0, float64(end-at)*step, height)
		at = end
	}
	for _, class := range order {
		s.draw(paths[class], class)
	}
	return s.end()
}

// drawBars returns a picture of bars beside each other, as high as their values.
func drawBars(label string, values []float64, class string) template.HTML {
	const height = 100.0
	const pitch, gap = 20.0, 3.0
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	s := newSVG(float64(max(len(values), 1))*pitch, height, label, false, true)
	p := new(path)
	for i, v := range values {
		if v > 0 {
			h := max(v/highest*height, 1.5)
			p.rect(float64(i)*pitch+gap/2, height-h, pitch-gap, h)
		}
	}
	s.draw(p, class)
	return s.end()
}
