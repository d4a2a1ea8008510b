package survey

import (
	"cmp"
	"encoding/binary"
	"slices"

	"e2qcow/ext"
)

// bitmaps has bitmaps of a window of groups.
type bitmaps struct {
	buf   []byte
	slot  [window]int // where in buf; -1 for none
	order []int
}

// readBitmaps reads the bitmaps of the n groups of the window.
func (w *walk) readBitmaps(n int) {
	for kind := range w.bits {
		b := &w.bits[kind]
		if b.buf == nil {
			b.buf = make([]byte, uint64(min(window, w.groups))*w.bs)
		}
		at := func(i int) uint64 {
			if kind == 0 {
				return w.said[i].blockBitmap
			}
			return w.said[i].inodeBitmap
		}
		b.order = b.order[:0]
		for i := range n {
			b.slot[i] = -1
			if x := &w.said[i]; !x.lost && w.geo.ValidBlock(at(i)) && x.flags&uninit[kind] == 0 {
				b.order = append(b.order, i)
			}
		}
		slices.SortFunc(b.order, func(i, j int) int { return cmp.Or(cmp.Compare(at(i), at(j)), cmp.Compare(i, j)) })
		for k := 0; k < len(b.order); {
			n := k + 1
			for n < len(b.order) && at(b.order[n]) == at(b.order[n-1])+1 {
				n++
			}
			w.read(at(b.order[k]), b.buf[k*int(w.bs):n*int(w.bs)])
			for ; k < n; k++ {
				if !w.lost(at(b.order[k])*w.bs, w.bs) {
					b.slot[b.order[k]] = k
				}
			}
		}
	}
}

var uninit = [2]uint16{ext.BgBlockUninit, ext.BgInodeUninit}

// load fills a set with the bits of a bitmap, and returns its bytes; nil if the
// bitmap is not known.
func (b *bitmaps) load(i int, bs uint64, set bitset) []byte {
	if b.slot[i] < 0 {
		return nil
	}
	data := b.buf[uint64(b.slot[i])*bs:][:bs]
	for k := range set {
		if 8*k+8 <= len(data) {
			set[k] = binary.LittleEndian.Uint64(data[8*k:])
		} else {
			set[k] = 0
			for j, c := range data[min(8*k, len(data)):] {
				set[k] |= uint64(c) << (8 * j)
			}
		}
	}
	return data
}

// maxBits is how many runs of bits that differ are listed.
const maxBits = 64

// compare compares what is in use with what a bitmap says. number returns the
// first block or inode of a run of bits, and how many it has.
func (w *walk) compare(g uint32, n uint64, want, have bitset, kinds [2]string, number func(first, end uint64) (uint64, uint64)) {
	same := true
	for k := range have {
		m := ^uint64(0)
		if left := n - min(uint64(k)*64, n); left < 64 {
			m = 1<<left - 1
		}
		same = same && (want[k]^have[k])&m == 0
	}
	if same {
		return
	}
	diff := make(bitset, len(have))
	for way, kind := range kinds {
		if way == 1 && len(w.bad) > 0 {
			break // what cannot be read may be what has them
		}
		for k := range diff {
			if diff[k] = want[k] &^ have[k]; way == 1 {
				diff[k] = have[k] &^ want[k]
			}
		}
		for first, end := range diff.runs(n) {
			start, count := number(first, end)
			at := place{group: g, hasGroup: true, block: start}
			if kind == KindInodeFree || kind == KindInodeUsed {
				at = place{group: g, hasGroup: true, ino: uint32(start)}
			}
			w.found.add(kind, at, count, "")
			if at.ino != 0 {
				w.mark(kind, at, count, "")
			} else {
				w.d.Map.split(start, start+count, func(cell int, from, to uint64) {
					w.markCell(cell, kind, to-from, place{group: g, hasGroup: true, block: from}.String())
				})
			}
			if len(w.d.Damage.Bits) < maxBits {
				w.d.Damage.Bits = append(w.d.Damage.Bits, BitRun{Kind: kind, Group: g, Start: start, Count: count})
			}
		}
	}
}

// checkBitmap compares a bitmap with its checksum.
func (w *walk) checkBitmap(kind int, g uint32, bits []byte, want uint32) {
	if !w.sb.HasRoCompat(ext.RoCompatMetadataCsum) || w.stale() {
		return
	}
	sum := ext.CRC32C(w.sb.ChecksumSeed(), bits)
	if w.geo.DescSize < wideDesc {
		sum &= 0xffff
	}
	w.sums[kind].add(sum == want, place{group: g, hasGroup: true})
}

// wideDesc is the size of a descriptor with the high halves of its fields.
const wideDesc = 64
