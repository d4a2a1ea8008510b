package target

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"e2qcow/internal/folder"

	"golang.org/x/sys/unix"
)

// find follows the symlinks of name to a file, which need not exist.
func find(name string) (*folder.Entry, error) {
	if name == "" || os.IsPathSeparator(name[len(name)-1]) {
		return nil, refuse(name, ErrDirectory)
	}
	e, err := folder.Find(name)
	for _, why := range []error{folder.ErrLink, folder.ErrNoName} {
		if errors.Is(err, why) {
			return nil, refuse(name, why)
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unwrapPath(err)}
	}
	return e, nil
}

// openFile makes a file that will replace the file with the name e.
func openFile(e *folder.Entry, name string, opt Options) (*Target, error) {
	t := &Target{kind: File, name: name, entry: e, options: opt}
	if err := e.CheckDevices(); err != nil {
		return nil, refuse(name, err)
	}
	var err error
	if t.old, err = checkExisting(e, name, opt); err != nil {
		return nil, err
	}
	if opt.DryRun {
		return t, nil
	}
	if t.draft, err = e.Draft(); err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unwrapPath(err)}
	}
	t.f = t.draft.File
	return t, nil
}

// checkExisting refuses a file that must not be replaced, and returns its
// FileInfo, nil if there is no file. It opens the file for writing only to
// learn whether that is possible: the kernel refuses swap files and running
// programs.
func checkExisting(e *folder.Entry, name string, opt Options) (fs.FileInfo, error) {
	f, err := e.Open(os.O_RDWR | unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, unix.ETXTBSY) {
		return nil, refuse(name, ErrMounted)
	}
	if errors.Is(err, fs.ErrPermission) {
		// The contents of a file that can be written but not read are unknown.
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
	if !info.Mode().IsRegular() {
		return nil, refuse(name, ErrStream) // by now
	}
	if err := cmp.Or(e.CheckReplace(info), checkRegion(f, name, opt)); err != nil {
		return nil, err
	}
	return info, checkContent(f, name, info.Size(), opt)
}

// appear gives a file its name.
func (t *Target) appear() error {
	if t.inherits() {
		if err := inherit(t.f, t.old); err != nil {
			return err
		}
	}
	err := t.draft.Appear(t.old != nil)
	if errors.Is(err, fs.ErrExist) {
		// Another program has made the file meanwhile. It is replaced if it
		// could have been replaced before.
		if _, err = checkExisting(t.entry, t.name, t.options); err == nil {
			err = t.draft.Appear(true)
		}
	}
	return err
}

// inherits reports whether the new file gets the owner and the mode of the old
// one. It does not if another user may have chosen these: a file that another
// user owns, or in a folder where other users make files, may have been put
// there so that they can read the image.
func (t *Target) inherits() bool {
	switch t.options.Format {
	case JSON, Undo, Names:
		return false
	}
	return t.old != nil && folder.Own(t.old) && t.entry.Private()
}

// inherit gives f the owner and the mode of the file that f replaces. If the
// owner cannot be changed, f stays readable for the caller only.
func inherit(f *os.File, old fs.FileInfo) error {
	if st, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return nil //nolint:nilerr // Not everyone may give files away.
		}
	}
	return f.Chmod(old.Mode().Perm())
}

// unwrapPath returns the error inside a PathError or LinkError, without the
// names.
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
