package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// A Search says how to find a filesystem, and what the result is used for.
type Search struct {
	Scan      scan.Options
	Place     Place // in the source
	Force     bool  // unknown features are accepted
	Writes    bool  // the result is written over other data, so every feature must be known
	Scrambles bool  // words are replaced, so every layout must be known
}

// Avoiding returns a search that does not read the ranges.
func (o Search) Avoiding(bad []scan.Range) Search {
	o.Scan.Bad = bad
	return o
}

// WatchedBy returns a search that shows r every block that is read.
func (o Search) WatchedBy(r *Scrambler) Search {
	o.Scan = r.Watch(o.Scan)
	return o
}

// Metadata scans the filesystem on p.
func (o Search) Metadata(ctx context.Context, p *Part, shown *progress.Reporter) (*scan.Result, error) {
	opt := o.Scan
	if shown != nil {
		shown.Expect(copying, progress.AsFirst, o.Unread(p), nil)
	}
	opt.Progress = shown.Phase(scanning, progress.Bytes)
	if o.Place.Offset == nil {
		opt.BelieveBackup = func(block uint64, blockSize uint32) error { return o.otherwise(p, block, blockSize) }
	}
	res, err := scan.Scan(ctx, p.Disk, p.Disk.Size(), opt)
	if err != nil {
		return nil, o.Explain(p, err)
	}
	if err := o.checkFeatures(res.Super()); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if shown != nil {
		all, unread := res.ReadBytes()
		shown.Expect(copying, all, unread, res.View().UnscannedRead)
	}
	return res, nil
}

// CheckContent refuses a part that has no primary superblock and holds something
// else than a damaged filesystem.
func (o Search) CheckContent(p *Part) error {
	if o.Place.Offset != nil || SuperblockAt(p.Disk) != nil {
		return nil
	}
	return o.otherwise(p, 0, 0)
}

// Explain returns the cause of err, an error of a scan of p: a *NotExtError if
// p contains no ext filesystem.
func (o Search) Explain(p *Part, err error) error {
	if choice := (*NotExtError)(nil); errors.As(err, &choice) {
		return choice
	}
	if errors.Is(err, scan.ErrNotExt) {
		found, _, _ := signature.Find(p.Disk, p.Disk.Size())
		if unread := (*scan.ReadError)(nil); found.Name != "" || !errors.As(err, &unread) {
			return o.notExt(p, found)
		}
	}
	return fmt.Errorf("%s: %w", p.Name, err)
}

// notExt returns an error that says what p contains in place of a filesystem.
func (o Search) notExt(p *Part, found signature.Signature) error {
	size := p.Disk.Size()
	e := &NotExtError{Name: p.Name, start: p.Start, found: found, superblock: o.Scan.Superblock, short: size < ext.SuperblockOffset+ext.SuperblockSize}
	if found.Name == signature.Ext && e.superblock != 0 {
		e.backup = firstBackup(p.Disk)
	}
	if e.superblock >= uint64(size)/uint64(max(o.Scan.BlockSize, ext.MinBlockSize)) {
		e.size = size
	}
	if found.Name == signature.PartitionTable && !o.Place.Inside() {
		e.partitions = extPartitions(p.Disk, p.SectorSize)
	}
	return e
}

// otherwise looks for a better explanation of a disk that has no primary
// superblock, but a copy of a superblock in a block. It returns a *NotExtError
// that lists the choices, or nil if the disk is a damaged filesystem. The copy
// may be older than the partition table, or lie in a file.
func (o Search) otherwise(p *Part, block uint64, blockSize uint32) error {
	found, ok, err := signature.Find(p.Disk, p.Disk.Size())
	if err != nil || !ok || found.Name == signature.Ext {
		return nil //nolint:nilerr // what cannot be read explains nothing
	}
	e := &NotExtError{Name: p.Name, start: p.Start, found: found, copyBlock: block, copySize: blockSize}
	if found.Name == signature.PartitionTable && !o.Place.Inside() {
		table, err := readPartitions(p.Disk, p.SectorSize)
		if err != nil || !anyKnown(p.Disk, table) {
			return nil //nolint:nilerr // a table that leads nowhere is no better
		}
		e.partitions = extPartitions(p.Disk, p.SectorSize)
	}
	return e
}

