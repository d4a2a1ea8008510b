package app

import (
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/target"
)

// CheckTables refuses to write n bytes from off of t over its partition table
// or, on a disk, into a partition that does not begin there. Areas for which
// excused reports true may be written over.
func CheckTables(t *target.Target, off, n int64, disk bool, excused func(off, n int64) bool) error {
	table, err := t.Table()
	if err != nil {
		return err
	}
	for _, a := range table.Areas {
		if a.Overlaps(off, n) && !excused(a.Start, a.Size) {
			return fmt.Errorf("%s %w: the %s of its partition table would be written over", t.Name(), target.ErrHoldsFilesystem, a.What)
		}
	}
	for _, p := range table.Partitions {
		if disk && p.Start != off && p.Overlaps(off, n) && !excused(p.Start, p.Size) {
			return fmt.Errorf("%s %w: partition %d would be written over", t.Name(), target.ErrHoldsFilesystem, p.Number)
		}
	}
	return nil
}

// CheckPlace refuses to write n bytes over known data of t, which begins in the
// middle of a file or a device. The filesystem of the source, and data inside
// that filesystem, may be overwritten.
func CheckPlace(t *target.Target, n int64, source image.Image) error {
	if err := CheckTables(t, 0, n, t.Kind() == target.Device, func(int64, int64) bool { return false }); err != nil {
		return err
	}
	same := SameFilesystem(source)(t)
	return t.CheckPlace(0, n, func(h target.Holding) bool { return same && h.Start >= 0 && h.End <= n })
}

// SameFilesystem returns a function that reports whether a disk holds the
// filesystem that is on source, by its UUID.
func SameFilesystem(source image.Image) func(io.ReaderAt) bool {
	here := SuperblockAt(source)
	return func(r io.ReaderAt) bool {
		there := SuperblockAt(r)
		return here != nil && there != nil && here.UUID() == there.UUID()
	}
}

// TooSmall says that an image of n bytes does not fit t.
func TooSmall(t *target.Target, n int64) error {
	return fmt.Errorf("%s %w: it has %d bytes, the image %d", t.Name(), target.ErrTooSmall, t.Size(), n)
}
