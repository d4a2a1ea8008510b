package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
)

// TestUnreadableStart has the first reads of a source fail, those that look
// what it is among them. The scan finds a backup of the superblock.
func TestUnreadableStart(t *testing.T) {
	binary, dir := testfs.Build(t), testfs.TempDir(t)
	source := filepath.Join(dir, "source.img")
	if err := os.WriteFile(source, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(source, 32<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", source).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	for _, test := range []struct {
		which string // of the reads
		exit  int
	}{
		{"1", 0},
		{"1..4", 3}, // the superblock's sectors, one of them twice
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
		if exit != test.exit {
			t.Errorf("reads %s fail: exit %d, want %d\n%s", test.which, exit, test.exit, out)
		}
		if _, err := os.Stat(image); err != nil {
			t.Error(err)
		}
	}
}
