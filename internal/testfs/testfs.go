// Package testfs makes ext2, ext3 and ext4 filesystems for tests with the
// tools that everybody makes them with, and asks the tools that everybody
// believes what they think of the result.
//
//	Spec ──► mke2fs ──► fill ──► debugfs ──► FS{Path} ──► dump, restore
//	                     │                       │             │
//	                     ├ loop mount (root)     └─► oracles ◄─┘
//	                     └ mke2fs -d, e2fsck -D      e2fsck, dumpe2fs, debugfs,
//	                                                 e2image, qemu-img, strace
//
// The contents of every file repeat Canary, so that file data is recognised
// wherever it turns up; names, symlink targets, attribute values and the
// contents of inline files are free of it.
//
// A tool that is missing fails the test. What only root can do is skipped for
// an ordinary user.
package testfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Fill says what a filesystem holds and how that gets into it.
type Fill int

// The kinds of Fill.
const (
	Empty   Fill = iota // nothing but what mke2fs makes
	Mounted             // a tree written by the kernel; root only, blocks of at most 4 KiB
	Copied              // a tree written by mke2fs -d, its large directories indexed by e2fsck -D
)

// A Spec describes a filesystem. Equal Specs are made once and shared, so
// what Make returns is never written to: tests that write do so on a Copy.
type Spec struct {
	// Mke2fs holds the options for mke2fs, separated by spaces. Extended options
	// (-E) may be given more than once. What lies in the filesystem does not depend
	// on the machine: the hash seed is fixed, and inode tables are lazy, unless the
	// options say otherwise.
	Mke2fs string
	// Size is the length of the file in bytes.
	Size int64
	Fill Fill

	// Mount holds the mount options of a Mounted filesystem.
	Mount string
	// Stale has file contents lie in every block that neither mke2fs nor the
	// kernel writes, as on a device that was in use before.
	Stale bool
	// FarOffset, if not 0, adds a file with a block at that offset, which on
	// ext2 and ext3 asks for doubly and triply indirect blocks.
	FarOffset int64
	// Encrypt adds an encrypted folder to a Mounted filesystem.
	Encrypt bool
	// Dirty takes the image while it is mounted, after a sync: its journal
	// has to be replayed and it has orphans. Mounted only.
	Dirty bool
	// JournalDevice, if not 0, is the size in bytes of an external journal. Root only.
	JournalDevice int64

	// Debugfs holds commands for debugfs -w, run when the filesystem is filled.
	Debugfs []string
	// Fsck runs e2fsck -fyD after debugfs, so that what debugfs left rough is made right.
	Fsck bool
	// Tune2fs holds options for tune2fs, which runs last.
	Tune2fs string
}

// An FS is a filesystem in a file.
type FS struct {
	Path    string
	Journal string // the external journal, if Spec.JournalDevice asked for one
	Spec    Spec
}

// FakeTime is the time, in seconds since 1970, that e2fsprogs is told it is.
// It is later than what the kernel writes, else e2fsck finds times in the future.
const FakeTime = "2000000000"

// cache holds the filesystems in use by the running tests.
var cache = struct {
	sync.Mutex
	entries map[string]*entry
}{entries: map[string]*entry{}}

type entry struct {
	users int
	once  sync.Once
	dir   string
	fs    *FS
	err   error
}

// Make returns the filesystem that spec describes. It is shared with other
// tests that ask for the same while this one runs, and must not be written to.
func Make(t testing.TB, spec Spec) *FS {
	t.Helper()
	if spec.needsRoot() && os.Geteuid() != 0 {
		t.Skip("needs root: mounts a filesystem")
	}
	key := fmt.Sprintf("%#v", spec)
	cache.Lock()
	e := cache.entries[key]
	if e == nil {
		e = &entry{}
		cache.entries[key] = e
	}
	e.users++
	cache.Unlock()
	t.Cleanup(func() {
		cache.Lock()
		defer cache.Unlock()
		if e.users--; e.users == 0 {
			delete(cache.entries, key)
			os.RemoveAll(e.dir)
		}
	})
	e.once.Do(func() {
		if e.dir, e.err = os.MkdirTemp(scratch(), "testfs-"); e.err == nil {
			e.fs, e.err = build(e.dir, spec)
		}
	})
	if e.err != nil {
		t.Fatalf("making a filesystem with mke2fs %s: %v", spec.Mke2fs, e.err)
	}
	return e.fs
}

func (s Spec) needsRoot() bool {
	return s.Fill == Mounted || s.JournalDevice != 0
}

// TempDir returns a folder for the images of one test, in memory where the
// machine has a tmpfs, and removed with the test.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch(), "testfs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// scratch returns the parent of temporary folders: that of TMPDIR, to run the
// tests on a filesystem of choice, else tmpfs, which takes the largest sparse
// files and is not slowed down by fsync.
func scratch() string {
	const shm = "/dev/shm"
	if os.Getenv("TMPDIR") != "" {
		return os.TempDir()
	}
	if info, err := os.Stat(shm); err == nil && info.IsDir() && info.Mode().Perm()&0o222 != 0 {
		return shm
	}
	return os.TempDir()
}

