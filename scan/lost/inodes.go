package lost

import (
	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// lostInUse notes the lost inodes that the inode bitmaps mark as in use. Entries of
// directories name more of them where a bitmap is lost too.
func (f *finder) lostInUse() error {
	f.lostInodes = ranges.Join(f.lostInodes)
	bitmap := make([]byte, f.bs)
	group, usable := ^uint32(0), false
	for _, r := range f.lostInodes {
		for ino := r.Start; ino < r.End; ino++ {
			g, index := f.geo.InodePlace(uint32(ino))
			if g != group {
				if err := f.ctx.Err(); err != nil {
					return err
				}
				group, usable = g, f.readInodeBitmap(g, bitmap)
			}
			if usable && int(index/8) < len(bitmap) && bitmap[index/8]>>(index%8)&1 != 0 {
				f.file(&tree{ino: uint32(ino)}, Inode)
			}
		}
	}
	return nil
}

// readInodeBitmap reads the inode bitmap of a group; false if the bitmap was never
// written, or cannot be read.
func (f *finder) readInodeBitmap(group uint32, bitmap []byte) bool {
	per, size := f.geo.DescsPerBlock(), f.geo.DescSize
	table := f.reading.DescBlock(group / per)
	if f.isLost(table*f.bs, f.bs) {
		return false
	}
	f.reading.ReadBlock(table, bitmap)
	desc := ext.GroupDesc(bitmap[group%per*size : (group%per+1)*size])
	block := desc.InodeBitmap()
	if desc.Flags()&ext.BgInodeUninit != 0 || !f.geo.ValidBlock(block) || f.isLost(block*f.bs, f.bs) {
		return false
	}
	f.reading.ReadBlock(block, bitmap)
	return true
}
