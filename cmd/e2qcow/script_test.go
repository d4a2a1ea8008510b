package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"e2qcow/internal/testfs"
)

// TestScript runs the command lines in testdata/script.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"loop":  loop,
			"mount": mount,
			"swap":  swap,
		},
	})
}

// condition reports whether a script runs as root, or where FUSE is.
func condition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Geteuid() == 0, nil
	case "fuse":
		_, err := os.Stat("/dev/fuse")
		if os.Geteuid() != 0 && err == nil {
			_, err = exec.LookPath("fusermount3")
		}
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// loop attaches a loop device to a file and puts its name into a variable.
//
//	loop VARIABLE FILE [OPTION OF LOSETUP]...
func loop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: loop VARIABLE FILE [OPTION]...")
	}
	device := output(ts, "losetup", append(args[2:], "-f", "--show", ts.MkAbs(args[1]))...)
	ts.Defer(func() { output(ts, "losetup", "-d", device) })
	ts.Setenv(args[0], device)
}

// mount mounts something till the end of the script.
//
//	mount [OPTION]... DEVICE FOLDER
func mount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mount [OPTION]... DEVICE FOLDER")
	}
	folder := ts.MkAbs(args[len(args)-1])
	output(ts, "mount", append(args[:len(args)-1], folder)...)
	ts.Defer(func() {
		if err := testfs.Unmount(folder); err != nil {
			ts.Fatalf("%v", err)
		}
	})
}

// swap swaps to a device till the end of the script.
//
//	swap DEVICE
func swap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: swap DEVICE")
	}
	output(ts, "swapon", args[0])
	ts.Defer(func() { output(ts, "swapoff", args[0]) })
}

func output(ts *testscript.TestScript, name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		ts.Fatalf("%s %q: %v\n%s", name, args, err, text)
	}
	return text
}
