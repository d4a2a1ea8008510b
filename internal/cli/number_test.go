package cli

import (
	"context"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestSizeOf(t *testing.T) {
	parse := func(text string) (n uint64, err error) {
		app := &cli.App{
			Flags:     []cli.Flag{&cli.StringFlag{Name: "size"}},
			Writer:    io.Discard,
			ErrWriter: io.Discard,
			Action:    func(c *cli.Context) error { n, err = sizeOf(c, "size", 0, math.MaxInt64); return nil },
		}
		if err := app.RunContext(context.Background(), []string{"x", "--size=" + text}); err != nil {
			t.Fatal(err)
		}
		return n, err
	}
	for text, want := range map[string]uint64{
		"0": 0, "1048576": 1 << 20, "0x100000": 1 << 20, "1M": 1 << 20, "1m": 1 << 20, "1MiB": 1 << 20, "2048s": 1 << 20,
		"0x800s": 1 << 20, "32K": 32 << 10, "3G": 3 << 30, "0xE": 14, "0x1E": 30, "7E": 7 << 60, "2T": 2 << 40, "1P": 1 << 50,
	} {
		if n, err := parse(text); err != nil || n != want {
			t.Errorf("%s: %d, %v; want %d", text, n, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "not a size", "M": "not a size", "s": "not a size", "-1": "not from 0 to", "-1M": "not from 0 to", "-": "not a size", "--1": "not a size", "1.5M": "not a size", "1X": "not a size",
		"0x": "not a size", "1_000": "not a size", "0x1_0": "not a size", "1MB": "not a size", "1 M": "not a size", "iB": "not a size",
		"0100": "octal", "8E": "not from 0 to", "99999999999999999999": "not from 0 to", "99999999999999999999T": "not from 0 to",
	} {
		if n, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v; want %s", text, n, err, want)
		}
	}
}
