package testfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A loop is a file attached to a loop device.
type loop struct{ device string }

func attach(path string) (*loop, error) {
	out, err := run("losetup", "--find", "--show", path)
	if err != nil {
		return nil, err
	}
	return &loop{device: strings.TrimSpace(string(out))}, nil
}

func (l *loop) detach() error {
	_, err := run("losetup", "--detach", l.device)
	return err
}

// makeJournal makes an external journal in the file at path and attaches it.
func makeJournal(path string, spec Spec) (*loop, error) {
	if err := emptyFile(path, spec.JournalDevice); err != nil {
		return nil, err
	}
	// Its UUID is random, lest e2fsck takes that of another test for it.
	if _, err := run("mke2fs", "-q", "-F", "-O", "journal_dev", "-b", fmt.Sprint(blockSize(spec.Mke2fs)), path); err != nil {
		return nil, err
	}
	return attach(path)
}

// Privately runs f on a thread with mounts of its own. Nobody else sees what f
// mounts, and that goes away with the thread, whatever becomes of it. What is
// mounted for all to see stays mounted where another thread makes its own mounts
// in between.
func Privately(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			result <- fmt.Errorf("unshare: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			result <- fmt.Errorf("making mounts private: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// fillMounted mounts the filesystem and fills it.
func fillMounted(fs *FS, journal *loop) error {
	return Privately(func() error { return fillPrivately(fs, journal) })
}

func fillPrivately(fs *FS, journal *loop) error {
	dir := filepath.Join(filepath.Dir(fs.Path), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	options := "loop"
	if fs.Spec.Mount != "" {
		options += "," + fs.Spec.Mount
	}
	if journal != nil {
		options += ",journal_path=" + journal.device
	}
	if _, err := run("mount", "-t", "ext4", "-o", options, fs.Path, dir); err != nil {
		return err
	}
	err := fillTree(fs, dir)
	if err := errors.Join(err, Unmount(dir)); err != nil {
		return err
	}
	if fs.Spec.Dirty {
		if err := os.Rename(fs.Path+".dirty", fs.Path); err != nil {
			return err
		}
		if journal != nil {
			return os.Rename(fs.Journal+".dirty", fs.Journal)
		}
	}
	return nil
}

// Unmount unmounts dir. A process that is just being started or ended, whoever
// waits for it, holds files of dir open a little longer: so it may take more than
// one try.
func Unmount(dir string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Unmount(dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// fillTree writes the tree into the mounted filesystem, and for a dirty one
// takes its copy.
func fillTree(fs *FS, dir string) error {
	if err := preallocate(filepath.Join(dir, "prealloc")); err != nil {
		return err
	}
	if err := populate(dir, fs.Spec); err != nil {
		return err
	}
	if fs.Spec.Encrypt {
		if err := encryptedFolder(filepath.Join(dir, "secret")); err != nil {
			return err
		}
	}
	if fs.Spec.Dirty {
		return dirtyCopy(fs, dir)
	}
	return nil
}

// preallocate makes a file of uninitialised extents, where the filesystem has
// extents: the blocks hold what they held before.
func preallocate(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, 256<<10)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// dirtyCopy copies the image while it is mounted and something is going on:
// a folder just made, an open file already deleted, fsyncs between.
func dirtyCopy(fs *FS, dir string) error {
	if err := syncFS(dir); err != nil {
		return err
	}
	orphan, err := os.Create(filepath.Join(dir, "orphan"))
	if err != nil {
		return err
	}
	defer orphan.Close()
	if _, err := orphan.Write(canary("orphan", 0, 300<<10)); err != nil {
		return err
	}
	if err := os.Remove(orphan.Name()); err != nil {
		return err
	}
	late := filepath.Join(dir, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		return err
	}
	for i := range 50 {
		f, err := os.Create(filepath.Join(late, fmt.Sprintf("file-%02d", i)))
		if err != nil {
			return err
		}
		_, err = f.Write(canary(f.Name(), 0, 5000))
		if i%10 == 0 {
			err = errors.Join(err, f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := syncFS(dir); err != nil {
		return err
	}
	// Two more changes, in the fast-commit area where there is one.
	for _, name := range []string{"file-00", "file-50"} {
		f, err := os.OpenFile(filepath.Join(late, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(canary(name, 5000, 20000))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	if fs.Journal != "" {
		if err := sparseCopy(fs.Journal+".dirty", fs.Journal); err != nil {
			return err
		}
	}
	return sparseCopy(fs.Path+".dirty", fs.Path)
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
