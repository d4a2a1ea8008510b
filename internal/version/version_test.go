package version

import (
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}
	for _, test := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, Version},
		{[]debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, Version + " (0123456789ab)"},
		{[]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, revision}, Version + " (0123456789ab, changed)"},
	} {
		if got := withCommit(test.settings); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	if got := String(); got[:min(len(got), len(Version))] != Version {
		t.Errorf("got %q", got)
	}
}
