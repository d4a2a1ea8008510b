// Package version says which e2qcow this is.
package version

import "runtime/debug"

// Version is that of the last release, or of the one that is being made.
const Version = "0.2.0"

// String returns the version and, where the build recorded it, the commit:
//
//	0.2.0
//	0.2.0 (1a2b3c4d5e6f)
//	0.2.0 (1a2b3c4d5e6f, changed)
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Version
	}
	return withCommit(info.Settings)
}

func withCommit(settings []debug.BuildSetting) string {
	const digits = 12 // of a commit
	commit, changed := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), digits)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if commit == "" {
		return Version
	}
	return Version + " (" + commit + changed + ")"
}
