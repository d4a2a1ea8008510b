package ddrescue

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"e2qcow/internal/ranges"
)

func TestBad(t *testing.T) {
	tests := []struct {
		what, text string
		want       []ranges.Range[int64]
	}{
		{"as ddrescue 1.27 writes it", `# Mapfile. Created by GNU ddrescue version 1.27
# Command line: ddrescue /dev/sdb disk.img disk.map
# Start time:   2026-01-01 00:00:00
# Current time: 2026-01-01 00:01:00
# Finished
# current_pos  current_status  current_pass
0x00010000     +               1
#      pos        size  status
0x00000000  0x00008000  +
0x00008000  0x00000200  -
0x00008200  0x00000600  /
0x00008800  0x00000800  *
0x00009000  0x00006000  +
0x0000F000  0x00001000  ?
`, []ranges.Range[int64]{{Start: 0x8000, End: 0x9000}, {Start: 0xf000, End: math.MaxInt64}}},
		{"without a pass", "0 +\n0 512 +\n", []ranges.Range[int64]{{Start: 512, End: math.MaxInt64}}},
		{"decimal and octal", "10 ? 1\n0 010 -\n8 1000 +\n", []ranges.Range[int64]{{Start: 0, End: 8}, {Start: 1008, End: math.MaxInt64}}},
		{"with gaps", "0 ? 1\n4096 4096 +\n16384 4096 +\n", []ranges.Range[int64]{{Start: 0, End: 4096}, {Start: 8192, End: 16384}, {Start: 20480, End: math.MaxInt64}}},
		{"up to the end of any disk", "0 + 1\n0 0x7FFFFFFFFFFFFFFF +\n", nil},
		{"with comments behind", "0 + 1 # x\n0 512 - # bad\n512 512 +\n", []ranges.Range[int64]{{Start: 0, End: 512}, {Start: 1024, End: math.MaxInt64}}},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			got, err := Bad(strings.NewReader(test.text))
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestBadErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "line 0: there is no status line"},
		{"# only\n\n", "line 2: there is no status line"},
		{"0 + 1\n", "line 1: the map ends before its first area"},
		{"something else\n", "line 1: not the status line of a ddrescue map"},
		{"0 ++ 1\n", "line 1: not the status line of a ddrescue map"},
		{"0 + 1\n0 512\n", "line 2: not an area of a ddrescue map"},
		{"0 + 1\n0 512 x\n", "line 2: not an area of a ddrescue map"},
		{"0 + 1\n0 1k +\n", `line 2: "1k" is not a number of bytes`},
		{"0 + 1\n-512 512 +\n", `line 2: "-512" is not a number of bytes`},
		{"0 + 1\n0 1_0 +\n", `line 2: "1_0" is not a number of bytes`},
		{"0 + 1\n0 0x8000000000000000 +\n", `line 2: "0x8000000000000000" is not a number of bytes`},
		{"0 + 1\n1 0x7FFFFFFFFFFFFFFF +\n", "line 2: the area at 0x1 ends behind any disk"},
		{"0 + 1\n0 1024 +\n512 512 -\n", "line 3: the area at 0x200 begins before 0x400, where the last one ends"},
		{"0 + 1\n" + strings.Repeat("x", maxLine+1), "line 2: too long"},
	}
	for _, test := range tests {
		_, err := Bad(strings.NewReader(test.text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || err.Error() != test.want {
			t.Errorf("%.40q: got %v, want %s", test.text, err, test.want)
		}
	}
}

func TestTooMany(t *testing.T) {
	r := io.MultiReader(strings.NewReader("0 + 1\n"), &alternating{max: maxAreas + 1})
	if _, err := Bad(r); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
}

// alternating is the areas of a map, rescued and bad by turns.
type alternating struct {
	n, max int
	rest   []byte
}

func (a *alternating) Read(b []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.n == a.max {
			return 0, io.EOF
		}
		a.rest = fmt.Appendf(nil, "%d 1 +\n%d 1 -\n", 2*a.n, 2*a.n+1)
		a.n++
	}
	n := copy(b, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// FuzzBad has every map give areas that are ascending, disjoint and not empty.
func FuzzBad(f *testing.F) {
	f.Add("# x\n0 + 1\n0 512 +\n512 512 -\n2048 1 ?\n")
	f.Fuzz(func(t *testing.T, text string) {
		bad, err := Bad(strings.NewReader(text))
		if err != nil {
			return
		}
		last := int64(-1)
		for _, a := range bad {
			if a.Start <= last || a.Start >= a.End {
				t.Fatalf("areas %v", bad)
			}
			last = a.End
		}
	})
}
