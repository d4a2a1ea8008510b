package cmdline

import (
	"strings"
	"testing"
)

func TestInsert(t *testing.T) {
	for line, want := range map[string]string{
		"e2fsck -fn {}":     "e2fsck -fn DISK",
		"e2fsck -fn":        "e2fsck -fn DISK",
		"cmp {} before-{}x": "cmp DISK before-DISKx",
		"true":              "true DISK",
	} {
		words := strings.Fields(line)
		if got := strings.Join(Insert(words, "DISK"), " "); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
		if strings.Join(words, " ") != line {
			t.Errorf("%q: the words became %q", line, words)
		}
	}
}
