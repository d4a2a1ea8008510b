// Package freeze keeps a mounted filesystem frozen while it is read, and sees to
// it that it does not stay so, however the reader ends.
//
//	this process ──hold──► child, in a session of its own
//	     ▲                   │ FIFREEZE
//	     └─────status────────┘ waits till nothing comes through hold any more
//	                         │ FITHAW
//
// The child holds a folder of the filesystem open. It thaws when the other end
// of hold is closed, which the kernel does for a process that is killed, or when
// no beat has come through it for too long: this process is stopped then, or
// waits for someone who waits for the filesystem. Signals do not end it. It is
// the same program, which has to call Child if IsChild says so.
package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Why a filesystem is not frozen, or not any more, for errors.Is.
var (
	ErrFrozen      = errors.New("is frozen already")
	ErrUnsupported = errors.New("is of a kind that cannot be frozen")
	ErrPermission  = errors.New("may be frozen by root only")
	ErrHidden      = errors.New("is hidden under another mount")
	ErrThawed      = errors.New("was thawed by someone else")
	ErrStalled     = errors.New("was thawed because nothing went on")
	ErrKilled      = errors.New("was thawed because the process that kept it frozen was killed")
)

// An Error says what became of a mounted filesystem.
type Error struct {
	Point string // where it is mounted
	Err   error
}

func (e *Error) Error() string { return e.Point + " " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Stall is how long a filesystem stays frozen with nothing going on.
const Stall = 30 * time.Second

// A Frozen is a filesystem that is frozen. A nil Frozen is none.
type Frozen struct {
	point string
	since time.Time
	dir   *os.File // in the filesystem
	hold  *os.File
	child *exec.Cmd
	beats atomic.Uint64 // calls of Beat

	once    sync.Once
	thawing chan struct{} // closed when that is asked for
	ended   chan struct{} // closed when the child has
	err     error         // set before ended is closed, as is took
	took    time.Duration
}

// Start freezes the filesystem of the device of that number, which is mounted at
// point: it writes back what is in memory, and has whoever changes something
// wait. lost is called once, with what Thaw will return, if it does not stay
// frozen till Thaw is called. If there is no Beat for the time of stall it is
// thawed.
func Start(ctx context.Context, point string, dev uint64, stall time.Duration, lost func(error)) (*Frozen, error) {
	dir, err := os.OpenFile(point, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(dir.Fd()), &st)
	//nolint:unconvert // Dev is narrower on some architectures.
	if err == nil && uint64(st.Dev) != dev {
		err = ErrHidden
	}
	if err != nil {
		dir.Close()
		return nil, &Error{point, err}
	}
	f := &Frozen{point: point, since: time.Now(), dir: dir, thawing: make(chan struct{}), ended: make(chan struct{})}
	status, err := f.startChild(stall)
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("start what freezes %s: %w", point, err)
	}
	frozen := make(chan error, 1) // not waited for if ctx ends
	go f.watch(bufio.NewReader(status), frozen, lost)
	select {
	case err = <-frozen:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		f.hold.Close() // it may still be writing back, and thaws after that
		return nil, err
	}
	go f.beat(stall)
	return f, nil
}

// What the child finds open.
const (
	childDir = 3 + iota
	childHold
	childStatus
)

// startChild starts the child, and returns where it says what it does.
func (f *Frozen) startChild(stall time.Duration) (status *os.File, err error) {
	holdRead, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer holdRead.Close()
	status, statusWrite, err := os.Pipe()
	if err != nil {
		hold.Close()
		return nil, err
	}
	defer statusWrite.Close()
	f.hold = hold
	f.child = &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{childName, strconv.FormatInt(stall.Milliseconds(), 10)},
		Dir:         "/",
		ExtraFiles:  []*os.File{f.dir, holdRead, statusWrite},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // away from signals to the process group
	}
	if err := f.child.Start(); err != nil {
		hold.Close()
		status.Close()
		return nil, err
	}
	return status, nil
}

// watch waits for the child to freeze and to thaw.
func (f *Frozen) watch(status *bufio.Reader, frozen chan<- error, lost func(error)) {
	started := f.said(status, saidFrozen)
	err := started
	frozen <- started
	if err == nil {
		err = f.said(status, saidThawed)
	}
	_ = f.child.Wait() // it has said all, or was killed
	asked := false
	select {
	case <-f.thawing:
		asked = true
	default:
	}
	if errors.Is(err, ErrKilled) && ioctl(f.dir.Fd(), fiThaw) == nil && asked {
		err = nil // it was frozen till now
	}
	f.dir.Close()
	f.err, f.took = err, time.Since(f.since)
	close(f.ended)
	if err != nil && started == nil && !asked {
		lost(err)
	}
}

// said waits for the child to say what is expected of it.
func (f *Frozen) said(status *bufio.Reader, want byte) error {
	line, err := status.ReadString('\n')
	if err != nil {
		return &Error{f.point, ErrKilled}
	}
	number, _ := strconv.Atoi(line[1 : len(line)-1])
	errno := unix.Errno(number)
	switch {
	case errno == 0 && line[0] == want:
		return nil
	case errno == 0 && line[0] == saidStalled:
		return &Error{f.point, ErrStalled}
	case line[0] != saidFrozen && errno == unix.EINVAL:
		return &Error{f.point, ErrThawed}
	case errno == unix.EBUSY:
		return &Error{f.point, ErrFrozen}
	case errno == unix.EPERM:
		return &Error{f.point, ErrPermission}
	case errno == unix.EOPNOTSUPP || errno == unix.ENOTTY:
		return &Error{f.point, ErrUnsupported}
	}
	return &Error{f.point, fmt.Errorf("cannot be frozen or thawed: %w", errno)}
}

// Point returns where the filesystem is mounted.
func (f *Frozen) Point() string { return f.point }

// Took returns for how long it was frozen, after Thaw.
func (f *Frozen) Took() time.Duration { return f.took }

// Beat says that something goes on.
func (f *Frozen) Beat() {
	if f != nil {
		f.beats.Add(1)
	}
}

// beat passes beats on to the child.
func (f *Frozen) beat(stall time.Duration) {
	ticker := time.NewTicker(stall / 10)
	defer ticker.Stop()
	for last := f.beats.Load(); ; {
		select {
		case <-f.ended:
			return
		case <-ticker.C:
		}
		if n := f.beats.Load(); n != last {
			last = n
			_, _ = f.hold.Write([]byte{0}) // an error: it ends, or has
		}
	}
}

// Thaw thaws the filesystem. An error says that it was not frozen all the time
// since Start, or cannot be thawed. It may be called again.
func (f *Frozen) Thaw() error {
	if f == nil {
		return nil
	}
	f.once.Do(func() {
		close(f.thawing)
		f.hold.Close()
	})
	<-f.ended
	return f.err
}

// FIFREEZE and FITHAW in linux/fs.h.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

func ioctl(fd uintptr, request uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
