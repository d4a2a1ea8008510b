package advise

import (
	"slices"
	"strings"
	"testing"

	"e2qcow/internal/signature"
)

// TestEveryContentHasAHint has something to do for all that is recognised, and
// says nothing of what is not.
func TestEveryContentHasAHint(t *testing.T) {
	names := signature.Names()
	for _, name := range names {
		hint := OnContent(signature.Signature{Name: name}, 0)
		if (hint == "") != (name == signature.Ext) || strings.Contains(hint, "\n") || strings.HasSuffix(hint, ".") {
			t.Errorf("%s: %q", name, hint)
		}
	}
	for name := range onContents {
		if !slices.Contains(names, name) {
			t.Errorf("%s is never found", name)
		}
	}
}

// TestPlaces says where the data of members begin, as -o takes it, from the start
// of the source.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		s     signature.Signature
		start int64
		want  string // "" for no place
	}{
		{signature.Signature{Name: signature.RAID, Level: 1, Data: 8 << 20, Devices: 2}, 0, "-o 8M"},
		{signature.Signature{Name: signature.RAID, Level: 1, Data: 8 << 20, Devices: 2}, 1 << 20, "-o 9M"},
		{signature.Signature{Name: signature.RAID, Level: 1, Devices: 2}, 1 << 20, "-o 1M"},
		{signature.Signature{Name: signature.RAID, Level: 1, Devices: 2}, 0, ""},
		{signature.Signature{Name: signature.RAID, Level: 5, Data: 8 << 20, Devices: 3}, 0, ""},
		{signature.Signature{Name: signature.RAID}, 0, ""},
		{signature.Signature{Name: signature.Bcache, Data: 8 << 10}, 0, "-o 8K"},
		{signature.Signature{Name: signature.Bcache, Data: 8 << 10}, 63 * 512, "-o 79s"},
		{signature.Signature{Name: signature.Bcache}, 0, ""},
		{signature.Signature{Name: signature.BcacheCache}, 0, ""},
	} {
		hint := OnContent(c.s, c.start)
		if c.want == "" && strings.Contains(hint, "-o ") || !strings.HasSuffix(hint, c.want) {
			t.Errorf("%+v at %d: %q, want %q", c.s, c.start, hint, c.want)
		}
	}
}
