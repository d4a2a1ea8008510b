package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/freeze"
)

// TestMain runs the tests with a program e2qcow first in PATH: the test binary
// itself, which under that name is the tool, as it is under the name e2image.
func TestMain(m *testing.M) {
	called := filepath.Base(os.Args[0])
	if called == "e2qcow" || called == "e2image" || freeze.IsChild(os.Args) {
		main()
	}
	os.Exit(withTool(m.Run))
}

func withTool(run func() int) int {
	dir, err := os.MkdirTemp("", "e2qcow-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "e2qcow"))
	}
	if err == nil {
		err = os.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}
