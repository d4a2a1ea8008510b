package storage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A Use is something that keeps a region from being written to by others.
type Use struct {
	Kind     UseKind
	Name     string // the mount point, swap area or device
	Dev      uint64 // of Mounted, the device of the filesystem
	Writable bool   // whether what is there may change
}

// A UseKind is the kind of use of a region.
type UseKind uint8

// The uses.
const (
	Mounted   UseKind = iota // at Name, in the mount namespace of this process
	Elsewhere                // mounted, but not in the mount namespace of this process; Name is the device
	Journal                  // the external journal of a filesystem that is mounted; Name is the device
	Swap                     // a swap area; Name is that of the file or device
	Held                     // part of a mapped device or an array; Name is the device
)

// String returns the text behind "is in use" or "is mounted".
func (u Use) String() string {
	switch u.Kind {
	case Mounted:
		return "at " + u.Name
	case Elsewhere:
		return "in another mount namespace, from " + u.Name
	case Journal:
		return "as the journal of a mounted filesystem"
	case Swap:
		return "as swap"
	}
	return "by " + u.Name
}

// Uses returns the uses of r, those that may change r first. It recognises
// devices by number. So it also finds a use through a loop device on the file
// r, on a partition of the disk r, or through an array or mapped device that
// contains r. It returns an error if /proc or /sys does not show the uses.
func (r Region) Uses() ([]Use, error) { return host.uses(r) }

func (sys system) uses(r Region) ([]Use, error) {
	if len(r.exact) == 0 {
		return nil, nil
	}
	if r.hidden {
		return nil, fmt.Errorf("%s does not show the device", sys.sys)
	}
	hidden := false
	overlaps := sys.overlapper(r, &hidden)
	list, err := sys.mounts(overlaps)
	if err != nil {
		return nil, err
	}
	list = append(list, sys.unseen(overlaps, list)...)
	list = append(list, sys.swaps(r)...)
	list = append(list, sys.holders(r)...)
	if hidden && len(list) == 0 {
		return nil, fmt.Errorf("%s does not show what a loop device that is mounted stands for", sys.sys)
	}
	slices.SortStableFunc(list, func(a, b Use) int {
		switch {
		case a.Writable == b.Writable:
			return 0
		case a.Writable:
			return -1
		}
		return 1
	})
	return list, nil
}

// overlapper returns a function that reports whether a device overlaps r, with
// a cache. hidden is set if the file behind a loop device cannot be known.
func (sys system) overlapper(r Region, hidden *bool) func(rdev uint64) bool {
	const loop = 7 // the major number
	known := map[uint64]bool{}
	return func(rdev uint64) bool {
		overlaps, ok := known[rdev]
		if !ok {
			region := sys.ofDevice(rdev)
			overlaps = region.Overlaps(r)
			*hidden = *hidden || region.hidden && unix.Major(rdev) == loop
			known[rdev] = overlaps
		}
		return overlaps
	}
}