// CheckContent says what a disk looks like that is to be served, but holds no ext
// filesystem, and what to do about it. It refuses a file of a format that is not
// a disk, unless asRaw says that the file is one.
func (s *Session) CheckContent(in *Input, p *Part, asRaw bool) error {
	if SuperblockAt(p.Disk) != nil {
		return nil
	}
	found, ok, err := signature.Find(p.Disk, p.Disk.Size())
	hint := advise.OnContent(found, p.Start)
	switch {
	case err != nil, !ok, found.Name == signature.Ext, found.Name == signature.PartitionTable:
		return nil //nolint:nilerr // what cannot be read explains nothing
	case found.Filesystem || found.Name == signature.FixedVHD || p.Disk != image.Image(in.Src):
		s.Say("%s looks like %s; %s", p.Name, found.Name, hint)
		return nil
	case asRaw:
		return nil
	}
	return fmt.Errorf("%s %w: it looks like %s; %s; or take it for a disk with --source-format=raw", p.Name, errNoDisk, found.Name, hint)
}

// errNoDisk says that a file is of a format that is not a disk.
var errNoDisk = errors.New("is not a disk")

// A NotExtError says what a source contains in place of a filesystem.
type NotExtError struct {
	Name       string // of the part that was searched
	start      int64  // of the part in the source
	found      signature.Signature
	superblock uint64 // the block that -b names, or 0
	size       int64  // of the part that was searched, if that block lies behind its end; else 0
	partitions string // partitions with a filesystem; "" if none were searched
	backup     string // the place of the first copy according to the primary superblock
	short      bool   // the part ends within the superblock
	copyBlock  uint64 // the block with a copy of a superblock, or 0
	copySize   uint32 // the block size in the copy, bytes
}

func (e *NotExtError) Error() string {
	isExt := e.found.Name == signature.Ext
	switch {
	case isExt && e.superblock == 0 && e.short:
		return e.Name + ": ends within the superblock of an ext2, ext3 or ext4 filesystem"
	case isExt && e.superblock == 0:
		return e.Name + ": the superblock was not read; see whether the map of --bad-map is the right one"
	}
	if isExt && e.size == 0 {
		return fmt.Sprintf("%s: no copy of the superblock is in block %d", e.Name, e.superblock)
	}
	text := e.Name + ": no ext2, ext3 or ext4 filesystem found"
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

func (e *NotExtError) Unwrap() error { return scan.ErrNotExt }

// adviceSearch says how to find what is left of a filesystem.
const adviceSearch = "e2qcow info --search SOURCE lists the places that hold a superblock"

// Advice returns what to do, "" if that is not known.
func (e *NotExtError) Advice() string {
	switch {
	case e.found.Name == signature.Ext && e.short:
		return "it is cut short; get it again"
	case e.found.Name == signature.Ext && e.superblock == 0:
		return "" // the map of --bad-map calls all superblocks unread
	case e.found.Name == signature.Ext:
		return cmp.Or(e.backup, adviceSearch)
	}
	var list []string
	if e.partitions != "" {
		list = append(list, e.partitions)
	} else if text := advise.OnContent(e.found, e.start); text != "" {
		list = append(list, text)
	}
	if e.copyBlock != 0 {
		list = append(list, fmt.Sprintf("-b %d -B %d takes the whole for a damaged ext filesystem", e.copyBlock, e.copySize))
	}
	if len(list) == 0 {
		return adviceSearch
	}
	return strings.Join(list, "; ")
}

// firstBackup returns the place of the first copy according to the primary
// superblock. It is the advice if -b names a block without a copy.
func firstBackup(d image.Image) string {
	const without = "leave -b out to go by the primary superblock"
	sb := SuperblockAt(d)
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
	errUnknownFeature = advise.New("the filesystem has a feature that e2qcow does not know",
		"a newer version may know it; -f continues, but metadata of that feature may be wrong")
	errOtherLayout = advise.New("the filesystem has a feature that -s cannot scramble", "leave -s out to dump it as it is")
)

// checkFeatures refuses features that e2qcow does not know. A dump does not
// need to know every structure; a clone, a move, an installation and scrambling
// do.
func (o Search) checkFeatures(sb *ext.Superblock) error {
	if sb == nil {
		return nil
	}
	incompat, roCompat := sb.UnknownFeatures()
	if o.Scrambles {
		// Words in structures of that layout would stay.
		for _, name := range incompat {
			if !strings.HasPrefix(name, "incompat ") {
				return fmt.Errorf("%w: %s", errOtherLayout, name)
			}
		}
	}
	list := incompat
	if o.Writes {
		list = append(list, roCompat...)
	}
	if len(list) == 0 || o.Force || !o.Writes && !o.Scrambles {
		return nil
	}
	return fmt.Errorf("%w: %s", errUnknownFeature, strings.Join(list, ", "))
}

// ErrNoSuperblock says that no superblock leads to the tables.
var ErrNoSuperblock = advise.New("has no valid superblock", "use -Q, which dumps what there is; "+adviceSearch)
