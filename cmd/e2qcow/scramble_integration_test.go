package main_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// planted are the words that testfs puts into a filesystem: names, of deleted
// files too, targets of symlinks, values of attributes, inline data.
var planted = []string{
	"file-0", "link-0", "nnnnnnnn", "tttttttt", "xxxxxxxx", "value-inode", "hard-2", "fast-59", "slow-900", "default-acl",
	"block block", "second second", "shared shared", "value in an inode", "inline inline",
}

// scrambled returns the raw image of a scrambled dump of source.
func scrambled(t *testing.T, tool testfs.Tool, source string, options ...string) string {
	t.Helper()
	dir := testfs.TempDir(t)
	image, raw := filepath.Join(dir, "meta.qcow2"), filepath.Join(dir, "raw.img")
	if r := tool.Run(t, slices.Concat([]string{"-Qs"}, options, []string{source, image})...); r.Exit != 0 {
		t.Fatalf("e2qcow -Qs: exit %d\n%s", r.Exit, r.Stderr)
	}
	testfs.QemuConvert(t, image, raw)
	return raw
}

// TestScramble scrambles a filesystem of each kind: no word is left, e2fsck
// says the same, and the kernel finds every name by the hash trees. The UUID is
// replaced in a part of them, in all where SCRAMBLE_UUID is set.
func TestScramble(t *testing.T) {
	tool := testfs.Build(t)
	for _, c := range matrix() {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && !c.short {
				t.Skip("not among the cases for -short")
			}
			t.Parallel()
			source := testfs.Make(t, c.Spec)
			raw := scrambled(t, tool, source.Path)
			same(t, "e2fsck -fn", testfs.Unnamed(testfs.Fsck(t, source.Path, "-fn")), testfs.Unnamed(testfs.Fsck(t, raw, "-fn")))
			noneOf(t, raw, planted)
			if c.Dirty {
				repaired := [2]string{testfs.Copy(t, source.Path), testfs.Copy(t, raw)}
				same(t, "e2fsck -fy", testfs.Unnamed(testfs.Fsck(t, repaired[0], "-fy")), testfs.Unnamed(testfs.Fsck(t, repaired[1], "-fy")))
				noneOf(t, repaired[1], planted)
				raw = repaired[1]
			}
			lookUp(t, source, raw)
			if !c.short && os.Getenv("SCRAMBLE_UUID") == "" {
				return // what hangs on the UUID hangs on it in the same way
			}
			raw = scrambled(t, tool, source.Path, "--scramble-uuid")
			same(t, "e2fsck -fn", testfs.Unnamed(testfs.Fsck(t, source.Path, "-fn")), testfs.Unnamed(testfs.Fsck(t, raw, "-fn")))
			noneOf(t, raw, []string{uuidOf(t, source.Path)})
			lookUp(t, source, raw)
		})
	}
}

// noneOf looks for words in a file.
func noneOf(t *testing.T, path string, words []string) {
	t.Helper()
	if testfs.Size(t, path) > 1<<30 {
		return // of huge filesystems others hold the same words
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		if at := bytes.Index(b, []byte(w)); at >= 0 {
			t.Errorf("%q is left at byte %d", w, at)
		}
	}
}

// uuidOf returns the UUID of a filesystem, as it is on the disk.
func uuidOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	uuid := make([]byte, 16)
	if _, err := f.ReadAt(uuid, 1024+0x68); err != nil {
		t.Fatal(err)
	}
	return string(uuid)
}

// lookUp mounts what was scrambled, as root: there are as many files as in the
// source, and each is found by its name.
func lookUp(t *testing.T, source *testfs.FS, raw string) {
	t.Helper()
	if source.Journal != "" || os.Geteuid() != 0 {
		return
	}
	want, ok := countFiles(t, testfs.Copy(t, source.Path))
	if !ok {
		return // the kernel does not mount such a filesystem
	}
	if got, ok := countFiles(t, raw); got != want || !ok {
		t.Errorf("%d names are found in the scrambled filesystem, %d in the source", got, want)
	}
}

