package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"e2qcow/internal/storage"
)

// emptyFolder returns an empty folder and what it holds by now, temporary names shown as "~".
func emptyFolder(t *testing.T) (dir string, list func() string) {
	t.Helper()
	dir = t.TempDir()
	return dir, func() string {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				names = append(names, "~")
			} else {
				names = append(names, e.Name())
			}
		}
		return strings.Join(names, " ")
	}
}

func open(t *testing.T, name string) *Target {
	t.Helper()
	target, err := Open(t.Context(), name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

func put(t *testing.T, target *Target, text string) {
	t.Helper()
	if _, err := target.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func TestFileAppearsWhole(t *testing.T) {
	dir, list := emptyFolder(t)
	name := filepath.Join(dir, "out")
	target := open(t, name)
	put(t, target, "new")
	if got := list(); got != "" && got != "~" { // where it can have no name, none
		t.Errorf("before it is whole there is %q", got)
	}
	if err := target.Commit(); err != nil {
		t.Fatal(err)
	}
	target.Close()
	if got := list(); got != "out" {
		t.Errorf("then there is %q", got)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "new" {
		t.Errorf("content %q, %v", b, err)
	}
}

// TestFileInherits replaces files that have a mode and a group.
func TestFileInherits(t *testing.T) {
	dir, list := emptyFolder(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "out")
	for _, mode := range []os.FileMode{0o644, 0o660, 0o600} {
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		group := os.Getegid()
		if os.Geteuid() == 0 {
			group = 12345
			if err := os.Chown(name, 0, group); err != nil {
				t.Fatal(err)
			}
		}
		target := open(t, name)
		if info, err := target.f.Stat(); err != nil || info.Mode() != 0o600 {
			t.Errorf("before it is whole: mode %v, %v", info.Mode(), err)
		}
		put(t, target, "new")
		if err := errors.Join(target.Settle(), target.Commit()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || int(st.Uid) != os.Geteuid() || int(st.Gid) != group || info.Size() != 3 {
			t.Errorf("mode %v, of %d:%d, %d bytes; want %v, group %d", info.Mode(), st.Uid, st.Gid, info.Size(), mode, group)
		}
		if got := list(); got != "out" {
			t.Errorf("there is %q", got)
		}
	}
}

func TestFileGivenUp(t *testing.T) {
	dir, list := emptyFolder(t)
	name := filepath.Join(dir, "out")
	if err := os.WriteFile(name, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	target := open(t, name)
	put(t, target, "new")
	target.Close()
	target.Close()
	if got := list(); got != "out" {
		t.Errorf("there is %q", got)
	}
	if info, err := os.Stat(name); err != nil || info.Size() != 0 || info.Mode() != 0o640 {
		t.Errorf("the old file has changed: %v, %v", info, err)
	}
	if err := target.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("committed after Close: %v", err)
	}
}

func TestCommitFails(t *testing.T) {
	dir, list := emptyFolder(t)
	name := filepath.Join(dir, "out")
	target := open(t, name)
	put(t, target, "new")
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := target.Commit(); err == nil || !strings.Contains(err.Error(), name+":") || strings.Contains(err.Error(), "/.") {
		t.Errorf("error %v does not name the target alone", err)
	}
	if got := list(); got != "out" {
		t.Errorf("there is %q", got)
	}
}

// TestCloseRaces has Close come while another goroutine commits, as a signal
// has it: the file is there whole or not at all.
func TestCloseRaces(t *testing.T) {
	for range 50 {
		dir, list := emptyFolder(t)
		target := open(t, filepath.Join(dir, "out"))
		put(t, target, "new")
		var both sync.WaitGroup
		both.Go(target.Close)
		var err error
		both.Go(func() { err = target.Commit() })
		both.Wait()
		want := ""
		if err == nil {
			want = "out"
		}
		if got := list(); got != want {
			t.Fatalf("after Commit returned %v there is %q", err, got)
		}
	}
}

func TestSymlink(t *testing.T) {
	dir, _ := emptyFolder(t)
	for _, d := range []string{"a", "b", "b/c"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Through a folder that is a symlink, so that ".." is not what it looks like.
	for name, to := range map[string]string{"a/dir": "../b/c", "b/c/one": "../two", "b/two": "three"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	target := open(t, filepath.Join(dir, "a/dir/one"))
	put(t, target, "new")
	if err := target.Commit(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(filepath.Join(dir, "b/three"))
	if err != nil || !info.Mode().IsRegular() || info.Size() != 3 {
		t.Errorf("it did not arrive: %v, %v", info, err)
	}
}

func TestLongName(t *testing.T) {
	dir, list := emptyFolder(t)
	long := strings.Repeat("x", 255)
	target := open(t, filepath.Join(dir, long))
	if err := target.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != long {
		t.Errorf("there is %q", got)
	}
}

func TestRefusals(t *testing.T) {
	dir, _ := emptyFolder(t)
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	text, qcow2, empty, json := write("text", "text"), write("qcow2", "QFI\xfb"), write("empty", ""), write("json", "{}")
	xfs, ext, hole := write("xfs", "XFSB"), write("ext", strings.Repeat("\x00", 1080)+"\x53\xef"), write("hole", "")
	if err := os.Truncate(hole, 1<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	textRegion, err := storage.Of(f)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		what string
		name string
		opt  Options
		want error
	}{
		{"text for qcow2", text, Options{}, ErrExists},
		{"text for qcow2, allowed", text, Options{Overwrite: true}, nil},
		{"text for raw", text, Options{Format: Raw}, ErrExists},
		{"text for raw, allowed", text, Options{Format: Raw, Overwrite: true}, nil},
		{"XFS for raw", xfs, Options{Format: Raw}, ErrExists},
		{"ext for raw", ext, Options{Format: Raw}, nil},
		{"one hole for raw", hole, Options{Format: Raw}, nil},
		{"qcow2 for qcow2", qcow2, Options{}, nil},
		{"qcow2 for raw", qcow2, Options{Format: Raw}, ErrExists},
		{"qcow2 for raw, allowed", qcow2, Options{Format: Raw, Overwrite: true}, nil},
		{"empty for qcow2", empty, Options{}, nil},
		{"empty for raw", empty, Options{Format: Raw}, nil},
		{"text for JSON", text, Options{Format: JSON}, ErrNotJSON},
		{"text for JSON, allowed", text, Options{Format: JSON, Overwrite: true}, nil},
		{"qcow2 for JSON", qcow2, Options{Format: JSON}, ErrNotJSON},
		{"JSON for JSON", json, Options{Format: JSON}, nil},
		{"empty for JSON", empty, Options{Format: JSON}, nil},
		{"JSON for names", json, Options{Format: Names}, ErrOnlyCopy},
		{"JSON for names, allowed", json, Options{Format: Names, Overwrite: true}, nil},
		{"empty for names", empty, Options{Format: Names}, nil},
		{"new", filepath.Join(dir, "new"), Options{}, nil},
		{"the source", text, Options{Source: textRegion, Overwrite: true}, ErrSame},
		{"a folder", dir, Options{}, ErrDirectory},
		{"a name that only a folder has", filepath.Join(dir, "new") + "/", Options{}, ErrDirectory},
		{"no name", "", Options{}, ErrDirectory},
		{"in no folder", filepath.Join(dir, "nowhere", "new"), Options{}, fs.ErrNotExist},
		{"in a file", filepath.Join(text, "new"), Options{}, unix.ENOTDIR},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			target, err := Open(t.Context(), test.name, test.opt)
			if err == nil {
				target.Close()
			}
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestWaitForReaderEnds(t *testing.T) {
	dir, _ := emptyFolder(t)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, fifo, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestZeroOut zeroes parts of a file, which like some devices cannot do it by
// itself.
func TestZeroOut(t *testing.T) {
	const size = 3*zeroSize + 100
	for _, part := range [][2]int64{{0, size}, {1, 1}, {4095, 2}, {512, zeroSize}, {4096, 2 * zeroSize}, {100, 0}} {
		dir, _ := emptyFolder(t)
		target := open(t, filepath.Join(dir, "out"))
		put(t, target, strings.Repeat("x", size))
		var told int64
		if err := target.ZeroOut(t.Context(), part[0], part[1], func(n int64) { told += n }); err != nil {
			t.Fatal(err)
		}
		if told != part[1] {
			t.Errorf("%v: told of %d bytes", part, told)
		}
		got, err := io.ReadAll(io.NewSectionReader(target, 0, size+1))
		if err != nil {
			t.Fatal(err)
		}
		want := []byte(strings.Repeat("x", size))
		clear(want[part[0] : part[0]+part[1]])
		if string(got) != string(want) {
			t.Errorf("%v: not what was to be zeroed", part)
		}
	}
}

func TestZeroOutEnds(t *testing.T) {
	dir, _ := emptyFolder(t)
	target := open(t, filepath.Join(dir, "out"))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	err := target.ZeroOut(ctx, 0, 1<<40, func(int64) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestIs(t *testing.T) {
	dir, _ := emptyFolder(t)
	if err := os.Symlink("one", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	one := open(t, filepath.Join(dir, "one"))
	for name, want := range map[string]bool{"one": true, "./one": true, "link": true, "two": false} {
		if got := one.Is(open(t, dir+"/"+name)); got != want {
			t.Errorf("%s is one: %v", name, got)
		}
	}
}

// TestOpenInPlace changes a file where it is, and nothing that cannot be.
func TestOpenInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("what there was"), 0o640); err != nil {
		t.Fatal(err)
	}
	tg, err := OpenInPlace(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tg.Close()
	if tg.Kind() != InPlace || tg.Size() != 14 {
		t.Errorf("kind %v, %d bytes", tg.Kind(), tg.Size())
	}
	b := make([]byte, 20)
	if n, err := tg.ReadAt(b, 5); string(b[:n]) != "there was" || !errors.Is(err, io.EOF) {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if _, err := tg.WriteAt([]byte("THERE"), 5); err != nil {
		t.Fatal(err)
	}
	tg.Close() // keeps what was written
	if b, err := os.ReadFile(path); string(b) != "what THERE was" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if tg, err = OpenInPlace(path, Options{}); err != nil {
		t.Fatal(err)
	}
	region, err := tg.Region()
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Commit(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]error{dir: ErrDirectory, "/dev/null": ErrStream, filepath.Join(dir, "none"): fs.ErrNotExist} {
		if _, err := OpenInPlace(name, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := OpenInPlace(path, Options{Source: region}); !errors.Is(err, ErrSame) {
		t.Errorf("the source: %v", err)
	}
}

// TestOpenUndo has an undo be a file that there is not yet.
func TestOpenUndo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("QFI\xfb"), 0o640); err != nil {
		t.Fatal(err)
	}
	opt := Options{Format: Undo}
	for name, want := range map[string]error{path: ErrOnlyCopy, "-": ErrStream, "/dev/null": ErrStream, dir: ErrDirectory} {
		if _, err := Open(context.Background(), name, opt); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	tg, err := Open(context.Background(), filepath.Join(dir, "new"), opt)
	if err != nil {
		t.Fatal(err)
	}
	tg.Close()
}

// What was written is not left in the page cache, where the filesystem has one.
func TestCommitDropsCache(t *testing.T) {
	dir, err := os.MkdirTemp(".", "cache-*") // a temporary folder may be nothing but cache
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "file")
	tgt, err := Open(t.Context(), name, Options{Format: Raw})
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	const size = 1 << 20
	if _, err := tgt.WriteAt(bytes.Repeat([]byte("x"), size), 0); err != nil {
		t.Fatal(err)
	}
	if err := tgt.Commit(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	in := make([]byte, size/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), size, uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
		t.Fatal(errno)
	}
	left := 0
	for _, b := range in {
		left += int(b & 1)
	}
	if cached := fs.Type == unix.EXT4_SUPER_MAGIC || fs.Type == unix.XFS_SUPER_MAGIC; cached && left > 0 {
		t.Errorf("%d of %d pages are left in the cache", left, len(in))
	}
}
