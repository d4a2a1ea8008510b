package report

import (
	"strings"
	"testing"

	"e2qcow/scan/survey"
)

// surveyOf returns a survey of 100 cells: structures, then contents that get
// fewer, then nothing.
func surveyOf() *survey.Data {
	m := &survey.Map{Size: 16}
	for i := range 100 {
		var cell survey.Cell
		switch {
		case i < 5:
			cell[survey.Class(i)] = 16
		case i < 5+16:
			cell[survey.Contents], cell[survey.Free] = uint64(5+16-i), uint64(i-5)
		case i < 60:
			cell[survey.Free] = 16
		default:
			cell[survey.Uninit] = 16
		}
		for c, n := range cell {
			m.Totals[c] += n
		}
		m.Cells = append(m.Cells, cell)
	}
	m.Marks = []survey.Mark{{Cell: 30}}
	return &survey.Data{BlockSize: 1024, Map: m}
}

func TestWriteMap(t *testing.T) {
	for _, test := range []struct {
		o    TextOptions
		want string
	}{
		{TextOptions{Columns: 41}, "map: a character is 16 KiB, a line 640 KiB\n" +
			"SBIJT#########+++++++.........!.........\n" +
			"....................                    \n" +
			"                    \n" +
			"S superblocks, descriptors  B bitmaps\n" +
			"I inode tables  J journal\n" +
			"T trees, directories  # + contents\n" +
			". free  blank never written  ! damage\n" +
			"abc less than half\n"},
		{TextOptions{Columns: 41, Blocks: true}, "map: a character is 16 KiB, a line 640 KiB\n" +
			"\x1b[38;5;180m█\x1b[38;5;43m█\x1b[38;5;135m█\x1b[38;5;169m█\x1b[38;5;142m█\x1b[38;5;33m██▇▇▆▆▅▅▄▄▃▃▂▂▁▁\x1b[38;5;245m·········\x1b[38;5;196m!\x1b[38;5;245m·········\x1b[0m\n" +
			"\x1b[38;5;245m····················                    \x1b[0m\n" +
			"\x1b[38;5;245m                    \x1b[0m\n" +
			"\x1b[38;5;180m█\x1b[0m superblocks, descriptors  \x1b[38;5;43m█\x1b[0m bitmaps\n" +
			"\x1b[38;5;135m█\x1b[0m inode tables  \x1b[38;5;169m█\x1b[0m journal\n" +
			"\x1b[38;5;142m█\x1b[0m trees, directories  \x1b[38;5;33m█\x1b[0m contents  \x1b[38;5;245m·\x1b[0m free\n" +
			"\x1b[38;5;245mblank\x1b[0m never written  \x1b[38;5;196m!\x1b[0m damage\n"},
	} {
		var b strings.Builder
		if err := WriteMap(&b, surveyOf(), test.o); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.want {
			t.Errorf("%+v:\n%s\n%q\nwant\n%s", test.o, b.String(), b.String(), test.want)
		}
	}
}

// A map of any size has few lines, which fit.
func TestWriteMapFits(t *testing.T) {
	for _, cells := range []int{1, 59, 2048} {
		for _, columns := range []int{0, 1, 30, 80, 1000} {
			d := &survey.Data{BlockSize: 4096, Map: &survey.Map{Size: 1, Cells: make([]survey.Cell, cells)}}
			var b strings.Builder
			if err := WriteMap(&b, d, TextOptions{Columns: columns}); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) > 1+maxLines+8 {
				t.Errorf("%d cells, %d columns: %d lines", cells, columns, len(lines))
			}
			for _, line := range lines[1:] {
				if columns >= 30 && len(line) >= columns {
					t.Errorf("%d cells: a line of %d in %d columns", cells, len(line), columns)
				}
			}
		}
	}
}

func TestCanShowBlocks(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "en_GB.UTF-8", "TERM": "xterm-256color"}, true},
		{map[string]string{"LANG": "C.utf8", "TERM": "xterm", "COLORTERM": "truecolor"}, true},
		{map[string]string{"LANG": "en_GB.UTF-8", "LC_ALL": "C", "TERM": "xterm-256color"}, false},
		{map[string]string{"LANG": "en_GB.UTF-8", "TERM": "linux"}, false},
		{map[string]string{"LANG": "en_GB.UTF-8", "TERM": "xterm-256color", "NO_COLOR": "1"}, false},
		{nil, false},
	} {
		if got := CanShowBlocks(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%v: %v", test.env, got)
		}
	}
}
