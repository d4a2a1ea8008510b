package ddrescue

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/ranges"
)

// TestWriteDomain reads a domain again: what is not finished there is what is
// between the ranges.
func TestWriteDomain(t *testing.T) {
	type r = ranges.Range[int64]
	for _, test := range []struct {
		list  []r
		total int64
		lines string
	}{
		{nil, 0, "0x00000000  0x00010000  ?"},
		{[]r{{Start: 0, End: 0x10000}}, 0x10000, "0x00000000  0x00010000  +"},
		{[]r{{Start: 0, End: 0x200}, {Start: 0x200, End: 0x400}, {Start: 0x1000, End: 0x1200}}, 0x600,
			"0x00000000  0x00000400  +\n0x00000400  0x00000C00  ?\n0x00001000  0x00000200  +\n0x00001200  0x0000EE00  ?"},
		{[]r{{Start: 0xFE00, End: 0x20000}, {Start: 0x30000, End: 0x40000}}, 0x200, "0x00000000  0x0000FE00  ?\n0x0000FE00  0x00000200  +"},
	} {
		var b bytes.Buffer
		total, err := WriteDomain(&b, 0x10000, "a comment", slices.Values(test.list))
		if err != nil || total != test.total {
			t.Errorf("%v: %d bytes, %v", test.list, total, err)
		}
		_, lines, _ := strings.Cut(b.String(), "status\n")
		if diff := cmp.Diff(test.lines+"\n", lines); diff != "" {
			t.Errorf("%v: %s", test.list, diff)
		}
		if _, err := Bad(bytes.NewReader(b.Bytes())); err != nil {
			t.Errorf("%v: the map cannot be read: %v", test.list, err)
		}
	}
}