// countFiles mounts a filesystem and counts the names in it that can be looked
// up.
func countFiles(t *testing.T, image string) (n int, ok bool) {
	t.Helper()
	dir := t.TempDir()
	err := testfs.Privately(func() error {
		if ok = exec.Command("mount", "-o", "loop,ro", image, dir).Run() == nil; !ok {
			return nil
		}
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if _, err := os.Lstat(path); err != nil {
				return err
			}
			n++
			return nil
		})
		return errors.Join(err, testfs.Unmount(dir))
	})
	if err != nil {
		t.Errorf("walking the filesystem: %v", err)
	}
	return n, ok
}

// TestScrambleKey scrambles twice with one key, and an image in place of a
// device: all give the same bytes. Another key gives others.
func TestScrambleKey(t *testing.T) {
	tool := testfs.Build(t)
	source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024 -L label -M /folder/last", Size: 24 * mib, Fill: testfs.Copied}).Path
	dir := testfs.TempDir(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	run := func(args ...string) {
		t.Helper()
		if r := tool.Run(t, args...); r.Exit != 0 {
			t.Fatalf("e2qcow %q: exit %d\n%s", args, r.Exit, r.Stderr)
		}
	}
	run("-Q", source, file("plain"))
	const salt = "00112233445566778899aabbccddeeff"
	run("-Qs", "--scramble-key", "a", "--scramble-salt", salt, source, file("first"))
	run("-Qs", "--scramble-key", "a", "--scramble-salt", salt, "--threads", "1", file("plain"), file("second"))
	run("-Qs", "--scramble-key", "b", "--scramble-salt", salt, "--scramble-map", file("map"), source, file("third"))
	run("-Qs", "--scramble-key", "a", source, file("fourth"))
	if testfs.Difference(t, file("first"), file("second")) >= 0 {
		t.Error("two runs with one key differ")
	}
	if testfs.Difference(t, file("first"), file("third")) < 0 {
		t.Error("two keys give the same image")
	}
	if testfs.Difference(t, file("first"), file("fourth")) < 0 {
		t.Error("two salts give the same image")
	}
	names, err := os.ReadFile(file("map"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(names, []byte(`"old":"file-001"`)) {
		t.Error("the map lacks a name")
	}
	if info, err := os.Stat(file("map")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the map has mode %v, %v", info.Mode(), err)
	}
	noneOf(t, file("first"), append(planted, "label", "folder"))
	if r := tool.Run(t, "info", file("first")); !strings.Contains(r.Stdout, "scrambled") || !strings.Contains(r.Stdout, salt) {
		t.Errorf("info says:\n%s", r.Stdout)
	}
	run("-Q", "--whole", file("first"), file("copy"))
	if r := tool.Run(t, "info", file("copy")); !strings.Contains(r.Stdout, salt) {
		t.Errorf("of a copy info says:\n%s", r.Stdout)
	}
	for _, options := range [][]string{
		{"--scramble-salt", salt},
		{"--scramble-key", "a", "--scramble-salt", "0011"},
		{"--scramble-key", "a", "--scramble-salt", "words"},
	} {
		if r := tool.Run(t, slices.Concat([]string{"-Qs"}, options, []string{source, file("none")})...); r.Exit != 2 {
			t.Errorf("%q: exit %d, want 2", options, r.Exit)
		}
	}
}

// TestScrambleSeed has another hash seed in every copy of the superblock, or
// the same with --scramble-keep-seed.
func TestScrambleSeed(t *testing.T) {
	tool := testfs.Build(t)
	for _, mke2fs := range []string{"-t ext4 -b 1024", "-t ext4 -b 1024 -O ^metadata_csum", "-t ext2 -b 1024"} {
		source := testfs.Make(t, testfs.Spec{Mke2fs: mke2fs + " -E hash_seed=6d796a20-0000-4000-8000-000000000001", Size: 24 * mib, Fill: testfs.Copied}).Path
		seed := []byte("\x6d\x79\x6a\x20\x00\x00\x40\x00\x80\x00\x00\x00\x00\x00\x00\x01")
		copies := func(path string) int {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Count(b, seed)
		}
		want := copies(source)
		if want < 2 {
			t.Fatalf("%s: the source has %d copies of the seed", mke2fs, want)
		}
		if n := copies(scrambled(t, tool, source)); n != 0 {
			t.Errorf("%s: %d of %d copies of the seed are left", mke2fs, n, want)
		}
		if n := copies(scrambled(t, tool, source, "--scramble-keep-seed")); n != want {
			t.Errorf("%s: %d of %d copies of the seed are kept", mke2fs, n, want)
		}
	}
}
