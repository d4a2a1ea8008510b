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

// find follows name to the file that is meant, which need not exist.
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

// openFile makes a file that takes the place of the one that e is the name of.
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

// checkExisting refuses a file that must not be replaced, and returns what is
// known of it, nil where there is none. It is opened for writing, though only to
// see whether it could be: the kernel does not let go of swap files and running
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
		// Somebody made one meanwhile. It goes if it could have gone before.
		if _, err = checkExisting(t.entry, t.name, t.options); err == nil {
			err = t.draft.Appear(true)
		}
	}
	return err
}

// inherits tells whether the file gets the owner and the mode of the one that it
// replaces. Nobody else may have chosen these: what another user owns, or what
// lies where other users make files, may have been put there to be read by them.
func (t *Target) inherits() bool {
	switch t.options.Format {
	case JSON, Undo, Names:
		return false
	}
	return t.old != nil && folder.Own(t.old) && t.entry.Private()
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
