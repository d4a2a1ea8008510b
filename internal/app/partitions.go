package app

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/partition"
	"e2qcow/internal/signature"
)

// usualSector is the size of the sectors of a disk that is no device, in bytes.
const usualSector = 512

// readPartitions reads the partition table of a disk whose sectors have
// sectorSize bytes (0 for 512). The table of a disk that was copied from another
// device, or that was in another case, may count sectors of another size. So if
// the partitions contain nothing known, but do with sectors of 4096 bytes, or of
// 512, that size is used: it is in the table.
func readPartitions(disk image.Image, sectorSize int64) (partition.Table, error) {
	const large = 4096
	sectorSize = cmp.Or(sectorSize, usualSector)
	table, err := partition.Read(disk, disk.Size(), sectorSize)
	if errors.Is(err, partition.ErrNone) || anyKnown(disk, table) {
		return table, err
	}
	for _, other := range []int64{usualSector, large} {
		if other == table.Sector {
			continue
		}
		if second, secondErr := partition.Read(disk, disk.Size(), other); anyKnown(disk, second) {
			return second, secondErr
		}
	}
	return table, err
}

// otherSectors says what sectors a table counts that are not those of the device,
// "" if it counts these.
func otherSectors(table partition.Table, sectorSize int64) string {
	switch {
	case table.Sector == cmp.Or(sectorSize, usualSector):
		return ""
	case sectorSize == 0:
		return fmt.Sprintf("the table counts sectors of %d bytes", table.Sector)
	}
	return fmt.Sprintf("the table counts sectors of %d bytes, the device has %d", table.Sector, sectorSize)
}

// anyKnown reports whether a partition contains known data.
func anyKnown(disk image.Image, table partition.Table) bool {
	return slices.ContainsFunc(table.Partitions, func(p partition.Partition) bool {
		_, other := contentOf(disk, p)
		return other || holdsExt(disk, p)
	})
}

// holdsExt reports whether a partition begins with a primary superblock. A copy
// does not count: its filesystem began before the partition.
func holdsExt(disk image.Image, p partition.Partition) bool {
	sb := SuperblockAt(io.NewSectionReader(disk, p.Start, p.Size))
	return sb != nil && sb.Group() == 0
}

// extPartitions returns text that lists the partitions with an ext filesystem, or
// else what there is in them and what to do; "" if there is no table.
func extPartitions(disk image.Image, sectorSize int64) string {
	table, err := readPartitions(disk, sectorSize)
	if errors.Is(err, partition.ErrNone) {
		return ""
	}
	const most, mostOthers = 16, 4
	var found, others []string
	moreFound, moreOthers := 0, 0 // than are listed
	for _, p := range table.Partitions {
		if holdsExt(disk, p) {
			if len(found) == most {
				moreFound++
				continue
			}
			found = append(found, fmt.Sprintf("%d (%s at byte %d)", p.Number, humanize.IBytes(uint64(p.Size)), p.Start))
			continue
		}
		if s, ok := contentOf(disk, p); ok {
			if len(others) == mostOthers {
				moreOthers++
				continue
			}
			text := fmt.Sprintf("partition %d looks like %s", p.Number, s.Name)
			if hint := advise.OnContent(s, p.Start); hint != "" {
				text += ": " + hint
			}
			others = append(others, text)
		}
	}
	text := "none of its partitions holds one"
	switch {
	case len(found) > 0:
		text = "partitions that hold one, for --partition: " + strings.Join(found, ", ") + more(moreFound)
	case len(others) > 0:
		text += "; " + strings.Join(others, "; ") + more(moreOthers)
	default:
		text += "; " + adviceSearch
	}
	if other := otherSectors(table, sectorSize); other != "" {
		text += " (" + other + ")"
	}
	if err != nil {
		text += fmt.Sprintf(" (%v)", err)
	}
	return text
}

// more returns text that ends a list of partitions of which n are left out.
func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; and %d more: e2qcow info --json SOURCE lists all", n)
}

// contentOf returns what a partition holds, if that is no ext filesystem.
func contentOf(disk image.Image, p partition.Partition) (signature.Signature, bool) {
	s, ok, err := signature.Find(io.NewSectionReader(disk, p.Start, p.Size), p.Size)
	return s, ok && err == nil && s.Name != signature.Ext
}
