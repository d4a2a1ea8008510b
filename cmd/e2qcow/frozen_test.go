package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"e2qcow/internal/testfs"
)

// mountImage makes a filesystem and mounts it till the end of the test. Like
// any other file, image is in a folder of its own.
func mountImage(t *testing.T, options string) (image, point string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts filesystems")
	}
	image = testfs.Make(t, testfs.Spec{Mke2fs: options, Size: 64 << 20}).Path
	point = filepath.Join(filepath.Dir(image), "point")
	if err := os.Mkdir(point, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, point).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := testfs.Unmount(point); err != nil {
			t.Error(err)
		}
	})
	return image, point
}

// load has files and folders come, change and go below dir till stop is called.
func load(t *testing.T, dir string) (stop func()) {
	t.Helper()
	ended := make(chan struct{})
	var workers sync.WaitGroup
	for worker := range 3 {
		random := rand.New(rand.NewPCG(7, uint64(worker)))
		workers.Go(func() {
			own := filepath.Join(dir, fmt.Sprint(worker))
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				if err := change(own, random, i); err != nil && !errors.Is(err, unix.ENOSPC) {
					t.Errorf("load: %v", err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(ended)
		workers.Wait()
	})
}

// change makes one of the changes of load.
func change(own string, random *rand.Rand, i int) error {
	folder := filepath.Join(own, fmt.Sprint(random.IntN(8)))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	name := filepath.Join(folder, strings.Repeat("n", 1+random.IntN(100))+fmt.Sprint(random.IntN(50)))
	switch random.IntN(6) {
	case 0:
		return os.RemoveAll(folder)
	case 1:
		_ = os.Symlink(strings.Repeat("link", 30), name)
		return nil
	case 2:
		_ = os.Rename(name, filepath.Join(own, fmt.Sprint(i)))
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENAMETOOLONG) {
		return nil // a symlink, or a folder that went
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("x"), random.IntN(20000))); err != nil {
		return err
	}
	if random.IntN(10) == 0 {
		_ = unix.Fsetxattr(int(f.Fd()), "user.x", []byte("value"), 0)
		return f.Sync()
	}
	return nil
}

// TestFreeze dumps filesystems that are in use, FREEZE times each: 3 if that is
// not set.
func TestFreeze(t *testing.T) {
	rounds := environment(t, "FREEZE", 3)
	for _, c := range []struct {
		name, options string
		orphan        bool // a file that was removed is held open
	}{
		{"ext4", "-t ext4", false},
		{"orphan", "-t ext4 -O ^orphan_file", true},
		{"orphan_file", "-t ext4 -O orphan_file", true},
		{"ext2", "-t ext2 -b 1024", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			image, point := mountImage(t, c.options)
			stop := load(t, point)
			defer stop()
			for round := range rounds {
				if c.orphan {
					f, err := os.Create(filepath.Join(point, "orphan"))
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					if err := os.Remove(f.Name()); err != nil {
						t.Fatal(err)
					}
				}
				checkFrozenDump(t, image, filepath.Dir(image), point, c.orphan)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
		})
	}
}

// checkFrozenDump dumps a filesystem while it is frozen, and has e2fsck look.
func checkFrozenDump(t *testing.T, image, dir, point string, orphan bool) {
	t.Helper()
	dump, restored := filepath.Join(dir, "dump.qcow2"), filepath.Join(dir, "restored.img")
	out, err := exec.Command("e2qcow", "-Q", "--freeze", image, dump).CombinedOutput()
	if want := "e2qcow: " + point + " was frozen for "; err != nil || !strings.Contains(string(out), want) {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("e2qcow", "-r", dump, restored).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if orphan {
		out, err := exec.Command("e2fsck", "-fp", restored).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			t.Errorf("e2fsck -fp: %v\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for _, line := range lines[:len(lines)-1] { // the last sums up
			if !aboutOrphans.MatchString(line) {
				t.Errorf("e2fsck -fp says %q", line)
			}
		}
	}
	if v := testfs.Fsck(t, restored, "-fn"); v.Exit != 0 {
		t.Errorf("e2fsck -fn: exit %d\n%s", v.Exit, v.Text)
	}
}

// aboutOrphans is what e2fsck says when it clears orphans.
var aboutOrphans = regexp.MustCompile(`: (Clearing|Truncating) orphaned inode |: Orphan file \(inode \d+\) block \d+ is not clean\.$|^CLEARED\.$`)

// written tells when something could be written to the filesystem.
func written(point string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		if os.WriteFile(filepath.Join(point, "written"), nil, 0o600) == nil {
			close(done)
		}
	}()
	return done
}

// startFrozen starts a restore of a frozen filesystem to a pipe that nobody
// reads, so that it stays in the middle of its work, and returns when it is
// there.
func startFrozen(t *testing.T, image, point string) (cmd *exec.Cmd, stdout *os.File, done <-chan struct{}) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd = exec.Command("e2qcow", "-r", "--freeze", image, "-")
	cmd.Stdout, cmd.Stderr = w, new(bytes.Buffer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil { // it writes, so it has frozen
		t.Fatal(err)
	}
	done = written(point)
	select {
	case <-done:
		t.Fatal("the filesystem is not frozen")
	case <-time.After(100 * time.Millisecond):
	}
	return cmd, r, done
}

// TestFreezeKilled kills the dump of a frozen filesystem, which is thawed all
// the same.
func TestFreezeKilled(t *testing.T) {
	image, point := mountImage(t, "-t ext4")
	for _, s := range []unix.Signal{unix.SIGKILL, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT} {
		cmd, _, done := startFrozen(t, image, point)
		if err := unix.Kill(-cmd.Process.Pid, s); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		case <-time.After(20 * time.Second): // it would stay frozen for 30
			t.Fatalf("%v: it stays frozen", s)
		}
	}
}

// TestFreezeThawed has someone else thaw the filesystem: there is no image.
func TestFreezeThawed(t *testing.T) {
	image, point := mountImage(t, "-t ext4")
	cmd, stdout, done := startFrozen(t, image, point)
	if out, err := exec.Command("fsfreeze", "-u", point).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	<-done
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	want := "e2qcow: " + point + " was thawed by someone else; nothing usable is left; try again when no other program freezes the filesystem\n"
	if said := fmt.Sprint(cmd.Stderr); err == nil || cmd.ProcessState.ExitCode() != 1 || said != want {
		t.Errorf("%v, %q; want %q", err, said, want)
	}
}
