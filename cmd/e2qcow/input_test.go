package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/ext"
)

func TestFormatOf(t *testing.T) {
	head := func(magic string, isExt bool, n int) []byte {
		b := make([]byte, headSize)
		copy(b, magic)
		if isExt {
			copy(b[ext.SuperblockOffset+56:], "\x53\xef")
		}
		return b[:n]
	}
	for _, test := range []struct {
		what string
		head []byte
		want format
		err  error
	}{
		{"nothing", nil, formatRaw, nil},
		{"three bytes", []byte("QFI"), formatRaw, nil},
		{"zeros", head("", false, headSize), formatRaw, nil},
		{"ext", head("", true, headSize), formatRaw, nil},
		{"qcow2", head("QFI\xfb", false, headSize), formatQCOW2, nil},
		{"a short qcow2", head("QFI\xfb", true, 1000), formatQCOW2, nil},
		{"both", head("QFI\xfb", true, headSize), formatAny, errAmbiguous},
	} {
		if got, err := formatOf(test.head); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, %v", test.what, got, err)
		}
	}
}

func TestSpoolTrouble(t *testing.T) {
	at := func(path string) error {
		return fmt.Errorf("spool: %w", &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC})
	}
	for _, test := range []struct {
		err  error
		dir  string
		want string
	}{
		{nil, "/tmp", ""},
		{at("/tmp/qcow2-spool-1"), "/tmp/", "temporary file in /tmp/: no space left on device; name another folder with --spool-dir or TMPDIR"},
		{at(filepath.Join(os.TempDir(), "e2qcow-spool-1")), "", "temporary file in " + os.TempDir() + ": no space left on device; name another folder with --spool-dir or TMPDIR"},
		{at("/var/qcow2-spool-1"), "/tmp", "spool: write /var/qcow2-spool-1: no space left on device; nothing usable is left there; make room or name another target"},
		{at("/tmp/fifo"), "/tmp", "spool: write /tmp/fifo: no space left on device; nothing usable is left there; make room or name another target"},
	} {
		got := ""
		if err := spoolTrouble(test.err, test.dir); err != nil {
			got = explain(err)
		}
		if got != test.want {
			t.Errorf("%v in %q: got %q, want %q", test.err, test.dir, got, test.want)
		}
	}
}

func TestBackingPath(t *testing.T) {
	for _, test := range []struct {
		dir, name, want string // "" is refused
	}{
		{".", "base.qcow2", "base.qcow2"},
		{".", "sub/base.qcow2", "sub/base.qcow2"},
		{".", "./sub//../base.qcow2", "base.qcow2"},
		{"sub", "base.qcow2", "sub/base.qcow2"},
		{"sub", "../base.qcow2", "base.qcow2"},
		{"sub", "../../base.qcow2", ""},
		{".", "../images/base.qcow2", ""},
		{".", "/vm/images/base.qcow2", "base.qcow2"},
		{"sub", "/vm/images/base.qcow2", "base.qcow2"},
		{".", "/vm/images", "."},
		{".", "/vm/images2/base.qcow2", ""},
		{".", "/etc/shadow", ""},
		{".", "", ""},
		{".", "json:{\"file.filename\":\"x\"}", ""},
		{".", "nbd://host/x", ""},
		{".", "sub/a:b", "sub/a:b"},
	} {
		got, err := backingPath("/vm/images", test.dir, test.name)
		if got != test.want || (err == nil) != (test.want != "") || err != nil && !errors.Is(err, errBackingOutside) {
			t.Errorf("%q in %q: got %q, %v, want %q", test.name, test.dir, got, err, test.want)
		}
	}
}
