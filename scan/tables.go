package scan

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"e2qcow/ext"
)

// A table is the part of a group's inode table that is to be visited.
type table struct {
	block uint64
	count uint32 // blocks
	group uint32
	first uint32 // inodes that come before are not visited
	limit uint32 // inodes from here on are not visited
}

func sortTables(tables []table) {
	slices.SortFunc(tables, func(a, b table) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.group, b.group))
	})
}

// tableBlocks returns how many blocks the first n inodes of a table fill, cut
// to the filesystem.
func (s *scanner) tableBlocks(start uint64, n uint32) uint32 {
	per := s.geo.InodesPerBlock()
	_, count, _ := s.validRun(start, uint64((n+per-1)/per))
	return uint32(count)
}

// scanTables visits the inodes of tables, which ascend.
func (s *scanner) scanTables(ctx context.Context, tables []table) error {
	per := s.geo.InodesPerBlock()
	size := int(s.geo.InodeSize)
	if s.opt.TablesOnly {
		for _, t := range tables {
			s.out.add(InodeTable, t.block, uint64(t.count))
		}
		return nil
	}
	parts := s.tableParts(tables)
	for _, p := range parts {
		s.work.tables += int64(p.count) * int64(s.geo.BlockSize)
	}
	return s.sweep(ctx, len(parts),
		func(i int) (uint64, uint64) { return parts[i].block, parts[i].count },
		func(b *batch, i int, block uint64, data []byte) {
			t := &tables[parts[i].table]
			s.markTable(b, t, block, uint64(len(data))/uint64(s.geo.BlockSize))
			index := uint32(block-t.block) * per
			for ; index < t.limit && len(data) >= size; index++ {
				if index >= t.first {
					problems := len(b.problems)
					s.visitInode(b, t.group*s.geo.InodesPerGroup+index+1, ext.Inode(data[:size:size]))
					b.excuse(problems, int64(t.block)*int64(s.geo.BlockSize)+int64(index)*int64(size), int64(size))
				}
				data = data[size:]
			}
		})
}

// maxRepeated bounds the bytes of inode tables that are visited once more, as
// the table of another group: only damage lays tables over each other. What
// the inodes there lead to is known by then, but not under these numbers.
const maxRepeated = 256 << 20

// A tablePart is a part of a table that is to be read.
type tablePart struct {
	table        int // in the list of tables
	block, count uint64
}

// tableParts returns the parts of ascending tables that must be read. Inodes in
// a hole of the source are zero and lead nowhere: that part is only marked.
func (s *scanner) tableParts(tables []table) []tablePart {
	bs, per := int64(s.geo.BlockSize), s.geo.InodesPerBlock()
	parts := make([]tablePart, 0, len(tables))
	b := new(batch)
	for i := range tables {
		t := &tables[i]
		at := t.block + uint64(t.first/per)
		end := t.block + uint64(t.count)
		for at < end {
			start, stop := s.holes.data(int64(at)*bs, int64(end)*bs)
			first, last := uint64(start/bs), uint64((stop+bs-1)/bs)
			s.markTable(b, t, at, first-at)
			if first < last {
				parts = s.appendPart(parts, i, t, first, last-first)
			}
			at = last
		}
		if b.full() {
			s.merge(b)
		}
	}
	s.merge(b)
	if !slices.IsSortedFunc(parts, comparePartPlaces) {
		slices.SortStableFunc(parts, comparePartPlaces)
	}
	return parts
}

func comparePartPlaces(a, b tablePart) int { return cmp.Compare(a.block, b.block) }

// appendPart appends a part of table i. Where descriptors are bad, so that
// tables may lie on each other, blocks that were visited before are visited
// again only up to maxRepeated.
func (s *scanner) appendPart(parts []tablePart, i int, t *table, block, n uint64) []tablePart {
	if !s.descBad {
		return append(parts, tablePart{i, block, n})
	}
	old := s.swept.countIn(block, n) * uint64(s.geo.BlockSize)
	if s.repeated+old <= s.maxRepeated {
		s.repeated += old
		s.swept.add(block, n)
		return append(parts, tablePart{i, block, n})
	}
	s.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("inode tables lie on each other: more than %d bytes of them are not visited again", s.maxRepeated), Group: t.group, Block: t.block})
	s.swept.gaps(block, n, func(block, n uint64) {
		s.swept.add(block, n)
		parts = append(parts, tablePart{i, block, n})
	})
	return parts
}

// markTable marks n blocks of a table. Of the last block it marks only the
// inodes up to the limit of the table: old data lies behind them.
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
