package storage

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DeviceSize returns the length of a block device in bytes.
func DeviceSize(f *os.File) (int64, error) {
	var size uint64
	if err := ioctl(f, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return 0, &os.PathError{Op: "BLKGETSIZE64", Path: f.Name(), Err: err}
	}
	if int64(size) < 0 {
		return 0, &os.PathError{Op: "BLKGETSIZE64", Path: f.Name(), Err: unix.EOVERFLOW}
	}
	return int64(size), nil
}

// SectorSize returns the size in bytes of the logical sectors of a block
// device, which is the unit of reads that bypass the page cache.
func SectorSize(f *os.File) (int64, error) {
	var size int32
	if err := ioctl(f, unix.BLKSSZGET, unsafe.Pointer(&size)); err != nil {
		return 0, &os.PathError{Op: "BLKSSZGET", Path: f.Name(), Err: err}
	}
	return int64(size), nil
}

// ZeroOut has a block device zero n bytes at off itself, which may also free
// them. Both are multiples of its logical sectors. Not every device can.
func ZeroOut(f *os.File, off, n int64) error {
	area := [2]uint64{uint64(off), uint64(n)}
	if err := ioctl(f, unix.BLKZEROOUT, unsafe.Pointer(&area)); err != nil {
		return &os.PathError{Op: "BLKZEROOUT", Path: f.Name(), Err: err}
	}
	return nil
}

// DropCache drops the kernel's cache of a block device. The blocks may have
// changed through another cache since: that of the files of a filesystem, or of
// a partition.
func DropCache(f *os.File) error {
	if err := ioctl(f, unix.BLKFLSBUF, nil); err != nil {
		return &os.PathError{Op: "BLKFLSBUF", Path: f.Name(), Err: err}
	}
	return nil
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		for errno = unix.EINTR; errno == unix.EINTR; {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg))
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}
