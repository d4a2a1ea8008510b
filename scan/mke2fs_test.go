package scan

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tool runs a tool of e2fsprogs; the test fails where it is missing or fails.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG=/nonexistent", "E2FSPROGS_FAKE_TIME=1700000000", "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A recipe makes a filesystem: the options of mke2fs, and commands of debugfs
// for what mke2fs -d does not do.
type recipe struct {
	size      int64
	blockSize int
	options   string
	debugfs   []string
	fill      []byte // what is on the device before, repeated; zeros if empty
	lazy      bool   // leaves it in the parts of inode tables that are not in use
}

// make makes the filesystem from a folder and returns its bytes.
func (r recipe) make(t testing.TB, dir string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs.img")
	var before []byte
	if len(r.fill) > 0 {
		before = bytes.Repeat(r.fill, int(r.size)/len(r.fill)+1)[:r.size]
	} else {
		before = make([]byte, r.size)
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	lazy := "0"
	if r.lazy {
		lazy = "1"
	}
	args := append([]string{"-q", "-F", "-b", strconv.Itoa(r.blockSize), "-E", "nodiscard,hash_seed=01234567-89ab-cdef-0123-456789abcdef,lazy_itable_init=" + lazy,
		"-U", "01234567-89ab-cdef-0123-456789abcdef", "-d", dir}, strings.Fields(r.options)...)
	tool(t, "mke2fs", append(args, path)...)
	if len(r.debugfs) > 0 {
		script := filepath.Join(t.TempDir(), "commands")
		if err := os.WriteFile(script, []byte(strings.Join(r.debugfs, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "debugfs", "-w", "-f", script, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tree makes a folder with files of the given contents: small and large, one
// with many extents, links short and long, a directory of several blocks.
func tree(t testing.TB, contents []byte) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, n int) {
		must(os.WriteFile(filepath.Join(dir, name), bytes.Repeat(contents, n/len(contents)+1)[:n], 0o600))
	}
	write("small", 5000)
	write("large", 100<<10)
	write("deleted", 50<<10)
	holes, err := os.Create(filepath.Join(dir, "holes"))
	must(err)
	for i := range int64(100) {
		_, err := holes.WriteAt(contents, i*8192)
		must(err)
	}
	must(holes.Close())
	must(os.Symlink(strings.Repeat("s", 20), filepath.Join(dir, "short-link")))
	must(os.Symlink(strings.Repeat("l", 300), filepath.Join(dir, "long-link")))
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	for i := range 60 {
		must(os.WriteFile(filepath.Join(dir, "folder", fmt.Sprintf("%s-%03d", strings.Repeat("n", 40), i)), nil, 0o600))
	}
	return dir
}
