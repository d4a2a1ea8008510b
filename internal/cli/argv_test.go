package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

// e2imageFlags are the options of e2image, and some of the long kind.
func e2imageFlags() []cli.Flag {
	list := []cli.Flag{
		&cli.StringFlag{Name: "blocksize", Aliases: []string{"B"}},
		&cli.StringFlag{Name: "superblock", Aliases: []string{"b"}},
		&cli.StringFlag{Name: "source-offset", Aliases: []string{"o"}},
		&cli.StringFlag{Name: "target-offset", Aliases: []string{"O"}},
		&impliedFlag{StringFlag: cli.StringFlag{Name: "compress", Aliases: []string{"z"}}, value: "zlib", words: []string{"zlib", "zstd"}},
	}
	for name, short := range map[string]string{
		"all": "a", "compare": "c", "force": "f", "install": "I", "dry-run": "n",
		"progress": "p", "qcow2": "Q", "raw": "r", "scramble": "s",
	} {
		list = append(list, &cli.BoolFlag{Name: name, Aliases: []string{short}})
	}
	return list
}

func TestNormalise(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", "--"},
		{"dev file", "-- dev file"},
		{"-Q dev meta.qcow2", "--qcow2 -- dev meta.qcow2"},
		{"-Qf dev -", "--qcow2 --force -- dev -"},
		{"-r meta.qcow2 raw.img", "--raw -- meta.qcow2 raw.img"},
		{"dev -Q meta.qcow2 -f", "--qcow2 --force -- dev meta.qcow2"},
		{"-ra -O 1048576 img dev", "--raw --all --target-offset=1048576 -- img dev"},
		{"-O1048576 img dev", "--target-offset=1048576 -- img dev"},
		{"-raO1048576 img dev", "--raw --all --target-offset=1048576 -- img dev"},
		{"-raO 1048576 img dev", "--raw --all --target-offset=1048576 -- img dev"},
		{"-rao1048576 -O 512 dev", "--raw --all --source-offset=1048576 --target-offset=512 -- dev"},
		{"-r -b 8193 -B 1024 dev raw", "--raw --superblock=8193 --blocksize=1024 -- dev raw"},
		{"-rb8193 -B1024 dev raw", "--raw --superblock=8193 --blocksize=1024 -- dev raw"},
		{"-Ifcnps dev file", "--install --force --compare --dry-run --progress --scramble -- dev file"},
		{"-r dev --superblock=8193 raw", "--raw --superblock=8193 -- dev raw"},
		{"--raw dev --superblock 8193 raw", "--raw --superblock=8193 -- dev raw"},
		{"-b -5 dev", "--superblock=-5 -- dev"},
		{"--superblock= dev", "--superblock= -- dev"},
		{"--superblock=a=b dev", "--superblock=a=b -- dev"},
		{"-Q -- -dev -- -f", "--qcow2 -- -dev -- -f"},
		{"-b -- dev", "--superblock=-- -- dev"},
		{"-QQ dev out", "--qcow2 --qcow2 -- dev out"},
		{"--compress -Q dev out", "--compress=zlib --qcow2 -- dev out"},
		{"--compress=zstd -Q dev out", "--compress=zstd --qcow2 -- dev out"},
		{"-zQ dev out", "--compress=zlib --qcow2 -- dev out"},
		{"-Qz dev out", "--qcow2 --compress=zlib -- dev out"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			got, _, err := normalise(strings.Fields(test.line), e2imageFlags())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(test.want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNormaliseErrors(t *testing.T) {
	tests := []struct{ line, want string }{
		{"-x dev", "unknown option -x"},
		{"-Qx dev", "unknown option -x in -Qx"},
		{"--nonsense dev", "unknown option --nonsense"},
		{"--Q dev", "unknown option --Q"},
		{"--=5 dev", "unknown option --"},
		{"-superblock 5", "unknown option -u in -superblock"},
		{"-é dev", "unknown option -é"},
		{"--raw=yes dev", "option --raw takes no value"},
		{"-Qf=yes dev", "option -f takes no value"},
		{"-Qz=zstd dev out", "option -z: write the value behind the long name: --compress=zstd"},
		{"dev -b", "option -b needs a value"},
		{"dev --superblock", "option --superblock needs a value"},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			_, _, err := normalise(strings.Fields(test.line), e2imageFlags())
			var usage *app.UsageError
			if !errors.As(err, &usage) || err.Error() != test.want {
				t.Errorf("got %v, want the usage error %q", err, test.want)
			}
		})
	}
}

// TestNormaliseHint has options that swallow an operand, or leave their value
// to be one, named where operands are too few or too many.
func TestNormaliseHint(t *testing.T) {
	for _, test := range []struct {
		line     string
		operands int
		want     string
	}{
		{"-Q --superblock dev out", -1, "x; \"dev\" was taken as the value of option --superblock"},
		{"-Q --superblock=1 out", -1, "x"},
		{"-Q --compress zstd dev out", 1, "x; write the value behind the long name: --compress=zstd"},
		{"-Qz zstd dev out", 1, "x; write the value behind the long name: --compress=zstd"},
		{"-Qz lz4 dev out", 1, "x"},
		{"-Q -b 1 dev out more", 1, "x"},
		{"-Qz -b 1 zstd dev", 0, "x"},
	} {
		_, hint, err := normalise(strings.Fields(test.line), e2imageFlags())
		if err != nil {
			t.Fatal(err)
		}
		e := &app.UsageError{What: "x", Operands: test.operands}
		if hint(e); e.What != test.want {
			t.Errorf("%s: %q, want %q", test.line, e.What, test.want)
		}
	}
}

// FuzzNormalise has every command line either refused or taken by package cli.
func FuzzNormalise(f *testing.F) {
	for _, line := range []string{"-Qf a b", "-raO1 -- -x", "--compress -b -5", "-\xff a", "--superblock= -"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args, _, err := normalise(strings.Split(line, " "), e2imageFlags())
		if err != nil {
			return
		}
		ran := false
		app := &cli.App{
			Flags:           e2imageFlags(),
			HideHelp:        true,
			HideHelpCommand: true,
			OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return err },
			Action:          func(*cli.Context) error { ran = true; return nil },
		}
		if err := app.Run(append([]string{"e2qcow"}, args...)); err != nil || !ran {
			t.Errorf("%q became %q, which is not taken: %v", line, args, err)
		}
	})
}
