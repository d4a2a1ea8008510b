package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"e2qcow/internal/testfs"
)

// killedAt runs the tool till it first calls that system call on a file, where
// it is killed; false says that it did not call it.
func killedAt(t *testing.T, tool testfs.Tool, syscall, file string, args ...string) bool {
	t.Helper()
	trace := filepath.Join(testfs.TempDir(t), "trace")
	cmd := exec.Command("strace", append([]string{"-qq", "-f", "-o", trace, "-P", file, "-e", "trace=" + syscall, "-e", "inject=" + syscall + ":signal=KILL", string(tool)}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() >= 0 && cmd.ProcessState.ExitCode() < 128 {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return err != nil
}

// TestMoveChanged kills a move at each of its steps. Then the filesystem is
// written to wherever it looks like one, or the journal is deleted: what follows
// is a filesystem that is whole, or a refusal that names a way that leads there.
func TestMoveChanged(t *testing.T) {
	tool := testfs.Build(t)
	fs := filledDisk(t, 34)
	places := [][2]int64{{1 * mib, 0}, {0, 40 * mib}, {100 * mib, 1 * mib}}
	if testing.Short() {
		places = places[:2]
	}
	for _, m := range places {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			from, to := m[0], m[1]
			disk := diskWith(t, tool, fs, from)
			folder := testfs.TempDir(t)
			journal := filepath.Join(folder, "journal")
			args := []string{"-ra", "-o", fmt.Sprint(from), "-O", fmt.Sprint(to), "--journal=" + journal, disk}
			for step := 0; ; step++ {
				syscall, file := "fsync", disk
				switch {
				case step == 0:
					syscall = "pwrite64"
				case step%2 == 1:
					file = journal
				}
				if !killedAt(t, tool, syscall, file, args...) {
					break
				}
				c := changed{tool: tool, from: from, to: to, disk: disk, journal: journal, folder: folder}
				for _, at := range []int64{from, to} {
					if hasSuperblock(t, disk, at) {
						c.written(t, at)
					}
				}
				c.deleted(t)
				if t.Failed() {
					t.Fatalf("killed at step %d", step)
				}
			}
			sound(t, disk, to)
		})
	}
}

// hasSuperblock tells whether a disk looks like a filesystem at a byte.
func hasSuperblock(t *testing.T, disk string, at int64) bool {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	magic := make([]byte, 2)
	_, err = f.ReadAt(magic, at+1024+0x38)
	return err == nil && string(magic) == "\x53\xef"
}

// A changed is a move that was killed, of which copies are changed.
type changed struct {
	tool          testfs.Tool
	from, to      int64
	disk, journal string
	folder        string // for copies
}

// copied returns a copy of a file, of that name, in place of one that was made
// before.
func (c *changed) copied(t *testing.T, from, name string) string {
	t.Helper()
	to := filepath.Join(c.folder, name)
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return to
}

// written has somebody write to the filesystem at a byte of the disk, and
// resumes.
func (c *changed) written(t *testing.T, at int64) {
	t.Helper()
	disk, journal := c.copied(t, c.disk, "copy"), c.copied(t, c.journal, "copied-journal")
	time.Sleep(1100 * time.Millisecond) // superblocks count seconds
	testfs.DebugfsWrite(t, fmt.Sprint(disk, "?offset=", at), "mkdir /new")
	before := c.copied(t, disk, "before")
	r := c.tool.Run(t, "-ra", "--journal="+journal, disk)
	switch {
	case r.Exit == 0 && at == c.to, r.Exit == 0 && strings.Contains(r.Stderr, "nothing was moved"):
		sound(t, disk, c.to)
	case r.Exit == 0:
		t.Errorf("written to at the old place, byte %d, and resumed:\n%s", at, r.Stderr)
	case testfs.Difference(t, before, disk) >= 0:
		t.Errorf("refused, and written to:\n%s", r.Stderr)
	case strings.Contains(r.Stderr, "remove the journal and run the command again"):
		os.Remove(journal)
		if r := c.tool.Run(t, "-ra", "-o", fmt.Sprint(c.from), "-O", fmt.Sprint(c.to), "--journal="+journal, disk); r.Exit != 0 {
			t.Errorf("begun anew: exit %d\n%s", r.Exit, r.Stderr)
		}
		sound(t, disk, c.to)
		if v := testfs.Debugfs(t, fmt.Sprint(disk, "?offset=", c.to), "stat /new"); !strings.Contains(v.Text, "directory") {
			t.Errorf("what was written is not there:\n%s", v.Text)
		}
	default:
		t.Errorf("written to at byte %d: exit %d, and no way on\n%s", at, r.Exit, r.Stderr)
	}
}

// deleted gives the command again with another journal. Where the filesystem is
// in pieces, nothing is to be written, so that no copy is needed.
func (c *changed) deleted(t *testing.T) {
	t.Helper()
	disk, whole := c.disk, hasSuperblock(t, c.disk, c.from)
	if whole {
		disk = c.copied(t, c.disk, "copy")
	}
	other := filepath.Join(c.folder, "other-journal")
	defer os.Remove(other)
	r := c.tool.Run(t, "-raf", "-o", fmt.Sprint(c.from), "-O", fmt.Sprint(c.to), "--journal="+other, disk)
	switch {
	case whole && r.Exit == 0:
		sound(t, disk, c.to)
	case whole && !strings.Contains(r.Stderr, "--overwrite"), !whole && r.Exit != 1:
		t.Errorf("another journal, whole %v: exit %d\n%s", whole, r.Exit, r.Stderr)
	}
}

// sound asks e2fsck about the filesystem at a byte of a disk, and compares the
// largest file with what filledDisk makes.
func sound(t *testing.T, disk string, at int64) {
	t.Helper()
	name := fmt.Sprint(disk, "?offset=", at)
	if v := testfs.Fsck(t, name, "-fn"); v.Exit != 0 {
		t.Errorf("e2fsck -fn at byte %d: %s", at, v.Text)
	}
	dir := testfs.TempDir(t)
	defer os.RemoveAll(dir)
	got := filepath.Join(dir, "got")
	testfs.Debugfs(t, name, "dump /big "+got)
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := bigFile(34); !bytes.Equal(b, want) {
		t.Errorf("the contents of a file are others, at byte %d", at)
	}
}
