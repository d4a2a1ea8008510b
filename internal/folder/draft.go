package folder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Draft is a file that gets its name when it is complete. Until then it has
// no name, so nothing is left of it however its process ends. On a filesystem
// that cannot hold files without a name, the draft has a random name.
type Draft struct {
	*os.File
	entry *Entry
	temp  string // the name in the folder of entry; "" if the draft has none
}

// Draft makes an empty file, of mode 0600, for the caller alone.
func (e *Entry) Draft() (*Draft, error) {
	if canLink() {
		fd, err := unix.Openat(e.fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return &Draft{File: os.NewFile(uintptr(fd), e.name), entry: e}, nil
		}
		// Filesystems return different errors when they do not know O_TMPFILE.
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return nil, &fs.PathError{Op: "create", Path: e.name, Err: err}
		}
	}
	return e.namedDraft()
}

// namedDraft makes a draft with a random name.
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

// temporary returns an unused name beside the entry.
func (e *Entry) temporary() string {
	suffix := "." + rand.Text()[:12]
	return "." + e.base[:min(len(e.base), maxName-1-len(suffix))] + suffix
}

// Appear gives the file its name. If a file has that name, replace says whether
// the draft replaces it; otherwise that is an error.
func (d *Draft) Appear(replace bool) error {
	e := d.entry
	if d.temp == "" {
		if !replace {
			return d.link(e.base)
		}
		// A file without a name cannot replace another, so the draft gets a
		// name for a moment.
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

// rename renames a draft that has a name.
func (d *Draft) rename(replace bool) error {
	e := d.entry
	if replace {
		return unix.Renameat(e.fd(), d.temp, e.fd(), e.base)
	}
	err := unix.Renameat2(e.fd(), d.temp, e.fd(), e.base, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// The filesystem does not know RENAME_NOREPLACE. A hard link does not
	// replace a file either.
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

// link gives a draft without a name its name in the folder.
func (d *Draft) link(base string) error {
	e := d.entry
	err := unix.Linkat(int(d.Fd()), "", e.fd(), base, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // not for everyone
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("%s/%d", openFiles, d.Fd()), e.fd(), base, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

const openFiles = "/proc/self/fd"

// canLink reports whether a file without a name can get a name.
func canLink() bool {
	_, err := os.Stat(openFiles)
	return err == nil || os.Geteuid() == 0
}

// Discard removes a draft that did not appear. The file stays open.
func (d *Draft) Discard() {
	if d.temp != "" {
		_ = unix.Unlinkat(d.entry.fd(), d.temp, 0)
	}
}
