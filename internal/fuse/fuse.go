//go:build !386 && !arm

package fuse

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A Mount is a disk that is served.
type Mount struct {
	server *fuse.Server
	folder string
	ended  chan struct{}
}

// New serves disk in folder, which must be an empty one. It returns when the disk
// can be used. The error is ErrUnavailable where there is no FUSE.
func New(folder string, disk Disk, opt Options) (*Mount, error) {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if err := checkFolder(abs); err != nil {
		return nil, err
	}
	if err := available(); err != nil {
		return nil, err
	}
	forever := 24 * time.Hour
	root := &root{node: newNode(disk, opt)}
	options := &fs.Options{
		EntryTimeout:    &forever,
		AttrTimeout:     &forever,
		NegativeTimeout: &forever,
		NullPermissions: true,
		UID:             uint32(os.Geteuid()),
		GID:             uint32(os.Getegid()),
		MountOptions: fuse.MountOptions{
			MaxWrite:                 fuse.MAX_KERNEL_WRITE,
			MaxReadAhead:             fuse.MAX_KERNEL_WRITE,
			MaxBackground:            64,
			FsName:                   opt.Source,
			Name:                     "e2qcow",
			DisableXAttrs:            true,
			ExplicitDataCacheControl: true,
			DirectMount:              os.Geteuid() == 0,
			Options:                  []string{"nosuid", "nodev", "noexec"},
			Logger:                   log.New(io.Discard, "", 0), //nolint:forbidigo // it has package fuse be quiet
		},
	}
	if opt.ReadOnly && os.Geteuid() == 0 {
		options.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY
	} else if opt.ReadOnly {
		options.Options = append(options.Options, "ro")
	}
	server, err := fs.Mount(abs, root, options)
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %s", ErrUnavailable, folder, strings.TrimSpace(err.Error()))
	}
	m := &Mount{server: server, folder: abs, ended: make(chan struct{})}
	go func() {
		server.Wait()
		close(m.ended)
	}()
	readAhead(abs)
	return m, nil
}

// checkFolder refuses what is no empty folder: its files would be hidden.
func checkFolder(folder string) error {
	list, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0) // a FIFO would be waited for
	if err != nil {
		return err
	}
	defer list.Close()
	names, err := list.Readdirnames(1)
	switch {
	case len(names) > 0:
		return fmt.Errorf("%s is not empty", folder)
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// available checks that the device is there, and may be opened by this user:
// fusermount3 opens the device with the rights of its caller.
func available() error {
	const device = "/dev/fuse"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(st.Rdev) != 10 || unix.Minor(st.Rdev) != 229 {
			_ = unix.Close(fd)
			return fmt.Errorf("%w: %s is not the FUSE device", ErrUnavailable, device)
		}
		_ = unix.Close(fd)
	default:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, device, err)
	}
	return nil
}

// readAhead has the kernel read the file in large pieces, where this user may say
// so: by itself it reads 128 KiB at a time.
func readAhead(folder string) {
	var st unix.Stat_t
	if unix.Stat(folder, &st) != nil {
		return
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	_ = os.WriteFile(name, []byte("1024"), 0)
}

// Disk returns the path of the file.
func (m *Mount) Disk() string { return filepath.Join(m.folder, DiskName) }

// Ended is closed when the disk is no longer served, whoever ended that.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// Unmount ends the service. The error is ErrBusy while the disk is in use.
func (m *Mount) Unmount() error {
	select {
	case <-m.ended:
		return nil
	default:
	}
	var err error
	if os.Geteuid() == 0 {
		err = unix.Unmount(m.folder, 0)
	} else {
		err = fusermount("-u", m.folder)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return ErrBusy
	case err != nil:
		return fmt.Errorf("unmount %s: %w", m.folder, err)
	}
	<-m.ended
	return nil
}

// Detach takes the folder out of the tree of files though the disk is in use. Who
// has the disk open keeps it till this process ends.
func (m *Mount) Detach() error {
	if os.Geteuid() == 0 {
		return unix.Unmount(m.folder, unix.MNT_DETACH)
	}
	return fusermount("-uz", m.folder)
}

// errno returns what the kernel is told of an error.
func errno(err error) syscall.Errno {
	var number syscall.Errno
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return 0
	case errors.As(err, &number):
		return number
	}
	return syscall.EIO
}

// once passes on each text of an error once, up to a number of them.
type once struct {
	mu   sync.Mutex
	said map[string]bool
	say  func(error)
}

const mostSaid = 100

func (o *once) pass(err error) {
	if o.say == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	text := err.Error()
	if o.said[text] || len(o.said) == mostSaid {
		return
	}
	o.said[text] = true
	o.say(err)
}
