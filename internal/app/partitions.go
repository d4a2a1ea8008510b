package app

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"e2qcow/image"
	"e2qcow/internal/partition"
	"e2qcow/internal/signature"
)

// readPartitions reads the partition table of a disk whose sectors have
// sectorSize bytes (0 for 512). The table of a disk that was copied from
// another device may count sectors of another size. So if the partitions
// contain nothing known, but do with sectors of 4096 bytes, or of 512, that
// size is used. readPartitions also returns the size of the sectors.
func readPartitions(disk image.Image, sectorSize int64) (partition.Table, int64, error) {
	const usual, large = 512, 4096
	if sectorSize == 0 {
		sectorSize = usual
	}
	table, err := partition.Read(disk, disk.Size(), sectorSize)
	if errors.Is(err, partition.ErrNone) || anyKnown(disk, table) {
		return table, sectorSize, err
	}
	other := int64(large)
	if sectorSize == large {
		other = usual
	}
	second, secondErr := partition.Read(disk, disk.Size(), other)
	if anyKnown(disk, second) {
		return second, other, secondErr
	}
	return table, sectorSize, err
}

// anyKnown reports whether a partition contains known data.
func anyKnown(disk image.Image, table partition.Table) bool {
	return slices.ContainsFunc(table.Partitions, func(p partition.Partition) bool {
		found, ok, err := signature.Find(io.NewSectionReader(disk, p.Start, p.Size), p.Size)
		return ok && err == nil && (found.Name != signature.Ext || holdsExt(disk, p))
	})
}

// holdsExt reports whether a partition begins with a primary superblock. A copy
// does not count: its filesystem began before the partition.
func holdsExt(disk image.Image, p partition.Partition) bool {
	sb := SuperblockAt(io.NewSectionReader(disk, p.Start, p.Size))
	return sb != nil && sb.Group() == 0
}

// extPartitions returns text that lists the partitions with an ext filesystem;
// "" if there is no table.
func extPartitions(disk image.Image, sectorSize int64) string {
	if sectorSize == 0 {
		sectorSize = 512
	}
	table, sectors, err := readPartitions(disk, sectorSize)
	if errors.Is(err, partition.ErrNone) {
		return ""
	}
	const most = 16
	var found []string
	for _, p := range table.Partitions {
		if len(found) < most && holdsExt(disk, p) {
			found = append(found, fmt.Sprintf("%d (%s at byte %d)", p.Number, humanize.IBytes(uint64(p.Size)), p.Start))
		}
	}
	text := "none of its partitions holds one"
	if len(found) > 0 {
		text = "partitions that hold one, for --partition: " + strings.Join(found, ", ")
	}
	if sectors != sectorSize {
		text += fmt.Sprintf(" (the table counts sectors of %d bytes)", sectors)
	}
	if err != nil {
		text += fmt.Sprintf(" (%v)", err)
	}
	return text
}
