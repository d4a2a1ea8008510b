// Package storage finds the bytes of files and devices behind a name, by
// whatever way the name leads there, and the uses of these bytes.
//
//	/dev/loop0p1 ─ partition ─► /dev/loop0 ─ loop ─► disk.img [offset, end)
//	/dev/sda2 ─── partition ──► /dev/sda [start, end)
//	/dev/mapper/x ─ mapped ───► itself, over parts unknown of /dev/sdb
//	/dev/md0 ────── array ────► itself, over parts unknown of /dev/sda1 and /dev/sdb1
//
// Two names overlap if they lead to overlapping bytes.
package storage

import (
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// An extent is a stretch of bytes of a file or of a device.
type extent struct {
	file       fileID
	start, end uint64
}

// A fileID says which file, or which device, in a way that names do not change.
type fileID struct {
	block    bool
	dev, ino uint64 // a device has its number in dev and no inode
}

func wholeFile(id fileID) extent { return extent{file: id, end: math.MaxUint64} }

func (e extent) overlaps(o extent) bool {
	return e.file == o.file && e.start < o.end && o.start < e.end
}

// A Region is the storage behind a file or device.
type Region struct {
	exact  []extent // these bytes and no others
	under  []extent // devices that hold them, no one knows where
	hidden bool     // sysfs does not show all devices that were asked for
}

// Of returns the region of an open file or block device. That of anything
// else, a pipe or a terminal, is empty and overlaps nothing.
func Of(f *os.File) (Region, error) {
	st, err := stat(f)
	if err != nil {
		return Region{}, err
	}
	switch id := idOf(&st); st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Region{exact: []extent{wholeFile(id)}}, nil
	case unix.S_IFBLK:
		return host.ofDevice(id.dev), nil
	}
	return Region{}, nil
}

// With returns the region of r and o together.
func (r Region) With(o Region) Region {
	return Region{
		exact:  slices.Concat(r.exact, o.exact),
		under:  slices.Concat(r.under, o.under),
		hidden: r.hidden || o.hidden,
	}
}

// Overlaps reports whether writing to one region changes the other.
func (r Region) Overlaps(o Region) bool {
	// Two mapped devices on one disk count as separate, as logical volumes are.
	return overlap(r.exact, o.exact) || overlap(r.exact, o.under) || overlap(r.under, o.exact)
}

func overlap(a, b []extent) bool {
	return slices.ContainsFunc(a, func(e extent) bool { return slices.ContainsFunc(b, e.overlaps) })
}

func stat(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	conn, err := f.SyscallConn()
	if err != nil {
		return st, err
	}
	var statErr error
	err = conn.Control(func(fd uintptr) { statErr = unix.Fstat(int(fd), &st) })
	if err == nil {
		err = statErr
	}
	if err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}
