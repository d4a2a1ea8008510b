package survey

import (
	"context"
	"encoding/binary"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// blocks is a list of runs of blocks.
type blocks []ranges.Range[uint64]

// readDescs reads the descriptors of all groups that begin on the device.
func (s *survey) readDescs(ctx context.Context) error {
	const most = 64 // blocks that are read at once
	end := min(uint64(s.res.View().Size())/s.bs, s.geo.BlocksCount)
	if end <= uint64(s.geo.FirstDataBlock) {
		return nil
	}
	n := min(s.geo.GroupOf(end-1)+1, s.rd.Groups(), maxGroups)
	s.groups = make([]group, n)
	per := s.geo.DescsPerBlock()
	last := (n-1)/per + 1
	buf := make([]byte, most*s.bs)
	for i := uint32(0); i < last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, k := s.rd.DescBlock(i), uint32(1)
		for ; k < most && i+k < last && s.rd.DescBlock(i+k) == start+uint64(k); k++ {
		}
		data := buf[:uint64(k)*s.bs]
		s.read(start, data)
		size := uint64(s.geo.DescSize)
		for j := range k {
			for g := (i + j) * per; g < min((i+j+1)*per, n); g++ {
				at := uint64(j)*s.bs + uint64(g%per)*size
				s.groups[g] = s.group(g, ext.GroupDesc(data[at:at+size]))
				s.groups[g].lost = s.lost(start*s.bs+at, size)
			}
		}
		i += k
	}
	return nil
}

// group decodes the descriptor of a group.
func (s *survey) group(g uint32, d ext.GroupDesc) group {
	x := group{
		blockBitmap: d.BlockBitmap(), inodeBitmap: d.InodeBitmap(), inodeTable: d.InodeTable(),
		freeClusters: d.FreeClusters(), freeInodes: d.FreeInodes(),
	}
	if !s.sb.HasDescChecksums() {
		return x
	}
	ok := s.sb.DescChecksumOK(g, d)
	s.sums[sumDescriptor].add(ok, place{group: g, hasGroup: true})
	if ok && s.res.SuperGroup() == 0 {
		x.flags = d.Flags()
	}
	x.blockSum, x.inodeSum = bitmapSums(d)
	return x
}

// bitmapSums returns bg_block_bitmap_csum and bg_inode_bitmap_csum.
func bitmapSums(d ext.GroupDesc) (blocks, inodes uint32) {
	const blockLo, inodeLo, blockHi, inodeHi = 0x18, 0x1A, 0x38, 0x3A
	blocks, inodes = uint32(binary.LittleEndian.Uint16(d[blockLo:])), uint32(binary.LittleEndian.Uint16(d[inodeLo:]))
	if len(d) >= inodeHi+2 {
		blocks |= uint32(binary.LittleEndian.Uint16(d[blockHi:])) << 16
		inodes |= uint32(binary.LittleEndian.Uint16(d[inodeHi:])) << 16
	}
	return blocks, inodes
}

// fixed returns the places of the bitmaps and inode tables of some groups, as far
// as they lie in the filesystem.
func (s *survey) fixed(of func(group) bool) (bitmaps, tables blocks) {
	add := func(list blocks, start, n uint64) blocks {
		if !s.geo.ValidBlock(start) || n > s.geo.BlocksCount-start {
			return list
		}
		return ranges.Append(list, start, start+n)
	}
	// One after the other, because those of a kind lie together.
	for i := range s.groups {
		if x := &s.groups[i]; !x.lost && of(*x) {
			tables = add(tables, x.inodeTable, uint64(s.geo.TableBlocks))
		}
	}
	for i := range s.groups {
		if x := &s.groups[i]; !x.lost && of(*x) {
			bitmaps = add(bitmaps, x.blockBitmap, 1)
		}
	}
	for i := range s.groups {
		if x := &s.groups[i]; !x.lost && of(*x) {
			bitmaps = add(bitmaps, x.inodeBitmap, 1)
		}
	}
	return ranges.Join(bitmaps), ranges.Join(tables)
}

// read fills p with blocks, and finds out what could not be read.
func (s *survey) read(start uint64, p []byte) {
	s.rd.ReadBlock(start, p)
	s.bad = s.res.Unreadable()
}

// lost reports whether some of n bytes from off could not be read.
func (s *survey) lost(off, n uint64) bool {
	i := ranges.Find(s.bad, int64(off))
	return i < len(s.bad) && s.bad[i].Start < int64(off+n)
}
