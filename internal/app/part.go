package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/partition"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// A Place says in which part of a source a filesystem lies: from an offset, or
// on a partition. The zero Place is the whole source.
type Place struct {
	Offset    *int64 // bytes; nil where none is given
	Partition int    // its number; 0 for none
}

// Inside reports whether the place is a part of the source.
func (p Place) Inside() bool { return p.Offset != nil || p.Partition != 0 }

// A Part is the part of a source in which a filesystem is searched.
type Part struct {
	Disk       image.Image
	Name       string // for messages
	Start, End int64  // in bytes of the source; End is 0 where it is not known
	SectorSize int64  // of the device; 0 where that is not known
}

// Why there is no such part of the source.
var (
	errBeyondEnd   = errors.New("ends before that byte")
	errNoPartition = errors.New("has no such partition")
)

// Whole returns all of the source.
func (in *Input) Whole() *Part {
	return &Part{Disk: in.Disk(), Name: in.Src.Name(), SectorSize: in.Src.SectorSize()}
}

// Part returns the part of the source at a place.
func (in *Input) Part(at Place) (*Part, error) { return in.Whole().At(at) }

// At returns the part at a place of a whole source.
func (p *Part) At(at Place) (*Part, error) {
	if !at.Inside() {
		return p, nil
	}
	part := &Part{Name: p.Name, SectorSize: p.SectorSize}
	table, err := readPartitions(p.Disk, p.SectorSize)
	list := table.Partitions
	if at.Partition != 0 {
		i := slices.IndexFunc(list, func(l partition.Partition) bool { return l.Number == at.Partition })
		if i < 0 && errors.Is(err, partition.ErrNone) {
			return nil, fmt.Errorf("%s: %w; %s", p.Name, err, p.withoutTable())
		}
		if i < 0 && err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		if i < 0 {
			return nil, fmt.Errorf("%s %w: %d; it has %s", p.Name, errNoPartition, at.Partition, numbers(list))
		}
		part.Start, part.End = list[i].Start, list[i].Start+list[i].Size
		part.Name = fmt.Sprintf("partition %d of %s", at.Partition, p.Name)
		if other := otherSectors(table, p.SectorSize); other != "" {
			part.Name += " (" + other + ")"
		}
	} else {
		part.Start = *at.Offset
		if i := slices.IndexFunc(list, func(l partition.Partition) bool { return l.Start == part.Start }); i >= 0 && part.Start > 0 {
			part.End = part.Start + list[i].Size
		}
		if part.Start > 0 {
			part.Name = fmt.Sprintf("%s from byte %d", p.Name, part.Start)
		}
	}
	size := p.Disk.Size()
	if part.Start >= size {
		return nil, fmt.Errorf("%s: %w; it has %s", part.Name, errBeyondEnd, advise.ExactBytes(size))
	}
	end := part.End
	if end == 0 {
		end = size
	}
	part.Disk = image.Section(p.Disk, part.Start, end-part.Start)
	return part, nil
}

// withoutTable says what to do with a source that has no partition table.
func (p *Part) withoutTable() string {
	if SuperblockAt(p.Disk) != nil {
		return "a filesystem begins with its first byte: leave --partition out"
	}
	found, ok, err := signature.Find(p.Disk, p.Disk.Size())
	if hint := advise.OnContent(found, p.Start); ok && err == nil && hint != "" {
		return fmt.Sprintf("it looks like %s; %s", found.Name, hint)
	}
	return adviceSearch
}

// PartOrWhole is Part, but for a filesystem without partitions around it: of that
// it returns all if a partition is asked for.
func (in *Input) PartOrWhole(at Place) (*Part, error) {
	p, err := in.Part(at)
	if err != nil && at.Partition != 0 && SuperblockAt(in.Disk()) != nil {
		return in.Whole(), nil
	}
	return p, err
}

// Ranges returns ranges of the source as ranges of the part.
func (p *Part) Ranges(ofSource []scan.Range) []scan.Range {
	if p.Start == 0 {
		return ofSource
	}
	var list []scan.Range
	for _, r := range ofSource {
		if r.End > p.Start {
			list = append(list, scan.Range{Start: max(r.Start-p.Start, 0), End: r.End - p.Start})
		}
	}
	return list
}

// numbers returns the numbers of partitions as text.
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
