package folder

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symlinks that the kernel follows.
const maxLinks = 40

// Find follows the symlinks of name to a file. The file need not exist; its
// folder must. Close must be called.
func Find(name string) (*Entry, error) { return find(name, true) }

// find is Find with a choice whether to follow a symlink at the end.
func find(name string, follow bool) (*Entry, error) {
	e, err := walk(name, follow)
	if err == nil && e.open {
		err = e.followOpen()
	}
	if err != nil {
		if e != nil {
			e.Close()
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return e, nil
}

// followOpen continues with the name of an open regular file. The link in
// procfs looks like a symlink, but its text may lead nowhere or to another
// file: a deleted file, or a file in memory, has no name.
func (e *Entry) followOpen() error {
	var meant, found unix.Stat_t
	if err := unix.Fstatat(e.fd(), e.base, &meant, 0); err != nil || meant.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	text, err := e.readlink()
	if err != nil {
		return err
	}
	named, err := walk(text, true)
	if err != nil {
		return ErrNoName
	}
	defer func() { named.Close() }() // one of the two
	if err := unix.Fstatat(named.fd(), named.base, &found, unix.AT_SYMLINK_NOFOLLOW); err != nil || !same(&found, &meant) {
		return ErrNoName
	}
	named.name = e.name
	*e, *named = *named, *e
	return nil
}

// walk opens one folder after the other. Its errors do not name the file.
func walk(name string, follow bool) (*Entry, error) {
	e := &Entry{name: name}
	if err := e.start(name); err != nil {
		return nil, err
	}
	todo := elements(name)
	for links := 0; ; {
		e.base = todo[0]
		todo = todo[1:]
		last := len(todo) == 0
		text, err := e.readlink()
		switch {
		case err == nil && last && !follow || errors.Is(err, unix.ENOENT) && last:
			return e, nil
		case err == nil && last && e.onProc():
			e.open = true
			return e, nil
		case err == nil && !last && e.onProc():
			err = e.enter(0) // the kernel follows that link
		case err == nil:
			if links++; links > maxLinks {
				err = unix.ELOOP
			} else if todo = append(elements(text), todo...); text[0] == '/' {
				err = e.start("/")
			}
		case !errors.Is(err, unix.EINVAL): // EINVAL means that it is not a symlink
		case last:
			return e, nil
		default:
			err = e.enter(unix.O_NOFOLLOW)
		}
		if err != nil {
			e.Close()
			return nil, err
		}
	}
}

// elements returns the elements of a path.
func elements(path string) []string {
	list := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(list) == 0 {
		return []string{"."}
	}
	return list
}

// start opens the folder where a path begins.
func (e *Entry) start(path string) error {
	first := "."
	if strings.HasPrefix(path, "/") {
		first = "/"
	}
	fd, err := unix.Open(first, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return e.take(fd)
}

// enter opens the folder base.
func (e *Entry) enter(flag int) error {
	fd, err := unix.Openat(e.fd(), e.base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|flag, 0)
	if err != nil {
		return err
	}
	return e.take(fd)
}

func (e *Entry) take(fd int) error {
	e.Close()
	e.dir = os.NewFile(uintptr(fd), e.name)
	return unix.Fstat(fd, &e.st)
}

// readlink returns the text of the symlink base. A symlink of another user in a
// shared folder is an error.
func (e *Entry) readlink() (string, error) {
	fd, err := unix.Openat(e.fd(), e.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	if e.Shared() && !own(&st) {
		return "", ErrLink
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(b[:max(n, 0)]), err
}

// onProc reports whether the folder is in procfs, where symlinks lead to open
// files, not to the file that their text names.
func (e *Entry) onProc() bool {
	var st unix.Statfs_t
	return unix.Fstatfs(e.fd(), &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}

func (e *Entry) fd() int { return int(e.dir.Fd()) }
