package app

import (
	"errors"
	"testing"
)

func TestDeviceName(t *testing.T) {
	for _, name := range []string{"/dev/sdb1", "file", "-", "./LABEL=x", "label=x", "LABEL=", "NAME=x"} {
		if got, err := DeviceName(name); got != name || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"LABEL=no such label here", "UUID=00000000-1111-2222-3333-444444444444", "PARTUUID=no-such", `PARTLABEL="no such"`} {
		if got, err := DeviceName(name); !errors.Is(err, errNoDevice) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if got := udevName("my disk/é"); got != `my\x20disk\x2fé` {
		t.Errorf("got %s", got)
	}
}