// mounts returns the mounts that this process can see.
func (sys system) mounts(overlaps func(rdev uint64) bool) ([]Use, error) {
	// Of this thread: others may have mounts of their own.
	f, err := os.Open(filepath.Join(sys.proc, "thread-self", "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	infos, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var list []Use
	for _, m := range infos {
		rdev, ok := deviceOf(m)
		if ok && overlaps(rdev) {
			// The options of the filesystem, not those of this mount of it.
			writable := slices.Contains(strings.Split(m.VFSOptions, ","), "rw")
			list = append(list, Use{Mounted, m.Mountpoint, rdev, writable})
		}
	}
	return list, nil
}

// deviceOf returns the device behind a mount, if there is one. That of btrfs has a
// number of its own, but its source is named.
func deviceOf(m *mountinfo.Info) (rdev uint64, ok bool) {
	if m.Major != 0 {
		return unix.Mkdev(uint32(m.Major), uint32(m.Minor)), true
	}
	var st unix.Stat_t
	if !filepath.IsAbs(m.Source) || unix.Stat(m.Source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false
	}
	return idOf(&st).dev, true
}

// unseen returns the mounts of ext4 and the journals that are not in seen:
// procfs shows those of all mount namespaces.
func (sys system) unseen(overlaps func(rdev uint64) bool, seen []Use) []Use {
	var list []Use
	for _, name := range names(filepath.Join(sys.proc, "fs", "ext4")) {
		rdev, ok := sys.named(name)
		if !ok || !overlaps(rdev) || slices.ContainsFunc(seen, func(u Use) bool { return u.Dev == rdev }) {
			continue
		}
		options, err := os.ReadFile(filepath.Join(sys.proc, "fs", "ext4", name, "options"))
		readOnly := err == nil && bytes.HasPrefix(options, []byte("ro\n"))
		list = append(list, Use{Elsewhere, name, rdev, !readOnly})
	}
	// An internal journal has its inode number behind the name.
	for _, name := range names(filepath.Join(sys.proc, "fs", "jbd2")) {
		if rdev, ok := sys.named(name); ok && overlaps(rdev) {
			list = append(list, Use{Journal, name, rdev, true})
		}
	}
	return list
}

// swaps returns the swap areas in r.
func (sys system) swaps(r Region) []Use {
	b, err := os.ReadFile(filepath.Join(sys.proc, "swaps"))
	if err != nil {
		return nil // a kernel without swap
	}
	var list []Use
	for i, line := range strings.Split(string(b), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || i == 0 { // a heading
			continue
		}
		name := unescape(fields[0])
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			continue
		}
		area := Region{}
		if id := idOf(&st); id.block {
			area = sys.ofDevice(id.dev)
		} else {
			area.exact = []extent{wholeFile(id)}
		}
		if area.Overlaps(r) {
			list = append(list, Use{Kind: Swap, Name: name, Writable: true})
		}
	}
	return list
}

// unescape undoes how the kernel writes bytes that would end a name: as a
// backslash and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		n, err := strconv.ParseUint(after[:min(3, len(after))], 8, 8)
		if err != nil || len(after) < 3 {
			b.WriteByte('\\')
			s = after
			continue
		}
		b.WriteByte(byte(n))
		s = after[3:]
	}
}

// holders returns the mapped devices and arrays that are made of r.
func (sys system) holders(r Region) []Use {
	var list []Use
	for _, name := range names(filepath.Join(sys.sys, "class", "block")) {
		slaves := filepath.Join(sys.sys, "class", "block", name, "slaves")
		if len(names(slaves)) == 0 {
			continue
		}
		// Writes to that device do not change r unless it is mounted.
		if rdev, ok := sys.named(name); ok && overlap(sys.ofDevice(rdev).under, r.exact) {
			list = append(list, Use{Kind: Held, Name: name})
		}
	}
	return list
}

// named returns the number of the device that the kernel calls name.
func (sys system) named(name string) (rdev uint64, ok bool) {
	return sysDevice(filepath.Join(sys.sys, "class", "block", name))
}

// names returns the names in a folder, none if the folder does not exist.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// On reports whether f is a file or folder of the filesystem on the device of
// that number, or lies in a file of it through loop devices and filesystems
// between: whether writing to f writes to that filesystem.
func On(f *os.File, dev uint64) (bool, error) {
	st, err := stat(f)
	if err != nil {
		return false, err
	}
	switch id := idOf(&st); st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return id.dev == dev || host.inFileOn(id.dev, dev, maxDevices), nil
	case unix.S_IFBLK:
		return host.inFileOn(id.dev, dev, maxDevices), nil
	}
	return false, nil
}

// InMemory reports whether a folder is on a tmpfs or ramfs, which a power cut
// destroys. It also returns the device number of the filesystem.
func InMemory(folder string) (dev uint64, yes bool, err error) {
	var (
		st unix.Stat_t
		fs unix.Statfs_t
	)
	if err := unix.Stat(folder, &st); err != nil {
		return 0, false, &os.PathError{Op: "stat", Path: folder, Err: err}
	}
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, false, &os.PathError{Op: "statfs", Path: folder, Err: err}
	}
	kind := uint32(fs.Type) //nolint:gosec // a magic number, signed on some architectures
	//nolint:unconvert // Dev is narrower on some architectures.
	return uint64(st.Dev), kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC, nil
}

// inFileOn reports whether device rdev is made of a file on the filesystem of
// dev, through no more than depth others.
func (sys system) inFileOn(rdev, dev uint64, depth int) bool {
	r := sys.ofDevice(rdev)
	return depth > 0 && slices.ContainsFunc(slices.Concat(r.exact, r.under), func(e extent) bool {
		return !e.file.block && (e.file.dev == dev || sys.inFileOn(e.file.dev, dev, depth-1))
	})
}
