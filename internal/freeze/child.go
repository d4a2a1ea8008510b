package freeze

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// childName is the name of a child in the output of ps.
const childName = "e2qcow: keeps a filesystem frozen"

// The messages of a child, each followed by an error number and a newline.
const (
	saidFrozen  = 'F'
	saidThawed  = 'T'
	saidStalled = 'S' // thawed because no beat came
)

// IsChild reports whether these are the arguments of a child.
func IsChild(args []string) bool { return len(args) == 2 && args[0] == childName }

// Child freezes, waits and thaws. The process exits with what it returns.
func Child(args []string) int {
	signal.Ignore()
	// The kernel must not kill the child when memory is short.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	status := os.NewFile(childStatus, "status")
	defer status.Close()
	say := func(what byte, err error) {
		var errno unix.Errno
		errors.As(err, &errno)
		_, _ = fmt.Fprintf(status, "%c%d\n", what, int(errno)) // the reader has ended if this fails
	}
	milliseconds, err := strconv.Atoi(args[1])
	if err != nil {
		return 1
	}
	err = ioctl(childDir, fiFreeze)
	say(saidFrozen, err)
	if err != nil {
		return 1
	}
	what := byte(saidThawed)
	if !wait(childHold, time.Duration(milliseconds)*time.Millisecond) {
		what = saidStalled
	}
	err = ioctl(childDir, fiThaw)
	say(what, err)
	if err != nil {
		return 1
	}
	return 0
}

// wait reads from fd to its end. It returns false if no byte arrives for the
// duration stall.
func wait(fd int, stall time.Duration) bool {
	buf := make([]byte, 64)
	for deadline := time.Now().Add(stall); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		k, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || k <= 0 {
			return true
		}
		deadline = time.Now().Add(stall)
	}
}
