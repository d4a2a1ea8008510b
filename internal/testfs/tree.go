package testfs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Tree mounts a copy of the filesystem at path and returns a line for each
// file in it, by name: what stat says, attributes, and a hash of the contents.
// Only root can; for others the test is skipped.
func Tree(t testing.TB, path string) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a filesystem")
	}
	copied, dir := Copy(t, path), TempDir(t)
	var tree map[string]string
	err := Privately(func() (err error) {
		tree, err = readTree(copied, dir)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func readTree(path, dir string) (tree map[string]string, err error) {
	if _, err := run("mount", "-t", "ext4", "-o", "loop,noatime", path, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, Unmount(dir)) }()
	tree = map[string]string{}
	err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(name)
		tree[name[len(dir):]] = line
		return err
	})
	return tree, err
}

// describe returns a line that tells all of a file.
func describe(name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("inode %d %v links %d owner %d:%d device %d size %d time %v", st.Ino, info.Mode(), st.Nlink, st.Uid, st.Gid, st.Rdev, st.Size, info.ModTime())
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, list)
	if err != nil {
		return "", err
	}
	line += fmt.Sprintf(" attributes %q", list[:n])
	switch {
	case info.Mode().IsRegular():
		sum, err := hash(name)
		return line + sum, err
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(name)
		return line + " to " + to, err
	}
	return line, nil
}

// hash returns a hash of the data of a file and where it lies.
func hash(name string) (string, error) {
	f, err := os.Open(name)
	if errors.Is(err, unix.ENOKEY) {
		return " encrypted", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	for at := int64(0); ; {
		start, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf(" contents %x", h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		if at, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%d-%d:", start, at)
		if _, err := io.Copy(h, io.NewSectionReader(f, start, at-start)); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
}
