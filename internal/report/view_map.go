package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/scan/survey"
)

// classNames are what the legend calls the classes.
var classNames = [survey.Classes]string{
	survey.Super:      "Superblocks and descriptors",
	survey.Bitmaps:    "Bitmaps",
	survey.Tables:     "Inode tables",
	survey.JournalLog: "Journal",
	survey.Trees:      "Directories, trees, attributes",
	survey.Contents:   "Contents of files",
	survey.Free:       "Free",
	survey.Uninit:     "Free, bitmap never written",
	survey.Unknown:    "Not known",
}

// classStyles are the names of the classes in the style sheet.
var classStyles = [survey.Classes]string{
	survey.Super: "super", survey.Bitmaps: "bitmaps", survey.Tables: "tables", survey.JournalLog: "journal", survey.Trees: "trees",
	survey.Contents: "contents", survey.Free: "free", survey.Uninit: "uninit", survey.Unknown: "unknown",
}

// drawn are the classes in the order in which they are drawn over each other.
var drawn = []string{"free", "uninit", "unknown", "contents", "trees", "journal", "tables", "bitmaps", "super"}

type legendRow struct{ Class, Name, Blocks, Size, Share string }

type markRow struct{ Where, To, What, Count, First string }

type mapView struct {
	Caption     string
	Picture     template.HTML
	Legend      []legendRow
	MarkCaption string
	Marks       []markRow
	MoreMarks   int
}

// maxMarkRows is how many marks are listed beside the picture.
const maxMarkRows = 100

func (r *Report) mapView() *mapView {
	m := r.Map
	if m == nil || len(m.Cells) == 0 {
		return nil
	}
	columns := min(64, len(m.Cells))
	v := &mapView{Caption: fmt.Sprintf("The device from its start, line by line. A cell is %s (%s), a line %s. "+
		"A cell is filled from below with what it holds.", r.size(m.Size), advise.Count(m.Size, "block"), r.size(m.Size*uint64(columns)))}
	if groups := r.Groups; groups > 0 && m.Size > 0 {
		if per := r.Blocks / uint64(groups); m.Size > per+per/2 {
			v.Caption += fmt.Sprintf(" That is about %d groups a cell.", (m.Size+per/2)/per)
		}
	}
	g := &grid{label: "Map of the device. The table below has the same in numbers.", columns: columns}
	for _, cell := range m.Cells {
		total := uint64(0)
		for _, n := range cell {
			total += n
		}
		var parts []part
		for c := range survey.Free {
			if cell[c] > 0 {
				parts = append(parts, part{classStyles[c], float64(cell[c]) / float64(max(total, 1))})
			}
		}
		ground := survey.Free
		for c := survey.Free; c < survey.Classes; c++ {
			if cell[c] > cell[ground] {
				ground = c
			}
		}
		g.cells, g.ground = append(g.cells, parts), append(g.ground, classStyles[ground])
	}
	r.marks(g, v)
	v.Picture = g.draw(drawn)
	for c := range survey.Classes {
		if n := m.Totals[c]; n > 0 {
			v.Legend = append(v.Legend, legendRow{classStyles[c], classNames[c], advise.Comma(n), r.size(n), percent(n, r.Blocks)})
		}
	}
	return v
}

// maxTitle is how many kinds of damage the text of a mark names.
const maxTitle = 3

// marks adds a mark for each cell in which something is wrong.
func (r *Report) marks(g *grid, v *mapView) {
	m := r.Map
	for i := 0; i < len(m.Marks); {
		cell := m.Marks[i].Cell
		from := m.First + uint64(cell)*m.Size
		at := mark{cell: cell, class: "ring", to: idOf(m.Marks[i].Kind)}
		var titles []string
		for ; i < len(m.Marks) && m.Marks[i].Cell == cell; i++ {
			x := m.Marks[i]
			if x.Kind == survey.KindUnreadable {
				at.class = "lost"
			}
			titles = append(titles, fmt.Sprintf("%s (%s), first: %s", titleOf(x.Kind), advise.Comma(x.Count), shown(x.First)))
			if len(v.Marks) == maxMarkRows {
				v.MoreMarks++
				continue
			}
			v.Marks = append(v.Marks, markRow{
				Where: fmt.Sprintf("blocks %d–%d", from, min(from+m.Size, r.Blocks)-1), To: idOf(x.Kind),
				What: titleOf(x.Kind), Count: advise.Comma(x.Count), First: shown(x.First),
			})
		}
		if n := len(titles) - maxTitle; n > 0 {
			titles = append(titles[:maxTitle], fmt.Sprintf("and %d more kinds", n))
		}
		at.title = fmt.Sprintf("From block %d: %s", from, strings.Join(titles, "; "))
		g.marks = append(g.marks, at)
	}
	if n := len(g.marks); n > 0 {
		v.MarkCaption = fmt.Sprintf("Something is wrong in %s. A mark leads to what it is.", advise.Count(n, "cell"))
		if slices.ContainsFunc(g.marks, func(m mark) bool { return m.class == "lost" }) {
			v.MarkCaption += " Filled marks: metadata there cannot be read."
		}
	}
}

type runRow struct{ Start, Count, Class, Name string }

type headView struct {
	Caption string
	Picture template.HTML
	Axis    []string
	Runs    []runRow
}

func (r *Report) headView() *headView {
	if r.Head == nil || len(r.Head.Columns) == 0 {
		return nil
	}
	h := r.Head
	columns := make([]string, len(h.Columns))
	for i, c := range h.Columns {
		columns[i] = classStyles[c]
	}
	end := uint64(len(columns)) * h.Size
	v := &headView{
		Caption: fmt.Sprintf("The first %s enlarged. A column is %s; where it holds structures, it has the colour of one of these.",
			r.size(min(end, max(r.Blocks, 1))), advise.Count(h.Size, "block")),
		Picture: drawStrip("The head of the device. The table below has the same in numbers.", columns),
	}
	for i := range 3 {
		v.Axis = append(v.Axis, "block "+advise.Comma(uint64(math.Round(float64(min(end, r.Blocks))*float64(i)/2))))
	}
	for _, s := range h.Runs {
		v.Runs = append(v.Runs, runRow{advise.Comma(s.Start), advise.Comma(s.Count), classStyles[s.Class], classNames[s.Class]})
	}
	return v
}
