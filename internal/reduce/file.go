package reduce

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A file is a sparse file with the contents of a disk, which a command is given.
type file struct {
	d       *disk
	folder  string // of its own
	f       *os.File
	version int       // of the disk that the file holds
	mtime   time.Time // when all in the file was written by us
}

// newFile makes a file below folder. The folder of the file is private; made,
// unless nil, is called with its name before anything is in it.
func newFile(folder string, d *disk, made func(string)) (*file, error) {
	own, err := os.MkdirTemp(folder, "e2qcow-reduce-")
	if err != nil {
		return nil, err
	}
	if made != nil {
		made(own)
	}
	f := &file{d: d, folder: own}
	f.f, err = os.OpenFile(f.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.restore()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// path returns the name of the file.
func (f *file) path() string { return filepath.Join(f.folder, "disk") }

func (f *file) close() {
	if f.f != nil {
		f.f.Close()
	}
	os.RemoveAll(f.folder)
}

// restore makes the file hold the disk again, where a command has written to it.
func (f *file) restore() error {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(f.path())
	if err == nil && os.SameFile(there, info) && !f.mtime.IsZero() && info.ModTime().Equal(f.mtime) && info.Size() == f.d.size {
		return f.sync()
	}
	if err := f.reopen(); err != nil {
		return err
	}
	if err := f.f.Truncate(0); err != nil {
		return err
	}
	if err := f.f.Truncate(f.d.size); err != nil {
		return err
	}
	img := f.d.image()
	b := make([]byte, 256<<10)
	for _, r := range img.runs {
		for at := r.Start; at < r.End; at += int64(len(b)) {
			n, err := img.ReadAt(b[:min(int64(len(b)), r.End-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if _, err := f.f.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
	}
	f.version = f.d.version
	return f.stamp()
}

// reopen makes the file anew where a command has removed or replaced it.
func (f *file) reopen() error {
	there, err := os.Lstat(f.path())
	info, statErr := f.f.Stat()
	if err == nil && statErr == nil && os.SameFile(there, info) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if err := os.Remove(f.path()); err != nil {
			return err
		}
	}
	f.f.Close()
	f.f, err = os.OpenFile(f.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

// stamp remembers that all in the file is known: by a time of the last change that
// is long ago, so that a write shows however soon it comes.
func (f *file) stamp() error {
	const long = 1 << 30 // seconds
	f.mtime = time.Unix(long, 0)
	return unix.Futimes(int(f.f.Fd()), []unix.Timeval{{Sec: long}, {Sec: long}})
}

// sync writes what was accepted since.
func (f *file) sync() error {
	if f.version == f.d.version {
		return nil
	}
	for _, c := range f.d.log[f.version:] {
		if err := f.write(c.pages); err != nil {
			return err
		}
	}
	f.version = f.d.version
	if err := f.f.Truncate(f.d.size); err != nil {
		return err
	}
	return f.stamp()
}

func (f *file) write(pages map[int64][]byte) error {
	for n, b := range pages {
		if n*page >= f.d.size {
			continue
		}
		if _, err := f.f.WriteAt(b[:min(page, f.d.size-n*page)], n*page); err != nil {
			return err
		}
	}
	return nil
}

// judge returns what the command says of the disk with c.
func (f *file) judge(ctx context.Context, j Judge, c *change) (Verdict, error) {
	if err := f.restore(); err != nil {
		return Verdict{}, err
	}
	if err := f.write(c.pages); err != nil {
		return Verdict{}, err
	}
	if c.size != 0 {
		if err := f.f.Truncate(c.size); err != nil {
			return Verdict{}, err
		}
	}
	if err := f.stamp(); err != nil {
		return Verdict{}, err
	}
	v, err := j.run(ctx, f.path())
	if err != nil {
		return v, err
	}
	return v, f.undo(c)
}

// undo takes c out of the file again.
func (f *file) undo(c *change) error {
	info, err := f.f.Stat()
	if err != nil {
		return err
	}
	if !info.ModTime().Equal(f.mtime) || c.size != 0 {
		f.mtime = time.Time{} // the command wrote, or pages were cut off: all is written anew
		return nil
	}
	old := map[int64][]byte{}
	for n := range c.pages {
		b := make([]byte, page)
		if _, err := f.d.ReadAt(b, n*page); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		old[n] = b
	}
	if err := f.write(old); err != nil {
		return err
	}
	return f.stamp()
}
