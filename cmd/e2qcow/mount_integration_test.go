package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"e2qcow/internal/testfs"
)

// A mounted is a run of e2qcow mount.
type mounted struct {
	*exec.Cmd
	folder, disk string
	said         string // file with what it says
}

// text returns what e2qcow has said.
func (m *mounted) text() string {
	b, _ := os.ReadFile(m.said)
	return string(b)
}

// serveDisk has e2qcow mount an image; whatever becomes of the test, nothing stays
// mounted.
func serveDisk(t *testing.T, image string, options ...string) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	m := &mounted{folder: t.TempDir()}
	m.disk = filepath.Join(m.folder, "disk")
	m.Cmd = exec.Command("e2qcow", append(append([]string{"mount"}, options...), image, m.folder)...)
	m.said = filepath.Join(t.TempDir(), "said")
	said, err := os.Create(m.said)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	m.Stderr = said
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Process.Kill()
		_, _ = m.Process.Wait()
		_ = exec.Command("fusermount3", "-uz", m.folder).Run()
	})
	waitFor(t, "the disk", func() bool {
		_, err := os.Stat(m.disk)
		return err == nil
	})
	return m
}

// waitFor waits till something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// makeReport returns an image of a filesystem.
func makeReport(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, report := filepath.Join(dir, "fs.img"), filepath.Join(dir, "report.qcow2")
	testfs.Run(t, "truncate", "-s", "256M", source)
	testfs.Run(t, "mke2fs", "-qF", "-t", "ext4", source)
	testfs.Run(t, "e2qcow", "-Qz", source, report)
	return report
}

// TestMountKilled kills e2qcow while a program writes: the program gets an error,
// one command frees the folder, and the image is as it was.
func TestMountKilled(t *testing.T) {
	report := makeReport(t)
	before, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	m := serveDisk(t, report)
	f, err := os.OpenFile(m.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		defer f.Close()
		b := bytes.Repeat([]byte("x"), 1<<20)
		for n := int64(0); ; n++ {
			if _, err := f.WriteAt(b, n%256<<20); err != nil {
				written <- err
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	if err := m.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-written; !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EIO) {
		t.Errorf("the program that writes gets: %v", err)
	}
	_ = m.Wait()
	testfs.Run(t, "fusermount3", "-u", m.folder)
	if list, err := os.ReadDir(m.folder); err != nil || len(list) > 0 {
		t.Errorf("in the folder: %v, %v", list, err)
	}
	if after, err := os.ReadFile(report); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the image has changed, %v", err)
	}
}

// TestTryKilled kills the command that try runs: nothing stays, and try ends as
// the command did. The command sees no folder that others see.
func TestTryKilled(t *testing.T) {
	report := makeReport(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	folder := t.TempDir()
	cmd := exec.Command("e2qcow", "try", "--spool-dir", folder, report, "--", "sh", "-c", `stat -c %a "$(dirname "$0")"; kill -KILL $$`)
	out, err := cmd.CombinedOutput()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("%v: %s", err, out)
	}
	if !strings.HasPrefix(string(out), "700\n") || !strings.Contains(string(out), "nothing changed") {
		t.Errorf("said: %s", out)
	}
	if list, err := os.ReadDir(folder); err != nil || len(list) > 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	// SIGTERM reaches the command, which may do what it likes.
	cmd = exec.Command("e2qcow", "try", "--spool-dir", folder, report, "--", "sh", "-c", `trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done`)
	r, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 6)); err != nil {
		t.Error(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit status %d", code)
	}
}

// TestMountLoop has the kernel mount the disk and fills the filesystem. A disk that
// is in use is kept till it is not. Then the changes, as they are kept, are a clean
// filesystem.
func TestMountLoop(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a loop device")
	}
	report := makeReport(t)
	changes := filepath.Join(filepath.Dir(report), "changes.qcow2")
	m := serveDisk(t, report, "--changes", changes)
	inner := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", m.disk, inner).CombinedOutput(); err != nil {
		t.Skipf("no loop device can be mounted: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", inner).Run() })
	for _, name := range []string{"a", "b", "c"} {
		if err := os.MkdirAll(filepath.Join(inner, name, name, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(inner, "full")
	if out, err := exec.Command("dd", "if=/dev/urandom", "of="+file, "bs=1M").CombinedOutput(); err == nil || !strings.Contains(string(out), "No space left") {
		t.Errorf("filling: %v, %s", err, out)
	}
	if err := m.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the word that the disk is in use", func() bool { return strings.Contains(m.text(), "is in use") })
	testfs.Run(t, "umount", inner)
	if err := m.Wait(); err != nil {
		t.Errorf("%v: %s", err, m.text())
	}
	if !strings.Contains(m.text(), "is in use by /dev/loop") {
		t.Errorf("said: %s", m.text())
	}
	testfs.Run(t, "qemu-img", "check", changes)
	raw := filepath.Join(filepath.Dir(report), "after.img")
	testfs.Run(t, "e2qcow", "-r", "--backing", changes, raw)
	testfs.Run(t, "e2fsck", "-fn", raw)
	if st, err := os.Stat(changes); err != nil || st.Size() < 100<<20 {
		t.Errorf("the changes: %v, %v", st, err)
	}
}

// TestMountTwoSignals takes a disk from a program that does not end: the folder is
// free at once, and what was written is kept.
func TestMountTwoSignals(t *testing.T) {
	report := makeReport(t)
	changes := filepath.Join(filepath.Dir(report), "changes.qcow2")
	m := serveDisk(t, report, "--changes", changes)
	f, err := os.OpenFile(m.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("kept"), 200<<20); err != nil {
		t.Fatal(err)
	}
	_ = m.Process.Signal(syscall.SIGINT)
	waitFor(t, "the word that the disk is in use", func() bool { return strings.Contains(m.text(), "is in use") })
	_ = m.Process.Signal(syscall.SIGINT)
	if err := m.Wait(); err != nil {
		t.Errorf("%v: %s", err, m.text())
	}
	if list, err := os.ReadDir(m.folder); err != nil || len(list) > 0 {
		t.Errorf("in the folder: %v, %v", list, err)
	}
	if _, err := f.WriteAt([]byte("lost"), 0); err == nil {
		t.Error("the disk can be written to")
	}
	raw := filepath.Join(filepath.Dir(report), "after.img")
	testfs.Run(t, "qemu-img", "convert", "-O", "raw", changes, raw)
	after, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	got := make([]byte, 4)
	if _, err := after.ReadAt(got, 200<<20); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}
