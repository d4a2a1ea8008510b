// Package cmdline puts the path of a disk into a command that a person gave.
//
//	e2fsck -fn {}   →   e2fsck -fn /tmp/x/disk
//	e2fsck -fn      →   e2fsck -fn /tmp/x/disk
package cmdline

import (
	"slices"
	"strings"
)

// Mark stands for the path of the disk in a command.
const Mark = "{}"

// Insert returns the words of a command with path in place of each Mark, or at
// the end where there is none.
func Insert(words []string, path string) []string {
	list := slices.Clone(words)
	found := false
	for i, w := range list {
		found = found || strings.Contains(w, Mark)
		list[i] = strings.ReplaceAll(w, Mark, path)
	}
	if !found {
		list = append(list, path)
	}
	return list
}
