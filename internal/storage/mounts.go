package storage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A Mount is a filesystem mounted from a region.
type Mount struct {
	Point    string // where
	Writable bool   // whether the filesystem may change, at this or another point
}

// Mounts returns the filesystems that are mounted from devices that overlap r,
// the writable ones first. It knows them by device number, so also through a
// loop device whose file r is, or on a partition of the disk that r is.
func (r Region) Mounts() ([]Mount, error) {
	if len(r.exact) == 0 {
		return nil, nil
	}
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	known := map[uint64]bool{}
	var list []Mount
	for _, m := range infos {
		if m.Major == 0 { // no device behind it
			continue
		}
		rdev := unix.Mkdev(uint32(m.Major), uint32(m.Minor))
		overlaps, ok := known[rdev]
		if !ok {
			overlaps = ofDevice(rdev).Overlaps(r)
			known[rdev] = overlaps
		}
		if overlaps {
			// The options of the filesystem, not those of this mount of it.
			writable := slices.Contains(strings.Split(m.VFSOptions, ","), "rw")
			list = append(list, Mount{Point: m.Mountpoint, Writable: writable})
		}
	}
	slices.SortStableFunc(list, func(a, b Mount) int {
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

// WritableMount returns where something of r is mounted so that it may change;
// "" where nothing is.
func (r Region) WritableMount() (point string, err error) {
	mounts, err := r.Mounts()
	if err != nil || len(mounts) == 0 || !mounts[0].Writable {
		return "", err
	}
	return mounts[0].Point, nil
}
