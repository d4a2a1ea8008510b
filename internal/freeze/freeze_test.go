package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"e2qcow/internal/testfs"
)

func TestMain(m *testing.M) {
	if IsChild(os.Args) {
		os.Exit(Child(os.Args))
	}
	if len(os.Args) == 2 && os.Args[0] == "holder" {
		os.Exit(hold(os.Args[1]))
	}
	os.Exit(m.Run())
}

// hold freezes what is mounted at point, says so, and waits to be killed.
func hold(point string) int {
	_, err := Start(context.Background(), point, device(point), time.Minute, nil)
	fmt.Println(err)
	time.Sleep(time.Minute)
	return 1
}

func device(point string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		panic(err)
	}
	//nolint:unconvert // Dev is narrower on some architectures.
	return uint64(st.Dev)
}

// mounted returns where a new filesystem is mounted till the end of the test.
func mounted(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts filesystems")
	}
	point := t.TempDir()
	image := testfs.Copy(t, testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4", Size: 16 << 20}).Path)
	testfs.Run(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() {
		if err := testfs.Unmount(point); err != nil {
			t.Error(err)
		}
	})
	return point
}

// write writes to the filesystem, and tells when it has.
func write(t *testing.T, point string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(point, "file"), []byte("x"), 0o600) }()
	return done
}

// within waits for ch, but no longer than that.
func within[T any](t *testing.T, what string, ch <-chan T, limit time.Duration) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(limit):
		t.Fatalf("%s takes more than %v", what, limit)
		panic("not reached")
	}
}

const soon = 10 * time.Second

// start freezes, and returns what lost is told too.
func start(t *testing.T, point string, stall time.Duration) (*Frozen, <-chan error) {
	t.Helper()
	lost := make(chan error, 1)
	f, err := Start(t.Context(), point, device(point), stall, func(err error) { lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Thaw() })
	return f, lost
}

func TestFreeze(t *testing.T) {
	point := mounted(t)
	f, lost := start(t, point, time.Minute)
	done := write(t, point)
	select {
	case err := <-done:
		t.Fatalf("written while frozen: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := Start(t.Context(), point, device(point), time.Minute, nil); !errors.Is(err, ErrFrozen) || !strings.HasPrefix(err.Error(), point+" is frozen") {
		t.Errorf("frozen again: %v", err)
	}
	for range 2 {
		if err := f.Thaw(); err != nil {
			t.Errorf("thaw: %v", err)
		}
	}
	if err := within(t, "a write after the thaw", done, soon); err != nil {
		t.Error(err)
	}
	if len(lost) > 0 {
		t.Errorf("lost: %v", <-lost)
	}
}

// TestBeats stays frozen longer than the time of stall, and no longer than that
// without beats.
func TestBeats(t *testing.T) {
	point := mounted(t)
	const stall = 3 * time.Second // a beat may come late on a busy machine
	f, lost := start(t, point, stall)
	done := write(t, point)
	for range 40 {
		f.Beat()
		time.Sleep(stall / 30)
	}
	select {
	case err := <-lost:
		t.Fatalf("lost in spite of beats: %v", err)
	case err := <-done:
		t.Fatalf("written while frozen: %v", err)
	default:
	}
	if err := within(t, "a stall", lost, soon); !errors.Is(err, ErrStalled) {
		t.Errorf("lost: %v", err)
	}
	if err := within(t, "a write after a stall", done, soon); err != nil {
		t.Error(err)
	}
	if err := f.Thaw(); !errors.Is(err, ErrStalled) {
		t.Errorf("thaw: %v", err)
	}
}

// TestThawedByOthers has someone else thaw it.
func TestThawedByOthers(t *testing.T) {
	point := mounted(t)
	f, _ := start(t, point, time.Minute)
	if err := ioctl(f.dir.Fd(), fiThaw); err != nil {
		t.Fatal(err)
	}
	if err := f.Thaw(); !errors.Is(err, ErrThawed) {
		t.Errorf("thaw: %v", err)
	}
}

// TestChildKilled kills the child: first with what a person sends, then for
// good.
func TestChildKilled(t *testing.T) {
	point := mounted(t)
	f, lost := start(t, point, time.Minute)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGALRM} {
		if err := f.child.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	done := write(t, point)
	select {
	case err := <-lost:
		t.Fatalf("lost: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := f.child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "to notice", lost, soon); !errors.Is(err, ErrKilled) {
		t.Errorf("lost: %v", err)
	}
	if err := within(t, "a write", done, soon); err != nil {
		t.Error(err)
	}
	if err := f.Thaw(); !errors.Is(err, ErrKilled) {
		t.Errorf("thaw: %v", err)
	}
}

// TestParentKilled kills the process that asked for the freeze, and its group.
func TestParentKilled(t *testing.T) {
	point := mounted(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"holder", point}, Stdout: w, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil || line != "<nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	done := write(t, point)
	time.Sleep(50 * time.Millisecond)
	if len(done) > 0 {
		t.Fatal("written while frozen")
	}
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the thaw", done, soon); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// TestStartFails has what cannot be frozen.
func TestStartFails(t *testing.T) {
	point := mounted(t)
	if _, err := Start(t.Context(), point, device("/dev"), time.Minute, nil); !errors.Is(err, ErrHidden) {
		t.Errorf("another device: %v", err)
	}
	if _, err := Start(t.Context(), "/dev", device("/dev"), time.Minute, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no filesystem of a device: %v", err)
	}
	if _, err := Start(t.Context(), filepath.Join(point, "nowhere"), 0, time.Minute, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nowhere: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if f, err := Start(ctx, point, device(point), time.Minute, nil); err == nil {
		_ = f.Thaw() // it was faster
	} else if !errors.Is(err, enough) {
		t.Errorf("cancelled: %v", err)
	}
	if err := within(t, "a write", write(t, point), soon); err != nil {
		t.Error(err)
	}
}

func TestSaid(t *testing.T) {
	f := &Frozen{point: "/mnt"}
	for line, want := range map[string]error{
		"":                                ErrKilled,
		"F":                               ErrKilled,
		"T0\n":                            nil,
		"S0\n":                            ErrStalled,
		fmt.Sprintf("T%d\n", unix.EINVAL): ErrThawed,
		fmt.Sprintf("S%d\n", unix.EINVAL): ErrThawed,
		fmt.Sprintf("F%d\n", unix.EBUSY):  ErrFrozen,
		fmt.Sprintf("F%d\n", unix.EPERM):  ErrPermission,
		fmt.Sprintf("F%d\n", unix.EIO):    unix.EIO,
	} {
		if err := f.said(bufio.NewReader(strings.NewReader(line)), saidThawed); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%q: got %v, want %v", line, err, want)
		}
	}
}
