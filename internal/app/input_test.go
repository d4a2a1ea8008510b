package app

import (
	"errors"
	"testing"

	"e2qcow/ext"
)

func TestFormatOf(t *testing.T) {
	head := func(magic string, isExt bool, n int) []byte {
		b := make([]byte, HeadSize)
		copy(b, magic)
		if isExt {
			copy(b[ext.SuperblockOffset+56:], "\x53\xef")
		}
		return b[:n]
	}
	for _, test := range []struct {
		what string
		head []byte
		want Format
		err  error
	}{
		{"nothing", nil, FormatRaw, nil},
		{"three bytes", []byte("QFI"), FormatRaw, nil},
		{"zeros", head("", false, HeadSize), FormatRaw, nil},
		{"ext", head("", true, HeadSize), FormatRaw, nil},
		{"qcow2", head("QFI\xfb", false, HeadSize), FormatQCOW2, nil},
		{"a short qcow2", head("QFI\xfb", true, 1000), FormatQCOW2, nil},
		{"both", head("QFI\xfb", true, HeadSize), FormatAny, errAmbiguous},
	} {
		if got, err := FormatOf(test.head); got != test.want || !errors.Is(err, test.err) {
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
