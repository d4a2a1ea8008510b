package target

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFile opens a temporary file beside the file that name leads to.
func openFile(name string, opt Options) (*Target, error) {
	path, err := resolve(name)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unwrapPath(err)}
	}
	old, err := checkExisting(path, name, opt)
	if err != nil {
		return nil, err
	}
	temp := temporary(path)
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unwrapPath(err)}
	}
	return &Target{kind: File, name: name, f: f, path: path, temp: temp, old: old}, nil
}

// checkExisting refuses a file that must not be replaced, and returns what is
// known of it, nil where there is none. It is opened for writing, though only to
// see whether it could be: the kernel does not let go of swap files and running
// programs.
func checkExisting(path, name string, opt Options) (fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, unix.ETXTBSY) {
		return nil, refuse(name, ErrMounted)
	}
	if errors.Is(err, fs.ErrPermission) {
		// One that can be written but not read cannot be told from another.
		return nil, fmt.Errorf("%w (an existing file must be readable and writable)", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkRegion(f, name, opt); err != nil {
		return nil, err
	}
	return info, checkContent(f, name, info.Size(), opt)
}

// inherit gives f the owner and the mode of the file that it replaces. Where it
// cannot have that owner, it stays for its own only.
func inherit(f *os.File, old fs.FileInfo) error {
	if st, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return nil //nolint:nilerr // Not everyone may give files away.
		}
	}
	return f.Chmod(old.Mode().Perm())
}

// maxLinks is how many symlinks the kernel follows.
const maxLinks = 40

// resolve follows symlinks at the end of name to the file that is meant, which
// need not exist. Its folder must.
func resolve(name string) (string, error) {
	for range maxLinks {
		folder, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		name = filepath.Join(folder, filepath.Base(name))
		link, err := os.Readlink(name)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			// Not joined, which would take ".." by the letter.
			link = folder + string(filepath.Separator) + link
		}
		name = link
	}
	return "", &fs.PathError{Op: "open", Path: name, Err: unix.ELOOP}
}

// maxName is what the kernel allows for one name, in bytes.
const maxName = 255

// temporary returns a name beside path that nobody has.
func temporary(path string) string {
	folder, base := filepath.Split(path)
	suffix := "." + rand.Text()[:12]
	base = base[:min(len(base), maxName-1-len(suffix))]
	return folder + "." + base + suffix
}

// unwrapPath returns what is wrong without the names it was wrong with.
func unwrapPath(err error) error {
	var (
		pathErr *fs.PathError
		linkErr *os.LinkError
	)
	switch {
	case errors.As(err, &pathErr):
		return pathErr.Err
	case errors.As(err, &linkErr):
		return linkErr.Err
	}
	return err
}

// SyncFolder makes changes of names in a folder last, where its filesystem can.
func SyncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // a filesystem that does not know it
	}
	return err
}
