// Package folder finds and makes files in folders that other users may also
// write to.
//
//	/tmp/a/link ─► a ─► link ─► out.img        each step by an open folder
//	        │
//	        └ a symlink that another user put into a folder that users share
//	          is not followed
//
// A name is followed once, folder by folder. Later calls use the open folder
// that was found, so no other user can exchange it.
package folder

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Why a file is not used, for errors.Is.
var (
	ErrForeign = errors.New("belongs to another user, in a folder that others write to")
	ErrLink    = errors.New("leads through a symlink of another user, in a folder that others write to")
	ErrLinked  = errors.New("has other names, and is in a folder that others write to")
	ErrNoName  = errors.New("has no name any more, so that nobody would find what is written")
	ErrDevices = errors.New("is no device, and in a folder of devices")
	ErrKind    = errors.New("is not a regular file")
	ErrExposed = errors.New("can be written to by others")
)

// An Entry is a name in an open folder. The file need not exist.
type Entry struct {
	dir  *os.File // opened with O_PATH
	st   unix.Stat_t
	base string
	name string // the name that the caller gave
	open bool   // base is a link in procfs to an open file
}

// OfProcess reports whether the name is a link to an open file, such as
// /dev/fd/3, that has no other name: the program that opened the file chose it.
func (e *Entry) OfProcess() bool { return e.open }

// Close closes the folder.
func (e *Entry) Close() {
	if e.dir != nil {
		e.dir.Close()
	}
}

// Same reports whether two entries are the same name in the same folder.
func (e *Entry) Same(o *Entry) bool {
	return e.base == o.base && e.st.Dev == o.st.Dev && e.st.Ino == o.st.Ino
}

// Shared reports whether users other than its owner can make files in the
// folder.
func (e *Entry) Shared() bool { return e.st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 }

// Private reports whether only the caller and root can make files in the
// folder.
func (e *Entry) Private() bool { return !e.Shared() && own(&e.st) }

// own reports whether a file belongs to the caller or root.
func own(st *unix.Stat_t) bool { return st.Uid == 0 || int(st.Uid) == os.Geteuid() }

// Own reports whether a file belongs to the caller or root.
func Own(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}

// Check refuses to change an open file in place if another user put it into a
// shared folder.
func (e *Entry) Check(f *os.File) error {
	st, err := stat(f)
	if err == nil {
		err = e.check(&st)
	}
	return err
}

func (e *Entry) check(st *unix.Stat_t) error {
	switch {
	case e.Shared() && !own(st):
		return ErrForeign
	case e.Shared() && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1:
		return ErrLinked
	}
	return nil
}

// Kind returns the file type under the name, as the bits of unix.S_IFMT; 0 if
// there is no file. It returns an error if another user put the file into a
// shared folder, unless the file is regular and so can be replaced.
func (e *Entry) Kind() (uint32, error) {
	var st unix.Stat_t
	flag := unix.AT_SYMLINK_NOFOLLOW
	if e.open {
		flag = 0
	}
	err := unix.Fstatat(e.fd(), e.base, &st, flag)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: e.name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if !e.open && kind != unix.S_IFREG && kind != unix.S_IFDIR {
		err = e.check(&st)
	}
	return kind, err
}

func stat(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	conn, err := f.SyscallConn()
	if err != nil {
		return st, err
	}
	var statErr error
	if err = conn.Control(func(fd uintptr) { statErr = unix.Fstat(int(fd), &st) }); err == nil {
		err = statErr
	}
	return st, err
}

// Open opens the file. It fails if the file has become a symlink.
func (e *Entry) Open(flag int) (*os.File, error) { return e.openat(flag, 0) }

// Create makes an empty file and opens it for reading and writing. It returns
// an error if the name exists.
func (e *Entry) Create() (*os.File, error) {
	return e.openat(unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
}

func (e *Entry) openat(flag int, mode uint32) (*os.File, error) {
	if !e.open {
		flag |= unix.O_NOFOLLOW
	}
	for {
		fd, err := unix.Openat(e.fd(), e.base, flag|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
		if err == nil {
			return os.NewFile(uintptr(fd), e.name), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: e.name, Err: err}
		}
	}
}

// CheckReplace refuses to replace a file if the sticky bit of the folder allows
// that to the owner only.
func (e *Entry) CheckReplace(info fs.FileInfo) error {
	if e.st.Mode&unix.S_ISVTX == 0 || own(&e.st) && e.st.Uid != 0 || os.Geteuid() == 0 {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return &fs.PathError{Op: "replace", Path: e.name, Err: unix.EPERM}
	}
	return nil
}

// Sync writes the names in the folder to the disk, if the filesystem can. f is
// any open file of that filesystem. If the folder cannot be read, the whole
// filesystem is synced.
func (e *Entry) Sync(f *os.File) error {
	fd, err := unix.Openat(e.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		return unix.Syncfs(int(f.Fd()))
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err = unix.Fsync(fd); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // the filesystem does not support it
	}
	return err
}

// CheckDevices refuses to make a file on the filesystem of /dev, except in
// /dev/shm: such a name is a mistyped device.
func (e *Entry) CheckDevices() error {
	var dev, root, shm unix.Stat_t
	if unix.Stat("/dev", &dev) != nil || unix.Stat("/", &root) != nil || e.st.Dev != dev.Dev {
		return nil
	}
	haveShm := unix.Stat("/dev/shm", &shm) == nil
	// Go up from the folder to the root of its filesystem.
	const maxDepth = 256
	at := &Entry{name: e.name, base: "."}
	if err := at.takeFrom(e.fd()); err != nil {
		return err
	}
	defer func() { at.Close() }()
	for range maxDepth {
		switch {
		case haveShm && same(&at.st, &shm):
			return nil
		case same(&at.st, &dev):
			return ErrDevices
		}
		before := at.st
		at.base = ".."
		if err := at.enter(0); err != nil || same(&before, &at.st) || at.st.Dev != dev.Dev {
			break
		}
	}
	if dev.Dev != root.Dev { // another mount of the same filesystem
		return ErrDevices
	}
	return nil
}

func same(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// takeFrom opens the folder of a descriptor once more.
func (e *Entry) takeFrom(dir int) error {
	fd, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return e.take(fd)
}

// OpenOwn opens a regular file whose contents are trusted, such as a journal.
// The file must belong to the caller or root, nobody else may be able to write
// to it, and its name must not be a symlink. flag is os.O_RDONLY or os.O_RDWR.
func OpenOwn(name string, flag int) (*os.File, error) {
	e, err := find(name, false)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	f, err := e.Open(flag | unix.O_NONBLOCK)
	if errors.Is(err, unix.ELOOP) {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrKind}
	}
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = ErrKind
	case !own(&st) || st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		err = ErrExposed
	default:
		err = e.Check(f)
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}
