package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/partition"
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
func (whole *Part) At(at Place) (*Part, error) {
	if !at.Inside() {
		return whole, nil
	}
	p := &Part{Name: whole.Name, SectorSize: whole.SectorSize}
	table, err := readPartitions(whole.Disk, whole.SectorSize)
	list := table.Partitions
	if at.Partition != 0 {
		i := slices.IndexFunc(list, func(p partition.Partition) bool { return p.Number == at.Partition })
		if i < 0 && err != nil {
			return nil, fmt.Errorf("%s: %w", whole.Name, err)
		}
		if i < 0 {
			return nil, fmt.Errorf("%s %w: %d; it has %s", whole.Name, errNoPartition, at.Partition, numbers(list))
		}
		p.Start, p.End = list[i].Start, list[i].Start+list[i].Size
		p.Name = fmt.Sprintf("partition %d of %s", at.Partition, whole.Name)
		if other := otherSectors(table, whole.SectorSize); other != "" {
			p.Name += " (" + other + ")"
		}
	} else {
		p.Start = *at.Offset
		if i := slices.IndexFunc(list, func(l partition.Partition) bool { return l.Start == p.Start }); i >= 0 && p.Start > 0 {
			p.End = p.Start + list[i].Size
		}
		if p.Start > 0 {
			p.Name = fmt.Sprintf("%s from byte %d", whole.Name, p.Start)
		}
	}
	size := whole.Disk.Size()
	if p.Start >= size {
		return nil, fmt.Errorf("%s: %w; it has %s", p.Name, errBeyondEnd, advise.ExactBytes(size))
	}
	end := p.End
	if end == 0 {
		end = size
	}
	p.Disk = image.Section(whole.Disk, p.Start, end-p.Start)
	return p, nil
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
