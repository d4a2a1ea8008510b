package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/scan/survey"
)

// TextOptions say what a terminal can show.
type TextOptions struct {
	Columns int  // 0 for 80
	Blocks  bool // block characters in 256 colours; else ASCII
}

// A style is how a terminal shows a class.
type style struct {
	letter byte // in ASCII
	colour int  // of the 256
	name   string
}

var styles = [survey.Classes]style{
	survey.Super:      {'S', 180, "superblocks, descriptors"},
	survey.Bitmaps:    {'B', 43, "bitmaps"},
	survey.Tables:     {'I', 135, "inode tables"},
	survey.JournalLog: {'J', 169, "journal"},
	survey.Trees:      {'T', 142, "trees, directories"},
	survey.Contents:   {'#', 33, "contents"},
	survey.Free:       {'.', 245, "free"},
	survey.Uninit:     {' ', 245, "never written"},
	survey.Unknown:    {'?', 245, "not known"},
}

// maxLines is how many lines a map has on a terminal.
const maxLines = 6

// WriteMap writes the map of a survey in a few lines of text. It writes nothing
// if the survey has no map.
func WriteMap(out io.Writer, d *survey.Data, o TextOptions) error {
	if d.Map == nil || len(d.Map.Cells) == 0 {
		return nil
	}
	const least, most = 20, 128
	columns := o.Columns
	if columns <= 0 {
		columns = 80
	}
	columns = min(max(columns-1, least), most) // a full line would wrap on some terminals
	cells, marks := merge(d.Map, columns*maxLines)
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "map: a character is %s, a line %s\n", advise.Size(cells.Size, uint64(d.BlockSize)), advise.Size(cells.Size*uint64(columns), uint64(d.BlockSize)))
	last := -1
	for i, cell := range cells.Cells {
		text, colour := symbol(cell, marks[i], o.Blocks)
		if o.Blocks && colour != last {
			fmt.Fprintf(w, "\x1b[38;5;%dm", colour)
			last = colour
		}
		_, _ = w.WriteString(text)
		if (i+1)%columns == 0 || i == len(cells.Cells)-1 {
			if o.Blocks {
				_, _ = w.WriteString("\x1b[0m")
				last = -1
			}
			_, _ = w.WriteString("\n")
		}
	}
	writeLegend(w, d.Map, len(d.Map.Marks) > 0, columns, o.Blocks)
	return w.Flush()
}

// merge returns a map of at most n cells, and which of them are marked.
func merge(m *survey.Map, n int) (*survey.Map, []bool) {
	per := (len(m.Cells) + n - 1) / n
	out := &survey.Map{First: m.First, Size: m.Size * uint64(per), Cells: make([]survey.Cell, (len(m.Cells)+per-1)/per)}
	marks := make([]bool, len(out.Cells))
	for i, cell := range m.Cells {
		for c, blocks := range cell {
			out.Cells[i/per][c] += blocks
		}
	}
	for _, mark := range m.Marks {
		marks[mark.Cell/per] = true
	}
	return out, marks
}

const markColour = 196

// symbol returns the character for a cell, and its colour. A block is as high as
// the part of the cell that is in use.
func symbol(cell survey.Cell, marked, blocks bool) (string, int) {
	if marked {
		return "!", markColour
	}
	used, total := uint64(0), uint64(0)
	best, rest := survey.Super, survey.Free
	for c, n := range cell {
		total += n
		switch c := survey.Class(c); {
		case c <= survey.Contents:
			if used += n; n > cell[best] {
				best = c
			}
		case n > cell[rest]:
			rest = c
		}
	}
	switch {
	case used == 0 && blocks && rest == survey.Free:
		return "·", styles[rest].colour
	case used == 0 || !blocks && used < total/16:
		return string(styles[rest].letter), styles[rest].colour
	case !blocks && used < total/2 && best == survey.Contents:
		return "+", 0
	case !blocks && used < total/2:
		return strings.ToLower(string(styles[best].letter)), 0
	case !blocks:
		return string(styles[best].letter), 0
	}
	const heights = "▁▂▃▄▅▆▇█"
	eighth := (used*8 + total - 1) / total
	return string([]rune(heights)[min(eighth, 8)-1]), styles[best].colour
}

// writeLegend says what the characters stand for.
func writeLegend(w *bufio.Writer, m *survey.Map, marked bool, columns int, blocks bool) {
	line := 0
	entry := func(symbol string, colour int, name string) {
		text := symbol + " " + name
		if n := len([]rune(text)); line > 0 && line+2+n > columns {
			_, _ = w.WriteString("\n")
			line = 0
		} else if line > 0 {
			_, _ = w.WriteString("  ")
			line += 2
		}
		line += len([]rune(text))
		if blocks {
			text = fmt.Sprintf("\x1b[38;5;%dm%s\x1b[0m %s", colour, symbol, name)
		}
		_, _ = w.WriteString(text)
	}
	for c, s := range styles {
		if m.Totals[c] == 0 {
			continue
		}
		symbol := string(s.letter)
		switch c := survey.Class(c); {
		case blocks && c <= survey.Contents:
			symbol = "█"
		case blocks && c == survey.Free:
			symbol = "·"
		case c == survey.Contents:
			symbol = "# +"
		case c == survey.Uninit:
			symbol = "blank"
		}
		entry(symbol, s.colour, s.name)
	}
	if marked {
		entry("!", markColour, "damage")
	}
	if !blocks {
		entry("abc", 0, "less than half")
	}
	if line > 0 {
		_, _ = w.WriteString("\n")
	}
}

// CanShowBlocks reports whether a terminal with these variables of the
// environment shows block characters in 256 colours.
func CanShowBlocks(getenv func(string) string) bool {
	locale := getenv("LANG")
	for _, name := range []string{"LC_ALL", "LC_CTYPE"} {
		if value := getenv(name); value != "" {
			locale = value
			break
		}
	}
	locale = strings.ToUpper(strings.ReplaceAll(locale, "-", ""))
	terminal, colours := getenv("TERM"), getenv("COLORTERM")
	return getenv("NO_COLOR") == "" && strings.Contains(locale, "UTF8") &&
		(strings.Contains(terminal, "256color") || colours == "truecolor" || colours == "24bit")
}
