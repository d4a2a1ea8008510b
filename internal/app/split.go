package app

import (
	"fmt"
	"slices"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/move"
	"e2qcow/scan"
)

var errSplit = advise.New("contains a part of a filesystem that is being moved",
	"continue the move with --journal=FILE; without the journal of that move the filesystem is lost")

// CheckMark returns an error if a move has marked the place at byte off of disk:
// a part of a filesystem begins there, and the rest lies elsewhere.
func CheckMark(disk image.Image, name string, off int64) error {
	m, ok := move.FindMark(disk, off)
	if !ok {
		return nil
	}
	return fmt.Errorf("%s %w, from byte %d to byte %d", name, errSplit, m.From, m.To)
}

// CheckSplit says of a filesystem in two pieces that the image is of one of them,
// or refuses such a filesystem. Bad ranges of the part are not read.
func (s *Session) CheckSplit(p *Part, bad []scan.Range, refuse bool) error {
	const start, end = ext.SuperblockOffset, ext.SuperblockOffset + ext.SuperblockSize
	if slices.ContainsFunc(bad, func(r scan.Range) bool { return r.Start < end && start < r.End }) {
		return nil
	}
	err := CheckMark(p.Disk, p.Name, 0)
	if err == nil || refuse {
		return err
	}
	s.Say("%v: the image contains that part only", err)
	return nil
}
