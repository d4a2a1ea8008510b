package lost

import (
	"math/bits"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// maxGroups bounds the descriptors that are looked at.
const maxGroups = 1 << 20

// findLostInodes finds the inodes whose place in a table is lost, and those of
// groups whose descriptor, which says where the table is, is lost.
func (f *finder) findLostInodes() error {
	for _, t := range f.tables {
		f.addLostTable(uint64(t.First), t.Start, t.Count)
	}
	if err := f.findLostGroups(); err != nil {
		return err
	}
	f.lostInodes = ranges.Join(f.lostInodes)
	return f.lostInUse()
}

// addLostTable notes the inodes that are lost of a table of n blocks, whose first
// inode is first.
func (f *finder) addLostTable(first, start, n uint64) {
	size := uint64(f.geo.InodeSize)
	from, end := start*f.bs, (start+n)*f.bs
	for i := ranges.Find(f.lost, int64(from)); i < len(f.lost) && uint64(f.lost[i].Start) < end; i++ {
		lo, hi := max(uint64(f.lost[i].Start), from)-from, min(uint64(f.lost[i].End), end)-from
		f.addLost(first+lo/size, first+(hi+size-1)/size)
	}
}

// addLost notes that the inodes from first up to end are lost, as far as there
// are so many.
func (f *finder) addLost(first, end uint64) {
	f.lostInodes = ranges.Append(f.lostInodes, first, min(end, uint64(f.geo.GroupCount)*uint64(f.geo.InodesPerGroup)+1))
}

// findLostGroups notes the inodes of groups whose table the scan does not know:
// because the descriptor is lost, or because the table lies behind the end of the
// source.
func (f *finder) findLostGroups() error {
	var known []ranges.Range[uint64] // inodes
	for t := range f.reading.Tables() {
		known = append(known, ranges.Range[uint64]{Start: uint64(t.First), End: uint64(t.First) + t.Count*uint64(f.geo.InodesPerBlock())})
	}
	known = ranges.Join(known)
	per, size := f.geo.DescsPerBlock(), f.geo.DescSize
	groups := f.geo.GroupCount
	if groups > maxGroups {
		groups, f.cut = maxGroups, true
	}
	descs := make([]byte, f.bs)
	loaded := ^uint32(0) // the block of the table that descs holds
	for g := range groups {
		if g%per == 0 && f.ctx.Err() != nil {
			return f.ctx.Err()
		}
		first := uint64(g)*uint64(f.geo.InodesPerGroup) + 1
		if i := ranges.Find(known, first); i < len(known) && known[i].Start <= first {
			continue
		}
		block, at := f.reading.DescBlock(g/per), g%per*size
		if f.isLost(block*f.bs+uint64(at), uint64(size)) {
			f.addLost(first, first+uint64(f.geo.InodesPerGroup))
			continue
		}
		if loaded != g/per {
			f.reading.ReadBlock(block, descs)
			loaded = g / per
		}
		table := ext.GroupDesc(descs[at : at+size]).InodeTable()
		if f.geo.ValidBlock(table) && uint64(f.geo.TableBlocks) <= f.geo.BlocksCount-table {
			f.addLostTable(first, table, uint64(f.geo.TableBlocks))
		}
	}
	return nil
}

// lostInUse notes the lost inodes that the inode bitmaps mark as in use. Entries of
// directories name more of them where a bitmap is lost too.
func (f *finder) lostInUse() error {
	bitmap := make([]byte, f.bs)
	left := maxGroups // bitmaps that are read
	for _, r := range f.lostInodes {
		for ino := r.Start; ino < r.End; {
			g, index := f.geo.InodePlace(uint32(ino))
			end := min(r.End, (uint64(g)+1)*uint64(f.geo.InodesPerGroup)+1)
			switch {
			case f.ctx.Err() != nil:
				return f.ctx.Err()
			case left == 0:
				f.cut = true
				return nil
			case !f.readInodeBitmap(g, bitmap):
				if !f.neverUsed(g) {
					f.unknown += end - ino
				}
			default:
				left--
				f.markInUse(bitmap, index, index+uint32(end-ino), uint32(ino)-index)
			}
			ino = end
		}
	}
	return nil
}

// markInUse notes the inodes of the bits from first up to end that are set. base is
// the number of the inode of bit 0.
func (f *finder) markInUse(bitmap []byte, first, end, base uint32) {
	for i := first; i < min(end, uint32(8*len(bitmap))); {
		b := bitmap[i/8] >> (i % 8)
		if b == 0 {
			i = (i/8 + 1) * 8
			continue
		}
		if i += uint32(bits.TrailingZeros8(b)); i < end {
			f.file(&tree{ino: base + i}, Inode)
		}
		i++
	}
}

// desc returns the descriptor of a group, with block as room; nil if it is lost.
func (f *finder) desc(group uint32, block []byte) ext.GroupDesc {
	per, size := f.geo.DescsPerBlock(), f.geo.DescSize
	n, at := f.reading.DescBlock(group/per), group%per*size
	if f.isLost(n*f.bs+uint64(at), uint64(size)) {
		return nil
	}
	f.reading.ReadBlock(n, block)
	return ext.GroupDesc(block[at : at+size])
}

// neverUsed reports whether the descriptor of a group says that its inodes were
// never used.
func (f *finder) neverUsed(group uint32) bool {
	d := f.desc(group, make([]byte, f.bs))
	return d != nil && d.Flags()&ext.BgInodeUninit != 0
}

// readInodeBitmap reads the inode bitmap of a group; false if the bitmap was never
// written, or cannot be read.
func (f *finder) readInodeBitmap(group uint32, bitmap []byte) bool {
	d := f.desc(group, bitmap)
	if d == nil || d.Flags()&ext.BgInodeUninit != 0 {
		return false
	}
	block := d.InodeBitmap()
	if !f.geo.ValidBlock(block) || f.isLost(block*f.bs, f.bs) {
		return false
	}
	f.reading.ReadBlock(block, bitmap)
	return true
}
