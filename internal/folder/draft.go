package folder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Draft is a file that appears under a name when it is whole. Till then it has
// none, so that nothing is left of it however its process ends. Where the
// filesystem knows no files without a name it has one that nobody guesses.
type Draft struct {
	*os.File
	entry *Entry
	temp  string // in the folder of entry; "" where it has no name
}

// Draft makes an empty file, of mode 0600, for the caller alone.
func (e *Entry) Draft() (*Draft, error) {
	if canLink() {
		fd, err := unix.Openat(e.fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return &Draft{File: os.NewFile(uintptr(fd), e.name), entry: e}, nil
		}
		// Each filesystem has a way of its own to say that it knows none.
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return nil, &fs.PathError{Op: "create", Path: e.name, Err: err}
		}
	}
	return e.namedDraft()
}

// namedDraft makes one where there are no files without a name.
func (e *Entry) namedDraft() (*Draft, error) {
	hidden := *e
	hidden.base = e.temporary()
	f, err := hidden.Create()
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: e.name, Err: errors.Unwrap(err)}
	}
	return &Draft{File: f, entry: e, temp: hidden.base}, nil
}

// maxName is what the kernel allows for one name, in bytes.
const maxName = 255

// temporary returns a name beside the entry that nobody has.
func (e *Entry) temporary() string {
	suffix := "." + rand.Text()[:12]
	return "." + e.base[:min(len(e.base), maxName-1-len(suffix))] + suffix
}

// Appear gives the file its name, in place of a file that has it if replace
// says so; else that is an error.
func (d *Draft) Appear(replace bool) error {
	e := d.entry
	if d.temp == "" {
		if !replace {
			return d.link(e.base)
		}
		// Only a name can take the place of a name. It is there for a moment.
		temp := e.temporary()
		if err := d.link(temp); err != nil {
			return err
		}
		d.temp = temp
	}
	err := d.rename(replace)
	if err == nil {
		d.temp = ""
	}
	return err
}

// rename gives a file with a name another.
func (d *Draft) rename(replace bool) error {
	e := d.entry
	if replace {
		return unix.Renameat(e.fd(), d.temp, e.fd(), e.base)
	}
	err := unix.Renameat2(e.fd(), d.temp, e.fd(), e.base, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A filesystem that cannot tell. It may have links, which do not replace.
	switch err = unix.Linkat(e.fd(), d.temp, e.fd(), e.base, 0); {
	case err == nil:
		_ = unix.Unlinkat(e.fd(), d.temp, 0) // the file has appeared
		return nil
	case errors.Is(err, unix.EEXIST):
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(e.fd(), e.base, &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
		return unix.EEXIST
	}
	return unix.Renameat(e.fd(), d.temp, e.fd(), e.base)
}

// link gives a file without a name one in the folder.
func (d *Draft) link(base string) error {
	e := d.entry
	err := unix.Linkat(int(d.Fd()), "", e.fd(), base, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // not for everyone
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("%s/%d", openFiles, d.Fd()), e.fd(), base, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

const openFiles = "/proc/self/fd"

// canLink tells whether a file without a name can be given one.
func canLink() bool {
	_, err := os.Stat(openFiles)
	return err == nil || os.Geteuid() == 0
}

// Discard removes what did not appear. The file is still open.
func (d *Draft) Discard() {
	if d.temp != "" {
		_ = unix.Unlinkat(d.entry.fd(), d.temp, 0)
	}
}
