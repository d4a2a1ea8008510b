package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"e2qcow/internal/testfs"
)

// TestProgressNarrow runs commands on a terminal of 20 columns: the bar stays on
// its line, never goes back, and is taken away before the first message.
func TestProgressNarrow(t *testing.T) {
	source := makeFilesystem(t)
	folder := testfs.TempDir(t)
	image := filepath.Join(folder, "image")
	for _, args := range [][]string{
		{"-Q", source, image},
		{"-Qs", source, filepath.Join(folder, "scrambled")},
		{"-Qz", source, filepath.Join(folder, "compressed")},
		{"-r", image, filepath.Join(folder, "raw")},
		{"check", image},
		{"diff", source, image},
	} {
		const columns = 20
		master, tty := testfs.Terminal(t, columns)
		cmd := exec.Command("e2qcow", args...)
		cmd.Stderr = tty
		text := make(chan string)
		go func() {
			b, _ := io.ReadAll(master) // ends with EIO when the tty is closed
			text <- string(b)
		}()
		err := cmd.Run()
		tty.Close()
		got := <-text
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, got)
		}
		const erase = "\x1b[K"
		end := strings.LastIndex(got, erase)
		if end < 0 && got == "" && args[0] == "check" {
			continue // it was done before there was anything to show
		}
		if end < 0 {
			t.Errorf("%v: no bar in %q", args, got)
			continue
		}
		bar := got[:end]
		if strings.Contains(bar, "\n") {
			t.Errorf("%v: the bar scrolls: %q", args, bar)
		}
		last := 0
		for line := range strings.SplitSeq(strings.ReplaceAll(bar, erase, ""), "\r") {
			if n := utf8.RuneCountInString(line); n >= columns {
				t.Errorf("%v: a line of %d columns: %q", args, n, line)
			}
			if m := regexp.MustCompile(`(\d+)%`).FindStringSubmatch(line); m != nil {
				part, _ := strconv.Atoi(m[1])
				if part < last {
					t.Errorf("%v: the bar goes from %d%% back to %d%%", args, last, part)
				}
				last = part
			}
		}
	}
}
