package survey

import (
	"context"
	"encoding/binary"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// blocks is a list of runs of blocks.
type blocks []ranges.Range[uint64]

// countGroups returns how many groups are looked at: those that begin on the
// device.
func (s *survey) countGroups() uint32 {
	end := min(uint64(s.res.View().Size())/s.bs, s.geo.BlocksCount)
	if end <= uint64(s.geo.FirstDataBlock) {
		return 0
	}
	return min(s.geo.GroupOf(end-1)+1, s.rd.Groups(), maxGroups)
}

// readDescs reads the descriptors of the groups [first, end), and calls f with
// what each says.
func (s *survey) readDescs(first, end uint32, f func(g uint32, d ext.GroupDesc, lost bool)) {
	const most = 64 // blocks that are read at once
	per, size := s.geo.DescsPerBlock(), uint64(s.geo.DescSize)
	if s.descs == nil {
		s.descs = make([]byte, most*s.bs)
	}
	for i, last := first/per, (end-1)/per+1; i < last; {
		start, k := s.rd.DescBlock(i), uint32(1)
		for ; k < most && i+k < last && s.rd.DescBlock(i+k) == start+uint64(k); k++ {
		}
		data := s.descs[:uint64(k)*s.bs]
		s.read(start, data)
		for g := max(i*per, first); g < min((i+k)*per, end); g++ {
			at := uint64(g/per-i)*s.bs + uint64(g%per)*size
			f(g, ext.GroupDesc(data[at:at+size]), s.lost(start*s.bs+at, size))
		}
		i += k
	}
}

// decode decodes the descriptor of a group.
func (s *survey) decode(g uint32, d ext.GroupDesc, lost bool) group {
	x := group{
		lost:        lost,
		blockBitmap: d.BlockBitmap(), inodeBitmap: d.InodeBitmap(), inodeTable: d.InodeTable(),
		freeClusters: d.FreeClusters(), freeInodes: d.FreeInodes(),
	}
	if lost || !s.sb.HasDescChecksums() {
		return x // nobody knows what a lost checksum was
	}
	ok := s.sb.DescChecksumOK(g, d)
	s.sums[sumDescriptor].add(ok, place{group: g, hasGroup: true})
	x.flags = s.flags(g, d)
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

// flags returns the flags of a descriptor, as far as they count.
func (s *survey) flags(g uint32, d ext.GroupDesc) uint16 {
	if s.sb.HasDescChecksums() && !s.stale() && s.sb.DescChecksumOK(g, d) {
		return d.Flags()
	}
	return 0
}

// fixed returns the places of bitmaps and inode tables, as far as they lie in the
// filesystem, and those of groups whose block bitmap was never written.
func (s *survey) fixed(ctx context.Context) (bitmaps, tables, assumed blocks, err error) {
	add := func(list blocks, start, n uint64) blocks {
		if !s.geo.ValidBlock(start) || n > s.geo.BlocksCount-start {
			return list
		}
		return ranges.Append(list, start, start+n)
	}
	var places [5]blocks // those of a kind often lie together
	for first := uint32(0); first < s.groups; {
		if err := ctx.Err(); err != nil {
			return nil, nil, nil, err
		}
		end := s.groups
		if s.groups-first > manyGroups {
			end = first + manyGroups
		}
		s.readDescs(first, end, func(g uint32, d ext.GroupDesc, lost bool) {
			if lost {
				return
			}
			table := d.InodeTable()
			if s.geo.ValidBlock(table) {
				s.tables[g] = table
			}
			places[0] = add(places[0], d.BlockBitmap(), 1)
			places[1] = add(places[1], d.InodeBitmap(), 1)
			places[2] = add(places[2], table, uint64(s.geo.TableBlocks))
			if s.flags(g, d)&ext.BgBlockUninit != 0 {
				places[3] = add(places[3], d.BlockBitmap(), 1)
				places[3] = add(places[3], d.InodeBitmap(), 1)
				places[4] = add(places[4], table, uint64(s.geo.TableBlocks))
			}
		})
		for i := range places {
			places[i] = ranges.Join(places[i])
		}
		first = end
	}
	return ranges.Join(append(places[0], places[1]...)), places[2], ranges.Join(append(places[3], places[4]...)), nil
}

// manyGroups is how many groups have their descriptors read together.
const manyGroups = 1 << 14

// read fills p with blocks, and finds out what could not be read.
func (s *survey) read(start uint64, p []byte) {
	s.rd.ReadBlocks(start, p)
	s.bad = s.res.Unreadable()
}

// lost reports whether some of n bytes from off could not be read.
func (s *survey) lost(off, n uint64) bool {
	i := ranges.Find(s.bad, int64(off))
	return i < len(s.bad) && s.bad[i].Start < int64(off+n)
}
