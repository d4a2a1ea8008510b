package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is another user than the caller, who is root then.
const nobody = 65534

// needRoot skips a test that has files belong to others.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to other users")
	}
}

// shared returns a folder that others write to, with a file of theirs, one of
// root's, and links to a file elsewhere.
func shared(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	pub := filepath.Join(dir, "pub")
	err := errors.Join(
		os.Mkdir(pub, 0o700), os.Chmod(pub, 0o777|os.ModeSticky),
		os.WriteFile(filepath.Join(dir, "victim"), []byte("precious"), 0o600),
		os.Mkdir(filepath.Join(dir, "elsewhere"), 0o700),
		os.WriteFile(filepath.Join(pub, "theirs"), nil, 0o666), os.Lchown(filepath.Join(pub, "theirs"), nobody, nobody),
		os.WriteFile(filepath.Join(pub, "ours"), nil, 0o600),
		os.Link(filepath.Join(dir, "victim"), filepath.Join(pub, "hard")),
		os.Symlink("../victim", filepath.Join(pub, "planted")), os.Lchown(filepath.Join(pub, "planted"), nobody, nobody),
		os.Symlink("../elsewhere", filepath.Join(pub, "folder")), os.Lchown(filepath.Join(pub, "folder"), nobody, nobody),
		os.Symlink("../victim", filepath.Join(pub, "own")),
		os.Symlink("pub/planted", filepath.Join(dir, "chain")),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFindPlanted follows no link that another user put into a shared folder.
func TestFindPlanted(t *testing.T) {
	dir := shared(t)
	for name, want := range map[string]error{
		"pub/planted":                    ErrLink,
		"pub/folder/new":                 ErrLink,
		"chain":                          ErrLink,
		"pub/../pub/planted":             ErrLink,
		"pub/own":                        nil,
		"pub/theirs":                     nil,
		"pub/new":                        nil,
		"elsewhere/../pub/../elsewhere/": nil,
		"none/new":                       fs.ErrNotExist,
		"victim/new":                     unix.ENOTDIR,
	} {
		e, err := Find(filepath.Join(dir, ".") + "/" + name)
		if err == nil {
			e.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestCheck refuses to change files where they are that others put there.
func TestCheck(t *testing.T) {
	dir := shared(t)
	if err := os.Chmod(filepath.Join(dir, "pub", "ours"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"pub/theirs": ErrForeign, "pub/hard": ErrLinked, "pub/ours": nil, "victim": nil} {
		e, err := Find(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := e.Open(os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(f); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		f.Close()
		e.Close()
	}
}

// TestOpenOwn opens only what nobody but the caller and root can have written.
func TestOpenOwn(t *testing.T) {
	dir := shared(t)
	for name, mode := range map[string]os.FileMode{"group": 0o620, "all": 0o602, "read": 0o644} {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), nil, 0o600), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.WriteFile(filepath.Join(dir, "given"), nil, 0o600), os.Chown(filepath.Join(dir, "given"), nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"victim": nil, "read": nil, "pub/ours": nil,
		"pub/theirs": ErrExposed, "group": ErrExposed, "all": ErrExposed, "given": ErrExposed,
		"pub/hard": ErrLinked, "pub/planted": ErrLink, "pub/own": ErrKind, "chain": ErrKind,
		"fifo": ErrKind, "elsewhere": unix.EISDIR, "none": fs.ErrNotExist,
	} {
		f, err := OpenOwn(filepath.Join(dir, name), os.O_RDWR)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestOpenFiles follows what procfs shows of open files to their names, and says
// of one that has none that it has none.
func TestOpenFiles(t *testing.T) {
	if _, err := os.Stat(openFiles); err != nil {
		t.Skip("needs /proc")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	link := openFiles + "/" + strconv.Itoa(int(f.Fd()))
	find := func() error {
		e, err := Find(link)
		if err != nil {
			return err
		}
		defer e.Close()
		found, err := e.Open(os.O_RDONLY)
		if err != nil {
			return err
		}
		defer found.Close()
		want, err1 := f.Stat()
		got, err2 := found.Stat()
		if err := errors.Join(err1, err2); err != nil || !os.SameFile(got, want) {
			t.Errorf("%s is found elsewhere, %v", link, err)
		}
		return nil
	}
	if err := find(); err != nil {
		t.Error(err)
	}
	// Another file has its name; then there is one that is called "(deleted)".
	if err := errors.Join(os.Rename(name, name+"2"), os.WriteFile(name, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := find(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(name+"2"), os.WriteFile(name+"2 (deleted)", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := find(); !errors.Is(err, ErrNoName) {
		t.Errorf("a file that was deleted: %v", err)
	}
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	defer memory.Close()
	link = openFiles + "/" + strconv.Itoa(int(memory.Fd()))
	if err := find(); !errors.Is(err, ErrNoName) {
		t.Errorf("a file in memory: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	e, err := Find(openFiles + "/" + strconv.Itoa(int(w.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p, err := e.Open(os.O_WRONLY)
	if err != nil {
		t.Fatalf("a pipe: %v", err)
	}
	p.Close()
}

// TestCheckDevices makes no file where devices are.
func TestCheckDevices(t *testing.T) {
	for folder, want := range map[string]error{"/dev": ErrDevices, "/dev/shm": nil, t.TempDir(): nil, "/": nil} {
		e, err := Find(filepath.Join(folder, "sdz9"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := e.CheckDevices(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", folder, err, want)
		}
		e.Close()
	}
}

// TestDraft has a file appear, with and without a file in its place, and with a
// name from the start where there are no files without.
func TestDraft(t *testing.T) {
	for what, draft := range map[string]func(*Entry) (*Draft, error){"without a name": (*Entry).Draft, "with a name": (*Entry).namedDraft} {
		for _, base := range []string{"out", strings.Repeat("x", maxName)} {
			dir := t.TempDir()
			list := func() (names []string) {
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					names = append(names, e.Name())
				}
				return names
			}
			e, err := Find(filepath.Join(dir, base))
			if err != nil {
				t.Fatal(err)
			}
			write := func(text string, replace bool) error {
				d, err := draft(e)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if _, err := d.WriteString(text); err != nil {
					t.Fatal(err)
				}
				err = d.Appear(replace)
				d.Discard()
				return err
			}
			read := func() string {
				b, err := os.ReadFile(filepath.Join(dir, base))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			if err := write("one", false); err != nil || read() != "one" {
				t.Errorf("%s: new: %q, %v", what, read(), err)
			}
			if err := write("two", false); !errors.Is(err, fs.ErrExist) || read() != "one" {
				t.Errorf("%s: over a file, not asked to: %q, %v", what, read(), err)
			}
			if err := write("three", true); err != nil || read() != "three" {
				t.Errorf("%s: over a file: %q, %v", what, read(), err)
			}
			if got := list(); len(got) != 1 {
				t.Errorf("%s: there is %q", what, got)
			}
			d, err := draft(e)
			if err != nil {
				t.Fatal(err)
			}
			d.Discard()
			d.Close()
			if got := list(); len(got) != 1 {
				t.Errorf("%s: given up, there is %q", what, got)
			}
			e.Close()
		}
	}
}
