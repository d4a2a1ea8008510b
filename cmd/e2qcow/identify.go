package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// metadata scans the filesystem on d, which messages call name. The sectors of
// what d is on are of sectorSize bytes, 0 where that is not known.
func metadata(ctx context.Context, d image.Image, name string, sectorSize int64, o options, report *progress.Reporter) (*scan.Result, error) {
	opt := o.scan
	opt.Progress = report.Phase("scan", progress.Groups)
	if o.offset == nil {
		opt.BelieveBackup = func(block uint64, blockSize uint32) error { return otherwise(d, name, sectorSize, o, block, blockSize) }
	}
	res, err := scan.Scan(ctx, d, d.Size(), opt)
	if choice := (*notExtError)(nil); errors.As(err, &choice) {
		return nil, choice
	}
	if errors.Is(err, scan.ErrNotExt) {
		found, _, _ := signature.Find(d, d.Size())
		if unread := (*scan.ReadError)(nil); found.Name != "" || !errors.As(err, &unread) {
			e := &notExtError{name: name, found: found, superblock: o.scan.Superblock, short: d.Size() < ext.SuperblockOffset+ext.SuperblockSize}
			if found.Name == signature.Ext {
				e.backup = firstBackup(d)
			}
			if e.superblock >= uint64(d.Size())/uint64(max(o.scan.BlockSize, ext.MinBlockSize)) {
				e.size = d.Size()
			}
			if found.Name == signature.PartitionTable && !o.inside() {
				e.partitions = extPartitions(d, sectorSize)
			}
			return nil, e
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := checkFeatures(res.Super(), o); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return res, nil
}

// otherwise looks for a better explanation of a disk that has no primary
// superblock, but a copy of one in a block: a *notExtError that lists the
// choices, or nil where the disk is a damaged filesystem. The copy may be left
// from before the disk was partitioned, or be in a file on it.
func otherwise(d image.Image, name string, sectorSize int64, o options, block uint64, blockSize uint32) error {
	found, ok, err := signature.Find(d, d.Size())
	if err != nil || !ok || found.Name == signature.Ext {
		return nil //nolint:nilerr // what cannot be read explains nothing
	}
	e := &notExtError{name: name, found: found, copyBlock: block, copySize: blockSize}
	if found.Name == signature.PartitionTable && !o.inside() {
		table, _, err := readPartitions(d, sectorSize)
		if err != nil || !anyKnown(d, table) {
			return nil //nolint:nilerr // a table that leads nowhere is no better
		}
		e.partitions = extPartitions(d, sectorSize)
	}
	return e
}

// A notExtError says what there is in place of a filesystem.
type notExtError struct {
	name       string
	found      signature.Signature
	superblock uint64 // the block where one was asked for, or 0
	size       int64  // of what was looked at, if that block lies behind it; else 0
	partitions string // that hold one; "" where none were looked for
	backup     string // where the primary superblock says that the first copy is
	short      bool   // it ends within the superblock
	copyBlock  uint64 // where a copy of a superblock is, or 0
	copySize   uint32 // the block size that the copy says, bytes
}

func (e *notExtError) Error() string {
	isExt := e.found.Name == signature.Ext
	switch {
	case isExt && e.superblock == 0 && e.short:
		return e.name + ": ends within the superblock of an ext2, ext3 or ext4 filesystem"
	case isExt && e.superblock == 0:
		return e.name + ": the superblock was not read; see whether the map of --" + flagBadMap + " is the right one"
	}
	if isExt && e.size == 0 {
		return fmt.Sprintf("%s: no copy of the superblock is in block %d", e.name, e.superblock)
	}
	text := e.name + ": no ext2, ext3 or ext4 filesystem found"
	if e.superblock != 0 {
		text += fmt.Sprintf(" by the superblock in block %d", e.superblock)
	}
	if e.superblock != 0 && e.size != 0 {
		return text + ", which lies behind the end, byte " + fmt.Sprint(e.size)
	}
	if e.found.Name != "" {
		text += "; it looks like " + e.found.Name
	}
	if e.copyBlock != 0 {
		text += fmt.Sprintf(", and a copy of an ext superblock is in block %d", e.copyBlock)
	}
	return text
}

func (e *notExtError) Unwrap() error { return scan.ErrNotExt }

// choices returns what can be done about e, "" where there is no saying.
func (e *notExtError) choices() string {
	if e.found.Name == signature.Ext {
		return e.backup
	}
	var list []string
	if e.partitions != "" {
		list = append(list, e.partitions)
	} else if text := looks[e.found.Name]; text != "" {
		list = append(list, text)
	}
	if e.copyBlock != 0 {
		list = append(list, fmt.Sprintf("-b %d -B %d takes the whole for a damaged ext filesystem", e.copyBlock, e.copySize))
	}
	return strings.Join(list, "; ")
}

// firstBackup says what to do where a block that holds no copy was named, and
// the primary superblock is there: where that says that the first copy is.
func firstBackup(d image.Image) string {
	const without = "leave -b out to go by the primary superblock"
	sb := superblockAt(d)
	if sb == nil {
		return ""
	}
	geo, err := sb.Geometry()
	if err != nil {
		return without
	}
	group, ok := geo.NextSuper(1)
	if !ok {
		return without + ", which says that there are no copies"
	}
	return fmt.Sprintf("%s; it says that the first copy is in block %d (-b %[2]d -B %d)", without, geo.SuperBlock(group), geo.BlockSize)
}

// Features of a filesystem that are not decoded.
var (
	errUnknownFeature = errors.New("the filesystem has a feature that this program does not know")
	errOtherLayout    = errors.New("the filesystem has a feature whose layout is not decoded")
)

// checkFeatures refuses what takes more than a dump does to know each structure:
// a clone, a move, an installation, scrambling.
func checkFeatures(sb *ext.Superblock, o options) error {
	if sb == nil {
		return nil
	}
	incompat, roCompat := sb.UnknownFeatures()
	writes := o.scan.Files || o.move || o.mode == install
	if o.scramble.on() {
		// Words would stay where a structure of that layout has them.
		for _, name := range incompat {
			if !strings.HasPrefix(name, "incompat ") {
				return fmt.Errorf("%w: %s", errOtherLayout, name)
			}
		}
	}
	list := incompat
	if writes {
		list = append(list, roCompat...)
	}
	if len(list) == 0 || o.force || !writes && !o.scramble.on() {
		return nil
	}
	return fmt.Errorf("%w: %s", errUnknownFeature, strings.Join(list, ", "))
}
