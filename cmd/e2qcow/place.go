package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/image"
	"e2qcow/internal/partition"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// A place is where a filesystem lies on the source, and where it goes on the
// target.
type place struct {
	offset    *int64 // bytes; nil where it is not given
	partition int    // its number; 0 for none
	to        *int64 // bytes; nil where it is not given
}

// placeUnit is what the places of filesystems are multiples of.
const placeUnit = 512

// parsePlace parses the offsets.
func (p *place) parsePlace(c *cli.Context) error {
	var err error
	if p.offset, err = parseOffset(c, flagOffset); err != nil {
		return err
	}
	if p.to, err = parseOffset(c, flagTargetOffset); err != nil {
		return err
	}
	n, err := number(c, flagPartition, 1, math.MaxInt32)
	if err == nil && n > 0 && p.offset != nil {
		err = usagef("--%s and --%s exclude one another", flagOffset, flagPartition)
	}
	p.partition = int(n)
	return err
}

// parseOffset returns the value of a flag in bytes, nil where it is not given.
func parseOffset(c *cli.Context, name string) (*int64, error) {
	n, err := sizeOf(c, name, 0, math.MaxInt64)
	if err == nil && n%placeUnit != 0 {
		err = usagef("option --%[1]s: %[2]s is bytes, not a multiple of %[3]d; %[2]ss is sectors", name, c.String(name), placeUnit)
	}
	if err != nil || !c.IsSet(name) {
		return nil, err
	}
	off := int64(n)
	return &off, nil
}

// inside tells whether a filesystem is looked for in a part of the source.
func (p place) inside() bool { return p.offset != nil || p.partition != 0 }

// cut tells whether the image ends with the filesystem, rather than with what
// that lies on.
func (w *work) cut() bool {
	return w.options.scan.Files || w.to != nil || w.offset != nil && w.partEnd == 0
}

// Why there is no such part of the source.
var (
	errBeyondEnd   = errors.New("ends before that")
	errNoPartition = errors.New("has no such partition")
)

// findPart sets w.disk to the part of the source that is meant.
func (w *work) findPart() error {
	disk, name := w.input.disk(), w.input.src.Name()
	w.disk, w.name = disk, name
	if !w.inside() {
		return nil
	}
	table, _, err := readPartitions(disk, w.input.src.SectorSize())
	list := table.Partitions
	if w.partition != 0 {
		i := slices.IndexFunc(list, func(p partition.Partition) bool { return p.Number == w.partition })
		if i < 0 && err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if i < 0 {
			return fmt.Errorf("%s %w: %d; it has %s", name, errNoPartition, w.partition, numbers(list))
		}
		w.partStart, w.partEnd = list[i].Start, list[i].Start+list[i].Size
		w.name = fmt.Sprintf("partition %d of %s", w.partition, name)
	} else {
		w.partStart = *w.offset
		if i := slices.IndexFunc(list, func(p partition.Partition) bool { return p.Start == w.partStart }); i >= 0 && w.partStart > 0 {
			w.partEnd = w.partStart + list[i].Size
		}
		if w.partStart > 0 {
			w.name = fmt.Sprintf("%s from byte %d", name, w.partStart)
		}
	}
	if w.partStart >= disk.Size() {
		return fmt.Errorf("%s: %w; it has %s", w.name, errBeyondEnd, exactBytes(disk.Size()))
	}
	end := w.partEnd
	if end == 0 {
		end = disk.Size()
	}
	w.disk = image.Section(disk, w.partStart, end-w.partStart)
	w.options.scan.Bad = shifted(w.options.scan.Bad, w.partStart)
	return nil
}

// numbers lists partitions for a person.
func numbers(list []partition.Partition) string {
	const most = 16
	words := make([]string, 0, most+1)
	for _, p := range list {
		if len(words) == most {
			words = append(words, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		words = append(words, fmt.Sprint(p.Number))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// shifted returns ranges of a disk as ranges of the part of it from start.
func shifted(ranges []scan.Range, start int64) []scan.Range {
	var list []scan.Range
	for _, r := range ranges {
		if r.End > start {
			list = append(list, scan.Range{Start: max(r.Start-start, 0), End: r.End - start})
		}
	}
	return list
}

// checkPartitions refuses to write n bytes from off of the target over its
// partition table or, on a disk, into a partition that does not begin there,
// unless told to or known says that those n bytes from off may be written to.
func (w *work) checkPartitions(off, n int64, disk bool, known func(off, n int64) bool) error {
	if w.overwrite {
		return nil
	}
	table, err := w.target.Table()
	if err != nil {
		return err
	}
	for _, a := range table.Areas {
		if a.Overlaps(off, n) && !known(a.Start, a.Size) {
			return fmt.Errorf("%s %w: the %s of its partition table would be written over", w.target.Name(), target.ErrHoldsFilesystem, a.What)
		}
	}
	for _, p := range table.Partitions {
		if disk && p.Start != off && p.Overlaps(off, n) && !known(p.Start, p.Size) {
			return fmt.Errorf("%s %w: partition %d would be written over", w.target.Name(), target.ErrHoldsFilesystem, p.Number)
		}
	}
	return nil
}

// checkPlace refuses to write n bytes at the place that -O names over anything
// known there, but for the filesystem that is on the source and what lies in
// that.
func (w *work) checkPlace(n int64, disk bool) error {
	if w.overwrite {
		return nil
	}
	if err := w.checkPartitions(0, n, disk, func(int64, int64) bool { return false }); err != nil {
		return err
	}
	same := w.sameFilesystem()(w.target)
	return w.target.CheckPlace(0, n, func(h target.Holding) bool { return same && h.Start >= 0 && h.End <= n })
}

// sameFilesystem returns what tells whether a disk holds the filesystem that
// is on w.disk, by its UUID.
func (w *work) sameFilesystem() func(io.ReaderAt) bool {
	source := superblockAt(w.disk)
	return func(r io.ReaderAt) bool {
		there := superblockAt(r)
		return source != nil && there != nil && source.UUID() == there.UUID()
	}
}
