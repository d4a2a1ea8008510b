package storage

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDevices bounds how many devices may stand on one another.
const maxDevices = 64

// A system is the set of folders in which the kernel shows devices and their
// uses.
type system struct{ sys, proc, dev string }

var host = system{sys: "/sys", proc: "/proc", dev: "/dev"}

// ofDevice follows a block device down through partitions, loop devices, mapped
// devices and arrays, as /sys/dev/block shows them.
func (sys system) ofDevice(rdev uint64) Region {
	var r Region
	type step struct {
		rdev       uint64
		start, end uint64
		exact      bool
	}
	seen := map[uint64]bool{}
	for todo := []step{{rdev: rdev, end: math.MaxUint64, exact: true}}; len(todo) > 0 && len(seen) < maxDevices; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		seen[s.rdev] = true
		add := func(e extent) {
			if s.exact {
				r.exact = append(r.exact, e)
			} else {
				r.under = append(r.under, e)
			}
		}
		dir := sys.folder(s.rdev)
		if _, err := os.Stat(dir); err != nil {
			r.hidden = true
		}
		if disk, start, size, ok := partition(dir); ok {
			todo = append(todo, step{disk, add64(start, s.start), min(add64(start, s.end), add64(start, size)), s.exact})
			continue
		}
		if file, start, size, ok := sys.loopBacking(dir, s.rdev); ok {
			e := extent{file: file, start: add64(start, s.start), end: add64(start, s.end)}
			if size != 0 {
				e.end = min(e.end, add64(start, size))
			}
			switch {
			case !file.block:
				add(e)
			case !seen[file.dev]:
				todo = append(todo, step{file.dev, e.start, e.end, s.exact})
			}
			continue
		}
		add(extent{file: fileID{block: true, dev: s.rdev}, start: s.start, end: s.end})
		for _, d := range slaves(dir) {
			if !seen[d] {
				todo = append(todo, step{rdev: d, end: math.MaxUint64})
			}
		}
	}
	return r
}

// add64 adds without wrapping.
func add64(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// folder returns the folder of a device in sysfs.
func (sys system) folder(rdev uint64) string {
	return filepath.Join(sys.sys, "dev", "block", fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)))
}

// partition returns the disk that the device in dir is a partition of, and
// which of its bytes.
func partition(dir string) (disk, start, size uint64, ok bool) {
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return 0, 0, 0, false
	}
	const sector = 512 // what sysfs counts in, whatever the device does
	start, startOK := sysNumber(filepath.Join(dir, "start"))
	size, sizeOK := sysNumber(filepath.Join(dir, "size"))
	path, err := filepath.EvalSymlinks(dir)
	if err != nil || !startOK || !sizeOK || start > math.MaxUint64/sector || size > math.MaxUint64/sector {
		return 0, 0, 0, false
	}
	disk, ok = sysDevice(filepath.Dir(path))
	return disk, start * sector, size * sector, ok
}

// loopBacking returns the file or device behind a loop device and which of its
// bytes; size 0 is all from start.
func (sys system) loopBacking(dir string, rdev uint64) (file fileID, start, size uint64, ok bool) {
	backing, err := os.ReadFile(filepath.Join(dir, "loop", "backing_file"))
	if err != nil {
		return fileID{}, 0, 0, false
	}
	if file, start, size, ok := sys.loopStatus(dir, rdev); ok {
		return file, start, size, true
	}
	// Only root may ask the device, but everyone may read sysfs.
	var st unix.Stat_t
	if err := unix.Stat(strings.TrimSuffix(string(backing), "\n"), &st); err != nil {
		return fileID{}, 0, 0, false
	}
	start, _ = sysNumber(filepath.Join(dir, "loop", "offset"))
	size, _ = sysNumber(filepath.Join(dir, "loop", "sizelimit"))
	return idOf(&st), start, size, true
}

// loopStatus asks the loop device itself, which knows the file behind it also
// by another name or none.
func (sys system) loopStatus(dir string, rdev uint64) (file fileID, start, size uint64, ok bool) {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fileID{}, 0, 0, false
	}
	fd, err := unix.Open(filepath.Join(sys.dev, filepath.Base(path)), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fileID{}, 0, 0, false
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	//nolint:unconvert // Rdev is narrower on some architectures.
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != rdev {
		return fileID{}, 0, 0, false
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return fileID{}, 0, 0, false
	}
	file = fileID{dev: info.Device, ino: info.Inode}
	if info.Rdevice != 0 {
		file = fileID{block: true, dev: info.Rdevice}
	}
	return file, info.Offset, info.Sizelimit, true
}

func idOf(st *unix.Stat_t) fileID {
	//nolint:unconvert // Dev and Rdev are narrower on some architectures.
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return fileID{block: true, dev: uint64(st.Rdev)}
	}
	//nolint:unconvert // As above.
	return fileID{dev: uint64(st.Dev), ino: uint64(st.Ino)}
}

// slaves returns the devices that a mapped device or an array is made of.
func slaves(dir string) []uint64 {
	var list []uint64
	for _, name := range names(filepath.Join(dir, "slaves")) {
		if rdev, ok := sysDevice(filepath.Join(dir, "slaves", name)); ok {
			list = append(list, rdev)
		}
	}
	return list
}

// sysDevice returns the number of the device in dir.
func sysDevice(dir string) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return 0, false
	}
	major, minor, ok := strings.Cut(strings.TrimSpace(string(b)), ":")
	maj, err1 := strconv.ParseUint(major, 10, 32)
	mnr, err2 := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(maj), uint32(mnr)), ok && err1 == nil && err2 == nil
}

func sysNumber(name string) (uint64, bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}
