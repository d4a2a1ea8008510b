package main

import (
	"errors"
	"testing"

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
