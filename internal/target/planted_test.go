package target

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/internal/folder"
)

// TestFilePlanted writes where other users were before: what appears is the
// caller's, and nobody else reads it.
func TestFilePlanted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	const nobody = 65534
	for _, test := range []struct {
		what        string
		folder      os.FileMode
		folderOwner int
		file        os.FileMode
		fileOwner   int
		format      Format
		want        os.FileMode
	}{
		{"theirs in a public folder", 0o777 | os.ModeSticky, 0, 0o666, nobody, QCOW2, 0o600},
		{"theirs in a public folder, raw", 0o777, 0, 0o666, nobody, Raw, 0o600},
		{"ours in a public folder", 0o777 | os.ModeSticky, 0, 0o644, 0, QCOW2, 0o600},
		{"ours in the folder of a group", 0o770, 0, 0o666, 0, QCOW2, 0o600},
		{"ours in a folder of theirs", 0o755, nobody, 0o644, 0, QCOW2, 0o600},
		{"theirs in a folder of theirs", 0o755, nobody, 0o644, nobody, QCOW2, 0o600},
		{"theirs in a folder of ours", 0o755, 0, 0o644, nobody, QCOW2, 0o600},
		{"ours in a folder of ours", 0o755, 0, 0o644, 0, QCOW2, 0o644},
		{"a record", 0o755, 0, 0o644, 0, JSON, 0o600},
		{"an undo", 0o755, 0, 0o666, 0, Undo, 0o600},
		{"names", 0o755, 0, 0o640, 0, Names, 0o600},
	} {
		t.Run(test.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			name := filepath.Join(dir, "out")
			err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(name, nil, 0o600), os.Chmod(name, test.file), os.Chown(name, test.fileOwner, test.fileOwner),
				os.Chown(dir, test.folderOwner, test.folderOwner), os.Chmod(dir, test.folder))
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			target, err := Open(t.Context(), name, Options{Format: test.format})
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			put(t, target, "secret")
			if err := target.Commit(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(theirs); err != nil || len(b) > 0 {
				t.Errorf("who was there before reads %q, %v", b, err)
			}
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 || info.Mode() != test.want {
				t.Errorf("it is %v and belongs to %d, want %v and 0", info.Mode(), st.Uid, test.want)
			}
		})
	}
}

// TestPlantedInPlace refuses to write to what other users put into a shared
// folder, and through links of theirs.
func TestPlantedInPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	const nobody = 65534
	dir := t.TempDir()
	pub := filepath.Join(dir, "pub")
	file := func(name string, owner int) string {
		t.Helper()
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Lchown(name, owner, owner)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := errors.Join(os.Mkdir(pub, 0o700), os.Chmod(pub, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	ours, theirs, victim := file(filepath.Join(pub, "ours"), 0), file(filepath.Join(pub, "theirs"), nobody), file(filepath.Join(dir, "victim"), 0)
	hard, soft, fifo := filepath.Join(pub, "hard"), filepath.Join(pub, "soft"), filepath.Join(pub, "fifo")
	err := errors.Join(os.Link(victim, hard), os.Symlink(victim, soft), os.Lchown(soft, nobody, nobody), unix.Mkfifo(fifo, 0o666), os.Chown(fifo, nobody, nobody))
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(name string) (*Target, error){
		"in place": func(name string) (*Target, error) { return OpenInPlace(name, Options{}) },
		"a part":   func(name string) (*Target, error) { return OpenPart(name, 0, Options{Overwrite: true}, nil) },
		"anew":     func(name string) (*Target, error) { return Open(t.Context(), name, Options{Overwrite: true}) },
	}
	for way, open := range ways {
		for name, want := range map[string]error{
			ours: nil, theirs: folder.ErrForeign, hard: folder.ErrLinked, soft: folder.ErrLink, fifo: folder.ErrForeign,
		} {
			if way == "anew" && (name == theirs || name == hard) {
				want = nil // it is replaced
			}
			target, err := open(name)
			if err == nil {
				target.Close()
			}
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", way, filepath.Base(name), err, want)
			}
		}
	}
}

// TestNowhere makes no files among devices, and none for what has no name.
func TestNowhere(t *testing.T) {
	gone, err := os.CreateTemp(t.TempDir(), "gone")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if err := os.Remove(gone.Name()); err != nil {
		t.Fatal(err)
	}
	nameless := fmt.Sprintf("/proc/self/fd/%d", gone.Fd())
	for _, format := range []Format{QCOW2, Raw, JSON, Normal, Undo, Names} {
		for name, want := range map[string]error{"/dev/e2qcow-test": folder.ErrDevices, nameless: folder.ErrNoName} {
			if _, err := os.Stat(filepath.Dir(name)); err != nil {
				t.Skip("needs /dev and /proc")
			}
			if _, err := Open(t.Context(), name, Options{Format: format, Overwrite: true}); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
			if _, err := OpenPart(name, 0, Options{Format: format, Overwrite: true}, nil); !errors.Is(err, want) {
				t.Errorf("a part of %s: %v, want %v", name, err, want)
			}
			if _, err := os.Lstat(name); name != nameless && err == nil {
				t.Errorf("%s is there", name)
			}
		}
	}
}
