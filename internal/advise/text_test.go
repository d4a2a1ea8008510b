package advise

import "testing"

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0:         "0 blocks",
		1:         "1 block",
		2:         "2 blocks",
		1234567:   "1,234,567 blocks",
		1<<64 - 1: "9,223,372,036,854,775,807 blocks",
	} {
		if got := Count(n, "block"); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 1048576: "1048576 bytes"} {
		if got := ExactBytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for _, test := range []struct {
		n, unit uint64
		want    string
	}{
		{0, 1024, "0 B"},
		{1 << 20, 4096, "4.0 GiB"},
		{1 << 63, 65536, "of impossible size"},
	} {
		if got := Size(test.n, test.unit); got != test.want {
			t.Errorf("%d of %d: got %q, want %q", test.n, test.unit, got, test.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, Ümlaut, 中":      "plain, Ümlaut, 中",
		"a\nb\tc\x00":           `a\nb\tc\x00`,
		"\x1b[31mred\x7f":       `\x1b[31mred\x7f`,
		"\u202eright to left":   `\u202eright to left`,
		"\x9bH is not text":     `\x9bH is not text`,
		`"quoted" and 'quoted'`: `"quoted" and 'quoted'`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
