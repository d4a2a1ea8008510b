package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process works on a file or device.
var ErrLocked = errors.New("is locked")

// A LockedError names the process that has locked a file or device.
type LockedError struct {
	Name string
	PID  int    // 0 where that is not known
	Comm string // what the process is called
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s %v by another process", e.Name, ErrLocked)
	}
	return fmt.Sprintf("%s %v by process %d (%s)", e.Name, ErrLocked, e.PID, e.Comm)
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// udev locks a device for a moment when it looks at it.
const (
	lockTries = 20
	lockPause = 50 * time.Millisecond
)

// Lock locks an open file or block device against other processes that do so,
// by whatever name, till f is closed. It does not wait for them. A filesystem
// without locks locks nothing.
func Lock(f *os.File) error {
	st, err := stat(f)
	if err != nil {
		return err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		var lockErr error
		if err := conn.Control(func(fd uintptr) { lockErr = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
			return err
		}
		switch {
		case errors.Is(lockErr, unix.EINTR):
			continue
		case errors.Is(lockErr, unix.EWOULDBLOCK) && st.Mode&unix.S_IFMT == unix.S_IFBLK && try < lockTries:
			time.Sleep(lockPause)
			continue
		case errors.Is(lockErr, unix.EWOULDBLOCK):
			return host.holder(f.Name(), &st)
		case errors.Is(lockErr, unix.EOPNOTSUPP), errors.Is(lockErr, unix.ENOSYS), errors.Is(lockErr, unix.ENOLCK):
			return nil
		case lockErr != nil:
			return &os.PathError{Op: "lock", Path: f.Name(), Err: lockErr}
		}
		return nil
	}
}

// Holder returns a LockedError with the process that has locked the file or
// device f, nil if none is known.
func Holder(f *os.File) *LockedError {
	if st, err := stat(f); err == nil {
		if e := host.holder(f.Name(), &st); e.PID != 0 {
			return e
		}
	}
	return nil
}

// holder finds the process that has locked a file, if procfs shows it.
func (sys system) holder(name string, st *unix.Stat_t) *LockedError {
	e := &LockedError{Name: name}
	b, err := os.ReadFile(filepath.Join(sys.proc, "locks"))
	if err != nil {
		return e
	}
	//nolint:unconvert // Dev is narrower on some architectures.
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	for _, line := range strings.Split(string(b), "\n") {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != file {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil || pid <= 0 { // of another namespace
			continue
		}
		comm, err := os.ReadFile(filepath.Join(sys.proc, fields[4], "comm"))
		if err != nil {
			continue
		}
		e.PID, e.Comm = pid, strings.TrimSuffix(string(comm), "\n")
	}
	return e
}

// LockBehind locks the file or device behind a loop device, or behind a
// partition of one, as Lock does. It returns nil if f is another device, or if
// the file behind it cannot be opened. The lock lasts until the returned file
// is closed.
func LockBehind(f *os.File) (*os.File, error) {
	st, err := stat(f)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, err
	}
	behind := host.behind(idOf(&st).dev)
	if behind == nil {
		return nil, nil
	}
	if err := Lock(behind); err != nil {
		behind.Close()
		return nil, err
	}
	return behind, nil
}

// behind opens the file behind a loop device.
func (sys system) behind(rdev uint64) *os.File {
	dir := sys.folder(rdev)
	if disk, _, _, ok := partition(dir); ok {
		rdev, dir = disk, sys.folder(disk)
	}
	id, _, _, ok := sys.loopBacking(dir, rdev)
	name, err := os.ReadFile(filepath.Join(dir, "loop", "backing_file"))
	if !ok || err != nil {
		return nil
	}
	f, err := os.OpenFile(strings.TrimSuffix(string(name), "\n"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if st, err := stat(f); err != nil || idOf(&st) != id { // another file has the name by now
		f.Close()
		return nil
	}
	return f
}
