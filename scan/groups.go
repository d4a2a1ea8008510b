package scan

import (
	"context"
	"errors"
	"slices"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// windowGroups is how many groups are taken at a time: their descriptors are
// read together, then their tables in ascending order.
const windowGroups = 8192

// A place is where a descriptor says that a group's tables are.
type place struct {
	blockBitmap, inodeBitmap, inodeTable uint64
	unread                               bool // the descriptor, in part
}

// errBadDescs says that e2fsck would not use these descriptors.
var errBadDescs = errors.New("descriptors that e2fsck turns away from")

// scanGroups reads the descriptors and the inode tables of all groups.
func (s *scanner) scanGroups(ctx context.Context) error {
	for first := uint32(0); first < s.groups; {
		end := s.groups
		if s.groups-first > windowGroups {
			end = first + windowGroups
		}
		tables, err := s.readDescs(ctx, first, end)
		if err != nil {
			return err
		}
		if s.descBad && s.picky {
			return errBadDescs
		}
		s.work.groupsDone += int64(end - first)
		if err := s.scanTables(ctx, tables); err != nil {
			return err
		}
		first = end
	}
	return nil
}

// readDescs reads the descriptors of the groups [first, end), takes their
// bitmaps in, and returns the tables to visit in ascending order.
func (s *scanner) readDescs(ctx context.Context, first, end uint32) ([]table, error) {
	per := s.geo.DescsPerBlock()
	blockFirst, blockEnd := first/per, (end-1)/per+1
	tables := make([]table, end-first)
	places := make([]place, end-first)
	err := s.sweep(ctx, int(blockEnd-blockFirst),
		func(i int) (uint64, uint64) { return s.geo.DescBlock(s.descGroup, blockFirst+uint32(i)), 1 },
		func(b *batch, i int, block uint64, data []byte) {
			for g := (blockFirst + uint32(i)) * per; len(data) >= int(s.geo.DescSize); g++ {
				if g >= first && g < end {
					d := ext.GroupDesc(data[:s.geo.DescSize])
					problems, size := len(b.problems), int64(s.geo.DescSize)
					off := int64(block)*int64(s.geo.BlockSize) + int64(g%per)*size
					places[g-first] = place{d.BlockBitmap(), d.InodeBitmap(), d.InodeTable(), b.unread(off, size)}
					tables[g-first] = s.visitDesc(b, g, d)
					b.excuse(problems, off, size)
				}
				data = data[s.geo.DescSize:]
			}
		})
	if err != nil {
		return nil, err
	}
	s.checkPlaces(first, places)
	tables = slices.DeleteFunc(tables, func(t table) bool { return t.count == 0 })
	sortTables(tables)
	return tables, nil
}

// visitDesc marks the bitmaps of a group, and returns the part of its inode
// table to visit.
func (s *scanner) visitDesc(b *batch, g uint32, d ext.GroupDesc) table {
	flags, unused := uint16(0), uint32(0)
	if s.sb.HasDescChecksums() {
		switch {
		case !s.sb.DescChecksumOK(g, d):
			b.problems = append(b.problems, Problem{Kind: BadDescriptor, What: "wrong checksum", Group: g})
		case s.trustFlags:
			flags, unused = d.Flags(), d.ItableUnused()
		}
	}
	if unused > s.geo.InodesPerGroup {
		b.problems = append(b.problems, Problem{Kind: BadDescriptor, What: "bg_itable_unused exceeds the table", Group: g})
		unused = 0
	}
	// e2fsck takes the flag off the last group, and then reads the bitmap.
	if flags&ext.BgBlockUninit == 0 || g == s.geo.GroupCount-1 {
		s.markLocated(b, BlockBitmap, g, d.BlockBitmap(), 1)
	}
	if flags&ext.BgInodeUninit == 0 {
		s.markLocated(b, InodeBitmap, g, d.InodeBitmap(), 1)
	}
	t := table{block: d.InodeTable(), group: g, limit: s.geo.InodesPerGroup - unused}
	if s.validBlock(t.block) {
		s.hold(b, t.block, uint64(s.geo.TableBlocks)) // first: see spans.addTo
	}
	s.hold(b, d.BlockBitmap(), 1)
	s.hold(b, d.InodeBitmap(), 1)
	if !s.validBlock(t.block) {
		// Of a table that runs over the end of all numbers e2fsck reads on at 0.
		if start, n, ok := s.validRun(0, t.block+uint64(s.geo.TableBlocks)); ok && t.block+uint64(s.geo.TableBlocks) < t.block {
			b.mark(Claimed, start, n)
		}
		b.problems = append(b.problems, Problem{Kind: BadTableLocation, What: "inode table lies outside the filesystem", Group: g, Block: t.block})
		return table{}
	}
	s.tables[g] = t.block
	if flags&ext.BgInodeUninit != 0 {
		t.limit = 0
	}
	s.limits[g] = t.limit
	t.count = s.tableBlocks(t.block, t.limit)
	if s.opt.ZeroedTables && flags&ext.BgInodeZeroed != 0 {
		b.mark(InodeTable, t.block+uint64(t.count), uint64(s.tableBlocks(t.block, s.geo.InodesPerGroup)-t.count))
	}
	return t
}

func (s *scanner) markLocated(b *batch, kind Kind, g uint32, block, n uint64) {
	if _, _, ok := s.validRun(block, n); !ok {
		b.problems = append(b.problems, Problem{Kind: BadTableLocation, What: kind.String() + " lies outside the filesystem", Group: g, Block: block})
		return
	}
	b.mark(kind, block, n)
}

// markBitmaps marks the bitmaps of ascending groups.
func (s *scanner) markBitmaps(ctx context.Context, groups []uint32) error {
	per := s.geo.DescsPerBlock()
	return s.sweep(ctx, len(groups),
		func(i int) (uint64, uint64) { return s.geo.DescBlock(s.descGroup, groups[i]/per), 1 },
		func(b *batch, i int, _ uint64, data []byte) {
			at := groups[i] % per * s.geo.DescSize
			d := ext.GroupDesc(data[at : at+s.geo.DescSize])
			s.markLocated(b, BlockBitmap, groups[i], d.BlockBitmap(), 1)
			s.markLocated(b, InodeBitmap, groups[i], d.InodeBitmap(), 1)
		})
}

// checkPlaces finds out whether e2fsck would give up the descriptor table: it
// does when a bitmap or a table lies outside its group (with flex_bg, outside
// the filesystem) or on something else (ext2fs_check_desc).
func (s *scanner) checkPlaces(first uint32, places []place) {
	if s.descBad {
		return
	}
	found := newSpans(3 * len(places))
	end := first + uint32(len(places))
	for g, ok := s.geo.NextSuper(first); ok && g < end; g, ok = s.geo.NextSuper(g + 1) {
		start := s.geo.SuperBlock(g)
		found.add(0, span{ranges.Range[uint64]{Start: start, End: min(start+1+uint64(s.geo.LinearDescBlocks())+uint64(s.geo.ReservedDescBlocks), max(s.geo.BlocksCount, start+1))}, g})
	}
	for i, p := range places {
		if p.unread {
			continue
		}
		g := first + uint32(i)
		low, high := uint64(s.geo.FirstDataBlock), s.geo.BlocksCount
		if !s.sb.HasIncompat(ext.IncompatFlexBg) {
			low = s.geo.GroupFirstBlock(g)
			high = min(high, low+uint64(s.geo.BlocksPerGroup))
		}
		for k, r := range [...]struct{ start, count uint64 }{{p.blockBitmap, 1}, {p.inodeBitmap, 1}, {p.inodeTable, uint64(s.geo.TableBlocks)}} {
			if r.start < low || r.start >= high || high-r.start < r.count {
				s.misplaced(g, r.start, "bitmaps or inode table outside the group")
				return
			}
			found.add(k, span{ranges.Range[uint64]{Start: r.start, End: r.start + r.count}, g})
		}
	}
	if at, ok := found.addTo(&s.located); !ok {
		s.misplaced(at.group, at.Start, "bitmaps or inode table on something else")
	}
}

func (s *scanner) misplaced(g uint32, block uint64, what string) {
	s.descBad = true
	s.problems.add(Problem{Kind: BadDescriptor, What: what, Group: g, Block: block})
}
