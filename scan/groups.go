package scan

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"e2qcow/ext"
)

// windowGroups is how many groups are taken at a time: their descriptors are
// read together, then their tables in ascending order.
const windowGroups = 8192

// A table is the part of a group's inode table that is to be visited.
type table struct {
	block uint64
	count uint32 // blocks
	group uint32
	first uint32 // inodes that come before are not visited
	limit uint32 // inodes from here on are not visited
}

// A place is where a descriptor says that a group's tables are.
type place struct {
	blockBitmap, inodeBitmap, inodeTable uint64
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
		if err := s.scanTables(ctx, tables); err != nil {
			return err
		}
		if len(s.pending) >= maxPending {
			if err := s.scanLevels(ctx); err != nil {
				return err
			}
		}
		if s.progress != nil {
			s.progress(int64(end), int64(s.groups))
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
		func(b *batch, i int, _ uint64, data []byte) {
			for g := (blockFirst + uint32(i)) * per; len(data) >= int(s.geo.DescSize); g++ {
				if g >= first && g < end {
					d := ext.GroupDesc(data[:s.geo.DescSize])
					places[g-first] = place{d.BlockBitmap(), d.InodeBitmap(), d.InodeTable()}
					tables[g-first] = s.visitDesc(b, g, d)
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

func sortTables(tables []table) {
	slices.SortFunc(tables, func(a, b table) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.group, b.group))
	})
}

// visitDesc takes in the bitmaps of a group and returns what of its inode
// table is to be visited.
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
	s.hold(b, d.BlockBitmap(), 1)
	s.hold(b, d.InodeBitmap(), 1)
	if flags&ext.BgBlockUninit == 0 {
		s.markLocated(b, BlockBitmap, g, d.BlockBitmap(), 1)
	}
	if flags&ext.BgInodeUninit == 0 {
		s.markLocated(b, InodeBitmap, g, d.InodeBitmap(), 1)
	}
	t := table{block: d.InodeTable(), group: g, limit: s.geo.InodesPerGroup - unused}
	if !s.validBlock(t.block) {
		// Of a table that runs over the end of all numbers e2fsck reads on at 0.
		if start, n, ok := s.validRun(0, t.block+uint64(s.geo.TableBlocks)); ok && t.block+uint64(s.geo.TableBlocks) < t.block {
			b.mark(Claimed, start, n)
		}
		b.problems = append(b.problems, Problem{Kind: BadTableLocation, What: "inode table lies outside the filesystem", Group: g, Block: t.block})
		return table{}
	}
	s.tables[g] = t.block
	s.hold(b, t.block, uint64(s.geo.TableBlocks))
	if flags&ext.BgInodeUninit != 0 {
		t.limit = 0
	}
	s.limits[g] = t.limit
	t.count = s.tableBlocks(t.block, t.limit)
	if s.zeroedTables && flags&ext.BgInodeZeroed != 0 {
		b.mark(InodeTable, t.block+uint64(t.count), uint64(s.tableBlocks(t.block, s.geo.InodesPerGroup)-t.count))
	}
	return t
}

// tableBlocks returns how many blocks the first n inodes of a table fill, cut
// to the filesystem.
func (s *scanner) tableBlocks(start uint64, n uint32) uint32 {
	per := s.geo.InodesPerBlock()
	_, count, _ := s.validRun(start, uint64((n+per-1)/per))
	return uint32(count)
}

func (s *scanner) markLocated(b *batch, kind Kind, g uint32, block, n uint64) {
	if _, _, ok := s.validRun(block, n); !ok {
		b.problems = append(b.problems, Problem{Kind: BadTableLocation, What: kind.String() + " lies outside the filesystem", Group: g, Block: block})
		return
	}
	b.mark(kind, block, n)
}

// scanTables visits the inodes of tables, which ascend.
func (s *scanner) scanTables(ctx context.Context, tables []table) error {
	per := s.geo.InodesPerBlock()
	size := int(s.geo.InodeSize)
	if s.tablesOnly {
		for _, t := range tables {
			s.out.add(InodeTable, t.block, uint64(t.count))
		}
		return nil
	}
	return s.sweep(ctx, len(tables),
		func(i int) (uint64, uint64) { return tables[i].block, uint64(tables[i].count) },
		func(b *batch, i int, block uint64, data []byte) {
			t := &tables[i]
			s.markTable(b, t, block, uint64(len(data))/uint64(s.geo.BlockSize))
			index := uint32(block-t.block) * per
			for ; index < t.limit && len(data) >= size; index++ {
				if index >= t.first {
					s.visitInode(b, t.group*s.geo.InodesPerGroup+index+1, ext.Inode(data[:size:size]))
				}
				data = data[size:]
			}
		})
}

// markTable takes in n blocks of a table, of the one that it ends in only the
// inodes up to its limit: behind them is what was on the device before.
func (s *scanner) markTable(b *batch, t *table, block, n uint64) {
	per := uint64(s.geo.InodesPerBlock())
	if part := uint64(t.limit) % per; part != 0 && block+n-t.block == uint64(t.limit)/per+1 {
		n--
		b.ends = append(b.ends, partial{block + n, uint32(part) * s.geo.InodeSize, InodeTable})
	}
	b.mark(InodeTable, block, n)
}

// scanNamed visits the rest of the inode tables in which something names an
// inode beyond bg_itable_unused: e2fsck then no longer believes it.
func (s *scanner) scanNamed(ctx context.Context) error {
	var tables []table
	var more []uint32
	b := new(batch)
	last := ^uint32(0)
	for it := s.named.Iterator(); it.HasNext(); {
		ino := it.Next()
		g, index := s.geo.InodePlace(ino)
		if g == last || g >= s.groups || index < s.limits[g] || s.tables[g] == 0 {
			continue
		}
		last = g
		b.problems = append(b.problems, Problem{Kind: InodePastUnused, What: "named, though marked unused", Group: g, Inode: ino})
		t := table{block: s.tables[g], group: g, first: s.limits[g], limit: s.geo.InodesPerGroup}
		t.count = s.tableBlocks(t.block, t.limit)
		tables = append(tables, t)
		more = append(more, g)
		s.limits[g] = s.geo.InodesPerGroup
	}
	s.named.Clear()
	s.merge(b)
	if len(tables) == 0 {
		return nil
	}
	sortTables(tables)
	if err := s.markBitmaps(ctx, more); err != nil {
		return err
	}
	return s.scanTables(ctx, tables)
}

// markBitmaps takes in the bitmaps of groups, which ascend.
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
	found := make([]span, 0, 4*len(places))
	end := first + uint32(len(places))
	for g, ok := s.geo.NextSuper(first); ok && g < end; g, ok = s.geo.NextSuper(g + 1) {
		start := s.geo.SuperBlock(g)
		found = append(found, span{start, min(start+1+uint64(s.geo.LinearDescBlocks())+uint64(s.geo.ReservedDescBlocks), max(s.geo.BlocksCount, start+1)), g})
	}
	n := len(found)
	found = slices.Grow(found, 3*len(places))[:n+3*len(places)]
	for i, p := range places {
		g := first + uint32(i)
		low, high := uint64(s.geo.FirstDataBlock), s.geo.BlocksCount
		if !s.sb.HasIncompat(ext.IncompatFlexBg) {
			low = s.geo.GroupFirstBlock(g)
			high = min(high, low+uint64(s.geo.BlocksPerGroup))
		}
		for k, r := range [...]span{{p.blockBitmap, 1, g}, {p.inodeBitmap, 1, g}, {p.inodeTable, uint64(s.geo.TableBlocks), g}} {
			if r.start < low || r.start >= high || high-r.start < r.end {
				s.misplaced(g, r.start, "bitmaps or inode table outside the group")
				return
			}
			r.end += r.start
			found[n+k*len(places)+i] = r // by kind, as each ascends
		}
	}
	if at, ok := s.located.add(found); !ok {
		s.misplaced(at.group, at.start, "bitmaps or inode table on something else")
	}
}

func (s *scanner) misplaced(g uint32, block uint64, what string) {
	s.descBad = true
	s.problems.add(Problem{Kind: BadDescriptor, What: what, Group: g, Block: block})
}
