package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLock locks a file by several names: one open file has the lock at a time.
func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(name, name+".linked"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, name+".symlink"); err != nil {
		t.Fatal(err)
	}
	first, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Lock(first); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{name, name + ".linked", name + ".symlink"} {
		second, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		err = Lock(second)
		var locked *LockedError
		if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) {
			t.Fatalf("%s: %v", name, err)
		}
		if locked.PID != 0 && locked.PID != os.Getpid() {
			t.Errorf("%s: locked by %d, not by %d", name, locked.PID, os.Getpid())
		}
	}
	first.Close()
	third, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if err := Lock(third); err != nil {
		t.Error(err)
	}
}

// TestHolder reads who has locked a file from what procfs shows.
func TestHolder(t *testing.T) {
	proc := t.TempDir()
	f, err := os.Create(filepath.Join(proc, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := stat(f)
	if err != nil {
		t.Fatal(err)
	}
	st.Dev, st.Ino = 0x802, 5678
	if err := os.Mkdir(filepath.Join(proc, "1234"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "1234", "comm"), []byte("e2qcow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{
		"1: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF": 1234,
		"1: FLOCK  ADVISORY  WRITE 1234 08:03:5678 0 EOF": 0,
		"1: POSIX  ADVISORY  WRITE 1234 08:02:5678 0 EOF": 0,
		"1: FLOCK  ADVISORY  WRITE -1 08:02:5678 0 EOF":   0,
		"1: FLOCK  ADVISORY  WRITE 99 08:02:5678 0 EOF":   0, // gone
		"1: FLOCK": 0,
	} {
		if err := os.WriteFile(filepath.Join(proc, "locks"), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		e := system{proc: proc}.holder("disk", &st)
		if e.PID != want {
			t.Errorf("%s: process %d, not %d", line, e.PID, want)
		}
		if text := e.Error(); want > 0 && !strings.HasSuffix(text, "by process 1234 (e2qcow)") {
			t.Error(text)
		}
	}
}
