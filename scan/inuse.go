package scan

import (
	"cmp"
	"context"
	"slices"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// A bitmap is a block bitmap that is to be read.
type bitmap struct {
	block uint64
	group uint32
	desc  ext.GroupDesc
}

// scanInUse marks as file contents the blocks that block bitmaps mark as in use
// and that nothing has claimed: blocks to which only damaged structures lead.
// With bigalloc, the unused blocks in the last cluster of a sound file are such
// blocks too, so only wholly unclaimed clusters count.
func (s *scanner) scanInUse(ctx context.Context) error {
	if !s.opt.Files {
		return nil
	}
	for g := range s.groups {
		s.held.add(s.geo.GroupFirstBlock(g), s.geo.GroupHead(g))
	}
	for _, e := range s.out.ends {
		s.held.add(e.block, 1)
	}
	for first := uint32(0); first < s.groups; {
		end := s.groups
		if s.groups-first > windowGroups {
			end = first + windowGroups
		}
		if err := s.readBitmaps(ctx, first, end); err != nil {
			return err
		}
		s.takeInUse()
		first = end
	}
	return nil
}

// readBitmaps reads the valid block bitmaps of the groups [first, end).
func (s *scanner) readBitmaps(ctx context.Context, first, end uint32) error {
	per := s.geo.DescsPerBlock()
	blockFirst, blockEnd := first/per, (end-1)/per+1
	bitmaps := make([]bitmap, end-first)
	err := s.sweep(ctx, int(blockEnd-blockFirst),
		func(i int) (uint64, uint64) { return s.geo.DescBlock(s.descGroup, blockFirst+uint32(i)), 1 },
		func(_ *batch, i int, _ uint64, data []byte) {
			for g := (blockFirst + uint32(i)) * per; len(data) >= int(s.geo.DescSize); g++ {
				d := ext.GroupDesc(data[:s.geo.DescSize])
				if g >= first && g < end && s.believed(g, d) {
					bitmaps[g-first] = bitmap{d.BlockBitmap(), g, slices.Clone(d)}
				}
				data = data[s.geo.DescSize:]
			}
		})
	if err != nil {
		return err
	}
	bitmaps = slices.DeleteFunc(bitmaps, func(m bitmap) bool { return m.desc == nil })
	slices.SortFunc(bitmaps, func(a, b bitmap) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.group, b.group))
	})
	return s.sweep(ctx, len(bitmaps),
		func(i int) (uint64, uint64) { return bitmaps[i].block, 1 },
		func(b *batch, i int, _ uint64, data []byte) { s.visitBitmap(b, &bitmaps[i], data) })
}

// believed reports whether the place of the block bitmap in a descriptor is
// reliable.
func (s *scanner) believed(g uint32, d ext.GroupDesc) bool {
	return s.validBlock(d.BlockBitmap()) && s.sb.DescChecksumOK(g, d) && !(s.sb.HasDescChecksums() && d.Flags()&ext.BgBlockUninit != 0)
}

// visitBitmap marks the blocks that a block bitmap marks as in use.
func (s *scanner) visitBitmap(b *batch, m *bitmap, data []byte) {
	data = data[:min(int(s.geo.ClustersPerGroup()/8), len(data))]
	if s.sb.HasRoCompat(ext.RoCompatMetadataCsum) && !ext.VerifyBlockBitmap(s.sb.ChecksumSeed(), data, m.desc) {
		return
	}
	start, ratio := s.geo.GroupFirstBlock(m.group), uint64(s.geo.ClusterSize/s.geo.BlockSize)
	for first, end := range bitRuns(data) {
		if block, n, ok := s.validRun(start+first*ratio, (end-first)*ratio); ok {
			b.inUse = ranges.Append(b.inUse, block, block+n)
		}
	}
}

// bitRuns yields the runs [first, end) of bits that are set.
func bitRuns(b []byte) func(yield func(first, end uint64) bool) {
	return func(yield func(first, end uint64) bool) {
		first, set := uint64(0), false
		for i, x := range b {
			if x == 0 && !set || x == 0xff && set {
				continue
			}
			for bit := range 8 {
				if now := x>>bit&1 != 0; now != set {
					at := uint64(8*i + bit)
					if set && !yield(first, at) {
						return
					}
					first, set = at, now
				}
			}
		}
		if set {
			yield(first, uint64(8*len(b)))
		}
	}
}

// takeInUse marks the blocks in use that nothing claims.
func (s *scanner) takeInUse() {
	used := &s.inUse
	used.remove(&s.held)
	for k := range s.out.sets {
		used.remove(&s.out.sets[k])
	}
	base, ratio := uint64(s.geo.FirstDataBlock), uint64(s.geo.ClusterSize/s.geo.BlockSize)
	if s.problems.any() {
		ratio = 1
	}
	for start, end := range used.runs() {
		start += ratio - 1 - (start-base+ratio-1)%ratio
		if end != s.end {
			end -= (end - base) % ratio
		}
		if start < end {
			s.out.add(FileData, start, end-start)
		}
	}
	s.inUse = blockSet{}
}
