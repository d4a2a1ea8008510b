// Package freeze keeps a mounted filesystem frozen while it is read, and thaws
// it however the reader ends.
//
//	this process ──hold──► child, in a session of its own
//	     ▲                   │ FIFREEZE
//	     └─────status────────┘ waits till nothing comes through hold any more
//	                         │ FITHAW
//
// The child keeps a folder of the filesystem open. It thaws the filesystem when
// the other end of hold is closed; the kernel closes hold when this process is
// killed. It also thaws when no beat has come through hold for too long: this
// process is then stopped, or waits for a program that waits for the
// filesystem. Signals do not end the child. The child is the same program,
// which must call Child if IsChild reports true.
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

// Why a filesystem is not frozen, or no longer frozen, for errors.Is.
var (
	ErrFrozen      = errors.New("is frozen already")
	ErrUnsupported = errors.New("is of a kind that cannot be frozen")
	ErrPermission  = errors.New("may be frozen by root only")
	ErrHidden      = errors.New("is hidden under another mount")
	ErrThawed      = errors.New("was thawed by someone else")
	ErrStalled     = errors.New("was thawed because nothing went on")
	ErrKilled      = errors.New("was thawed because the process that kept it frozen was killed")
)

// An Error is a failure to freeze a mounted filesystem or to keep it frozen.
type Error struct {
	Point string // where it is mounted
	Err   error
}

func (e *Error) Error() string { return e.Point + " " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Stall is how long a filesystem stays frozen without a Beat.
const Stall = 30 * time.Second

// A Frozen is a frozen filesystem. A nil Frozen stands for none.
type Frozen struct {
	point string
	since time.Time
	dir   *os.File // in the filesystem
	hold  *os.File
	child *exec.Cmd
	beats atomic.Uint64 // calls of Beat

	once    sync.Once
	thawing chan struct{} // closed to ask for the thaw
	ended   chan struct{} // closed when the child has ended
	err     error         // set before ended is closed, as is took
	took    time.Duration
}

// Start freezes the filesystem on the device of that number, which is mounted
// at point. The kernel writes back what is in memory, and programs that change
// the filesystem wait. If the filesystem does not stay frozen until Thaw is
// called, lost is called once with the error that Thaw will return. The
// filesystem is thawed if there is no Beat for the duration stall.
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
		f.hold.Close() // the child may still be writing back; it thaws after that
		return nil, err
	}
	go f.beat(stall)
	return f, nil
}

// The file descriptors of the child.
const (
	childDir = 3 + iota
	childHold
	childStatus
)

// startChild starts the child, and returns the pipe with the messages of the
// child.
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
	_ = f.child.Wait() // the child has sent its last message, or was killed
	asked := false
	select {
	case <-f.thawing:
		asked = true
	default:
	}
	if errors.Is(err, ErrKilled) && ioctl(f.dir.Fd(), fiThaw) == nil && asked {
		err = nil // the filesystem was frozen until now
	}
	f.dir.Close()
	f.err, f.took = err, time.Since(f.since)
	close(f.ended)
	if err != nil && started == nil && !asked {
		lost(err)
	}
}

// said waits for the expected message of the child.
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

// Took returns how long the filesystem was frozen. Call it after Thaw.
func (f *Frozen) Took() time.Duration { return f.took }

// Beat reports that the work makes progress.
func (f *Frozen) Beat() {
	if f != nil {
		f.beats.Add(1)
	}
}

// beat sends beats to the child.
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
			_, _ = f.hold.Write([]byte{0}) // an error means that the child ends or has ended
		}
	}
}

// Thaw thaws the filesystem. It returns an error if the filesystem was not
// frozen all the time since Start, or cannot be thawed. It may be called again.
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
