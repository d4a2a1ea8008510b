package progress

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A status is what a line says.
type status struct {
	phase       string
	unit        Unit
	done, total int64
	rate        float64 // units a second; 0 where it is not known
	part        float64 // of all work, from 0 to 1
	left        time.Duration
	known       bool // whether left is known
}

// count returns how much of the phase is done, and how fast that went.
func (s status) count() string {
	text := s.unit.format(s.done)
	if s.total > 0 {
		text += " of " + s.unit.format(s.total)
	}
	if s.rate > 0 {
		text += ", " + s.unit.format(int64(s.rate)) + "/s"
	}
	return text
}

// remaining returns how much time is left, "" where that is not known.
func (s status) remaining() string {
	if !s.known || s.part == 1 || s.part == 0 && s.left < time.Second {
		return ""
	}
	return shortTime(s.left) + " left"
}

// shortTime writes a time in two units at most: 7s, 1m20s, 3h5m.
func shortTime(d time.Duration) string {
	d = d.Round(time.Second)
	hours, minutes, seconds := d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second
	switch {
	case hours >= 100:
		return fmt.Sprintf("%dh", hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// Columns of the parts of a line.
const (
	leastBar    = 6
	mostBar     = 40
	leastCounts = 42 // what the longest counts take
)

// line returns the line for a terminal of some columns, of which the last stays
// free: a line that fills the terminal would scroll. 0 columns are 80.
//
//	copy  63% ████████████▌         512 MiB of 860 MiB, 1.2 GiB/s, 3s left
//	copy  63% ███████▌   3s left
//	copy  63%
func (s status) line(columns int) string {
	if columns <= 0 {
		columns = 80
	}
	room := columns - 1
	text := fmt.Sprintf("%s %2.0f%%", s.phase, 100*s.part)
	if utf8.RuneCountInString(text) > room {
		text = text[strings.LastIndexByte(text, ' ')+1:] // the percentage
		return text[:min(len(text), max(room, 0))]
	}
	room -= utf8.RuneCountInString(text)
	var after []string
	if left := s.remaining(); left != "" && room >= len(left)+1 {
		after, room = []string{left}, room-len(left)-1
	}
	if room >= leastCounts+leastBar+1 {
		count := s.count()
		if len(after) > 0 {
			count += ","
		}
		if len(count)+leastBar+2 <= room {
			after, room = append([]string{count}, after...), room-len(count)-1
		}
	}
	if room > leastBar {
		text += " " + bar(s.part, min(room-1, mostBar))
	}
	return strings.Join(append([]string{text}, after...), " ")
}

// bar returns a bar of some columns, of which a part is filled, in eighths.
func bar(part float64, columns int) string {
	const eighths = "▏▎▍▌▋▊▉"
	filled := int(part * float64(8*columns))
	text := strings.Repeat("█", filled/8)
	if rest := filled % 8; rest > 0 {
		text += string([]rune(eighths)[rest-1])
	}
	return text + strings.Repeat(" ", columns-utf8.RuneCountInString(text))
}

// sentence returns the line of text for what is not a terminal.
func (s status) sentence() string {
	text := fmt.Sprintf("%s: %s; %.0f%% of all", s.phase, s.count(), 100*s.part)
	if left := s.remaining(); left != "" {
		text += ", " + left
	}
	return text
}