// Copy returns the path of a sparse copy of the file that the test may write to.
func Copy(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(TempDir(t), filepath.Base(path))
	if err := sparseCopy(to, path); err != nil {
		t.Fatal(err)
	}
	return to
}

func sparseCopy(to, from string) error {
	_, err := run("cp", "--sparse=always", "--", from, to)
	return err
}

// build makes the filesystem in dir.
func build(dir string, spec Spec) (_ *FS, err error) {
	fs := &FS{Path: filepath.Join(dir, "source.img"), Spec: spec}
	options := strings.Fields(spec.Mke2fs)
	if err := emptyFile(fs.Path, spec.Size); err != nil {
		return nil, err
	}
	if spec.Stale {
		if err := os.WriteFile(fs.Path, canary("stale", 0, int(spec.Size)), 0o644); err != nil {
			return nil, err
		}
		options = append(options, "-E", "nodiscard")
	}
	var journal *loop
	if spec.JournalDevice != 0 {
		fs.Journal = filepath.Join(dir, "journal.img")
		if journal, err = makeJournal(fs.Journal, spec); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, journal.detach()) }()
		options = append(options, "-J", "device="+journal.device)
	}
	if spec.Fill == Copied {
		tree := filepath.Join(dir, "tree")
		if err := os.Mkdir(tree, 0o755); err != nil {
			return nil, err
		}
		defer os.RemoveAll(tree)
		if err := populate(tree, spec); err != nil {
			return nil, err
		}
		options = append(options, "-d", tree)
	}
	if _, err := run("mke2fs", append(withDefaults(options), fs.Path)...); err != nil {
		return nil, err
	}
	if spec.Fill == Mounted {
		if err := fillMounted(fs, journal); err != nil {
			return nil, err
		}
	}
	if len(spec.Debugfs) > 0 {
		if err := debugfsWrite(fs.Path, spec.Debugfs); err != nil {
			return nil, err
		}
	}
	if journal != nil {
		if err := forgetJournalDevice(fs.Path); err != nil {
			return nil, err
		}
	}
	if spec.Fsck {
		if err := fsckRepair(fs.Path); err != nil {
			return nil, err
		}
	}
	if spec.Tune2fs != "" {
		if _, err := run("tune2fs", append(strings.Fields(spec.Tune2fs), fs.Path)...); err != nil {
			return nil, err
		}
	}
	return fs, nil
}

// withDefaults returns options of mke2fs with those before them that every
// filesystem has. mke2fs heeds only the last -E, so there is one for all.
func withDefaults(options []string) []string {
	all := []string{"-q", "-F", "-U", "6d796a20-6273-4d0a-9b74-a1f1d0bd5a55"}
	extended := "lazy_itable_init=1,hash_seed=6d796a20-0000-4000-8000-000000000001"
	for i := 0; i < len(options); i++ {
		if options[i] == "-E" && i+1 < len(options) {
			i++
			extended += "," + options[i]
			continue
		}
		all = append(all, options[i])
	}
	return append(all, "-E", extended)
}

func emptyFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

func debugfsWrite(path string, commands []string) error {
	cmd := command("debugfs", "-w", "-f", "-", path)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("debugfs: %w\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) { // a command that fails says so, but the exit status is 0
		said := func(prefix string) bool { return strings.HasPrefix(line, prefix) }
		if strings.TrimSpace(line) != "" && !slices.ContainsFunc([]string{"debugfs", "Allocated inode", "Checksum set to", "Setting csum v", "Unknown journal csum v1"}, said) {
			return fmt.Errorf("debugfs: %s", out)
		}
	}
	return nil
}

// fsckRepair lets e2fsck correct and index the filesystem at path. What -D does
// may leave the quota files wrong, so e2fsck is run until it finds no error.
func fsckRepair(path string) error {
	const tries = 3
	options := "-fyD"
	for range tries {
		out, err := command("e2fsck", options, path).CombinedOutput()
		var exit *exec.ExitError
		if err == nil {
			return nil
		}
		if !errors.As(err, &exit) || exit.ExitCode() != 1 { // 1: errors were corrected
			return fmt.Errorf("e2fsck %s: %w\n%s", options, err, out)
		}
		options = "-fy"
	}
	return fmt.Errorf("e2fsck corrects errors of %s each time it is run", path)
}

// command returns a command whose output does not depend on the language, the
// terminal or the time.
func command(name string, args ...string) *exec.Cmd {
	if _, err := exec.LookPath(name); err != nil { // an ordinary user's PATH may lack it
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				name = path
				break
			}
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "E2FSCK_TIME="+FakeTime, "E2FSPROGS_FAKE_TIME="+FakeTime,
		"MKE2FS_CONFIG=/nonexistent", "MKE2FS_SKIP_PROGRESS=1", "DEBUGFS_PAGER=__none__")
	return cmd
}

// Run runs a tool that has to succeed, so that what it prints does not depend on
// the language, the terminal, the time or the machine's settings, and returns
// what it printed on stdout.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// run runs a command that has to succeed and returns what it printed on stdout.
func run(name string, args ...string) ([]byte, error) {
	cmd := command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out, nil
}
