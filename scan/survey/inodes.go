package survey

import (
	"e2qcow/ext"
)

// groupInodes looks at the inode bitmap of a group.
func (w *walk) groupInodes(g uint32, i int) {
	x := &w.said[i]
	per := w.geo.InodesPerGroup
	data := w.bits[1].load(i, w.bs, w.inodes)
	switch {
	case data != nil:
		w.checkBitmap(sumInodeBitmap, g, data[:min(uint64(per/8), w.bs)], x.inodeSum)
	case x.flags&ext.BgInodeUninit != 0:
		clear(w.inodes)
	default:
		w.unknown = true
		w.inodeUse(g, 0)
		return
	}
	used := w.inodes.count(0, uint64(per))
	w.inodeUse(g, used)
	w.freeInodes += uint64(per) - used
	if uint64(per)-used != uint64(x.freeInodes) && !w.stale() {
		w.found.add(KindCounts, place{group: g, hasGroup: true}, 1, "the count of free inodes is not that of the bitmap")
		w.mark(KindCounts, place{group: g, hasGroup: true}, 1, "count of free inodes")
	}
	if !w.v.seen.known(g) {
		return
	}
	first := uint64(g)*uint64(per) + 1
	reserved := min(uint64(per), uint64(w.geo.FirstInode)-min(first, uint64(w.geo.FirstInode)))
	want := w.v.seen.group(g)
	switch {
	case want == nil && used == 0 && reserved == 0:
		return
	case reserved > 0: // they are in use whatever they hold
		want = append(bitset{}, w.none...)
		copy(want, w.v.seen.group(g))
		want.fill(0, reserved)
	case want == nil:
		want = w.none
	}
	w.compare(g, uint64(per), want, w.inodes, [2]string{KindInodeFree, KindInodeUsed}, func(a, b uint64) (uint64, uint64) {
		return first + a, b - a
	})
}

// maxInodeUse is how many runs of groups have their inodes counted.
const maxInodeUse = 128

func (w *walk) inodeUse(g uint32, used uint64) {
	list := &w.d.Shape.Inodes
	if g%w.perUse == 0 {
		*list = append(*list, InodeUse{Group: g})
	}
	last := &(*list)[len(*list)-1]
	last.Used += used
	last.Total += uint64(w.geo.InodesPerGroup)
}
