package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// TestUnreadableStart has the first reads of a source fail, those that look
// what it is among them. The scan finds a backup of the superblock.
func TestUnreadableStart(t *testing.T) {
	binary, dir := testfs.Build(t), testfs.TempDir(t)
	source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 32 * mib}).Path
	for _, test := range []struct {
		which string // of the reads
		exit  int
		says  string
	}{
		{"1", 0, "metadata"},
		// Of the format, of a mark of a move, of the superblock: whole, by sectors,
		// one of them twice. strace counts the reads of each thread, so the second
		// sector may be lost too.
		{"1..5", 3, "could not be read and are zero in the image: bytes 1024-"},
		{"1+", 1, "source.img: no ext2, ext3 or ext4 filesystem found, but byte 1024 cannot be read: "},
	} {
		image := filepath.Join(dir, "image.qcow2")
		out, err := exec.Command("strace", "-f", "-o", os.DevNull, "-P", source, "-e", "trace=pread64",
			"-e", "inject=pread64:error=EIO:when="+test.which, string(binary), "-Q", source, image).CombinedOutput()
		exit := 0
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			exit = e.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if exit != test.exit || !strings.Contains(string(out), test.says) {
			t.Errorf("reads %s fail: exit %d, want %d and %q\n%s", test.which, exit, test.exit, test.says, out)
		}
		if _, err := os.Stat(image); (err == nil) != (test.exit != 1) {
			t.Errorf("reads %s fail: the image: %v", test.which, err)
		}
		if err := os.RemoveAll(image); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInfoUnreadable has the first reads of a source fail: info finds the copies
// of the superblock all the same, and says where no read succeeds.
func TestInfoUnreadable(t *testing.T) {
	binary := testfs.Build(t)
	source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 32 * mib}).Path
	for _, test := range []struct {
		which  string // of the reads
		option string
		exit   int
		says   []string
	}{
		{"1..4", "--json", 0, []string{`"unread": "read `, `"group": 1`}},
		{"1..10", "--search", 3, []string{"content:      not known: read ", "-b 8193 -B 1024", "bytes could not be read: a superblock there is not found"}},
		{"1+", "--search", 1, []string{"input/output error; no superblock was found; copy what can be read with ddrescue, and look at the copy\n"}},
		{"1+", "--json", 1, []string{"input/output error; no superblock was found; "}},
	} {
		out, err := exec.Command("strace", "-f", "-o", os.DevNull, "-P", source, "-e", "trace=pread64",
			"-e", "inject=pread64:error=EIO:when="+test.which, string(binary), "info", test.option, source).CombinedOutput()
		exit := 0
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			exit = e.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		for _, want := range test.says {
			if exit != test.exit || !strings.Contains(string(out), want) {
				t.Errorf("reads %s fail, %s: exit %d, want %d and %q\n%s", test.which, test.option, exit, test.exit, want, out)
			}
		}
	}
}
