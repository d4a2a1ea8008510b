package survey

import (
	"cmp"
	"context"
	"slices"
	"sort"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
)

// window is how many groups have their bitmaps read together.
const window = 256

// walkGroups goes through all groups in their order.
func (s *survey) walkGroups(ctx context.Context) error {
	s.d.Map = newMap(s.geo)
	s.groups = s.countGroups()
	s.tables = make([]uint64, s.groups)
	w, err := s.newWalk(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	s.claimOrphans()
	if s.sb.HasIncompat(ext.IncompatMmp) {
		s.v.claim(s.sb.MmpBlock(), 1)
	}
	for first := uint32(0); first < s.groups; {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := min(first+window, s.groups)
		s.readDescs(first, end, func(g uint32, d ext.GroupDesc, lost bool) { w.said[g-first] = s.decode(g, d, lost) })
		w.readBitmaps(int(end - first))
		for g := first; g < end; g++ {
			w.group(g, int(g-first))
		}
		first = end
	}
	w.finish()
	return nil
}

// A walk goes through the groups.
type walk struct {
	*survey
	said   [window]group // what the descriptors of the window say
	layers []layer       // in the order in which they are counted

	// assumed are the bitmaps and tables of groups whose block bitmap was never
	// written. Wherever they lie, e2fsprogs takes them to be in use.
	assumed blocks

	bits   [2]bitmaps
	mask   bitset // of the group: clusters that a layer has
	used   bitset // of the group: clusters that are marked as in use
	want   bitset // of the group: clusters that are in use
	inodes bitset
	none   bitset // inodes of a group in which none is in use
	pieces []piece

	runStart, runLen uint64 // of the free blocks that end where the group begins

	freeClusters, freeInodes uint64
	unknown                  bool   // a bitmap is
	perUse                   uint32 // groups whose inodes are counted together
	head                     head
}

func (s *survey) newWalk(ctx context.Context) (*walk, error) {
	bitmaps, tables, assumed, err := s.fixed(ctx)
	if err != nil {
		return nil, err
	}
	clusters, inodes := (s.geo.ClustersPerGroup()+63)/64, (s.geo.InodesPerGroup+63)/64
	return &walk{
		survey:  s,
		mask:    make(bitset, clusters),
		used:    make(bitset, clusters),
		want:    make(bitset, clusters),
		inodes:  make(bitset, inodes),
		none:    make(bitset, inodes),
		perUse:  s.groups/maxInodeUse + 1,
		head:    newHead(s.geo),
		assumed: assumed,
		layers: []layer{
			newLayer(s.heads(), true),
			newLayer(each(bitmaps, Bitmaps), true),
			newLayer(each(tables, Tables), true),
			newLayer(s.mapped(), false),
		},
	}, nil
}

// group looks at group g, which is number i of the window.
func (w *walk) group(g uint32, i int) {
	x := &w.said[i]
	start := w.geo.GroupFirstBlock(g)
	end := min(start+uint64(w.geo.BlocksPerGroup), w.geo.BlocksCount)
	n := (end - start + w.ratio - 1) / w.ratio // clusters
	w.cut(start, end)
	if free, ok := w.untouched(g, x, start, end); ok {
		w.countFree(g, free, x.freeClusters)
		w.groupInodes(g, i)
		return
	}
	clear(w.mask)
	clear(w.want)
	for _, p := range w.pieces {
		w.paint(p, start)
	}
	data := w.bits[0].load(i, w.bs, w.used)
	class := Free
	switch {
	case data != nil:
		w.checkBitmap(sumBlockBitmap, g, data[:min(uint64(w.geo.ClustersPerGroup()/8), w.bs)], x.blockSum)
	case x.flags&ext.BgBlockUninit != 0:
		copy(w.used, w.want)
		class = Uninit
	default:
		w.unknown = true
		w.rest(start, n, nil, Unknown, Unknown)
		w.endRun()
		w.groupInodes(g, i)
		return
	}
	for k := ranges.Find(w.assumed, start); k < len(w.assumed) && w.assumed[k].Start < end; k++ {
		w.used.fill((max(w.assumed[k].Start, start)-start)/w.ratio, (min(w.assumed[k].End, end)-start+w.ratio-1)/w.ratio)
	}
	w.rest(start, n, w.used, Contents, class)
	free := n - w.used.count(0, n)
	w.countFree(g, free, x.freeClusters)
	w.freeRuns(start, end, n)
	if w.v.claims.known(g) {
		for k, word := range w.v.claims.group(g) {
			w.want[k] |= word
		}
		w.compare(g, n, w.want, w.used, [2]string{KindMarkedFree, KindMarkedUsed}, func(first, end uint64) (uint64, uint64) {
			from, to := start+first*w.ratio, min(start+end*w.ratio, w.geo.BlocksCount)
			return from, to - from
		})
	} else {
		w.d.Damage.Unchecked++
	}
	w.groupInodes(g, i)
}

// stale reports whether the descriptors are a copy: the kernel keeps neither the
// counts nor the checksums of bitmaps in copies up to date.
func (s *survey) stale() bool { return s.res.SuperGroup() != 0 }

// untouched counts the blocks [start, end) of group g if its bitmap was never
// written and no file has blocks in it: it looks at the ends of pieces, and not
// at bits. It returns how many blocks are free; false, and has counted nothing,
// where ends of pieces do not tell.
func (w *walk) untouched(g uint32, x *group, start, end uint64) (free uint64, ok bool) {
	if x.flags&ext.BgBlockUninit == 0 || g == 0 || w.ratio != 1 || !w.v.claims.known(g) || w.v.claims.group(g) != nil {
		return 0, false
	}
	fixed := 0
	for fixed < len(w.pieces) && w.pieces[fixed].fixed {
		fixed++
	}
	list, others := w.pieces[:fixed:fixed], w.pieces[fixed:]
	slices.SortFunc(list, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	for k := 1; k < len(list); k++ {
		if list[k].start < list[k-1].end {
			return 0, false
		}
	}
	for _, o := range others {
		k := sort.Search(len(list), func(k int) bool { return list[k].end >= o.end })
		if k == len(list) || list[k].start > o.start {
			return 0, false
		}
	}
	at := start
	for _, p := range append(list, piece{run{end, end, Uninit}, true}) {
		w.d.Map.addRange(at, p.start, Uninit)
		w.d.Map.addRange(p.start, p.end, p.class)
		if at < p.start {
			w.addRun(at, p.start)
			free += p.start - at
		}
		if p.start < p.end {
			w.endRun()
		}
		at = p.end
	}
	return free, true
}

// paint counts the blocks of a piece, as far as no piece before has them. The
// group begins at block start.
func (w *walk) paint(p piece, start uint64) {
	if p.fixed {
		w.want.fill((p.start-start)/w.ratio, (p.end-start+w.ratio-1)/w.ratio)
	}
	w.d.Map.split(p.start, p.end, func(cell int, from, to uint64) {
		added := w.mask.fill((from-start)/w.ratio, (to-start+w.ratio-1)/w.ratio) * w.ratio
		w.d.Map.add(cell, p.class, added)
	})
	w.head.paint(p.start, p.end, p.class)
}

// rest counts the clusters of a group that no layer has: those in used as one
// class, and others as another.
func (w *walk) rest(start, n uint64, used bitset, as, others Class) {
	end := min(start+n*w.ratio, w.geo.BlocksCount)
	w.d.Map.split(start, end, func(cell int, from, to uint64) {
		first, last := (from-start)/w.ratio, (to-start+w.ratio-1)/w.ratio
		var in, out uint64
		for at := first; at < last; at = (at/64 + 1) * 64 {
			m := mask(at, last) &^ w.mask[at/64]
			word := uint64(0)
			if used != nil {
				word = used[at/64]
			}
			in += ones(m & word)
			out += ones(m &^ word)
		}
		w.d.Map.add(cell, as, in*w.ratio)
		w.d.Map.add(cell, others, out*w.ratio)
	})
	w.head.rest(start, end, func(block uint64) Class {
		if bit := (block - start) / w.ratio; used != nil && used[bit/64]>>(bit%64)&1 != 0 {
			return as
		}
		return others
	})
}

// finish ends the walk.
func (w *walk) finish() {
	w.endRun()
	if m := &w.v.multiple; m.count > 0 && w.v.claims.whole() {
		w.found.add(KindMultiple, place{block: m.first}, m.count, "")
		w.mark(KindMultiple, place{block: m.first}, m.count, "")
	}
	if end := uint64(w.groups) * uint64(w.geo.BlocksPerGroup); end < w.geo.BlocksCount-uint64(w.geo.FirstDataBlock) {
		w.d.Map.addRange(uint64(w.geo.FirstDataBlock)+end, w.geo.BlocksCount, Unknown)
		w.d.Damage.Unchecked += w.geo.GroupCount - w.groups
	}
	w.d.Map.total(w.geo.BlocksCount)
	w.d.Head = w.head.strip()
	st := w.sb.Status()
	if w.unknown || w.stale() || w.groups < w.geo.GroupCount || st.State&ext.StateValid == 0 || w.now.Super.NeedsRecovery() {
		return // the kernel brings the counts of the superblock up to date when it unmounts
	}
	if w.freeClusters*w.ratio != st.FreeBlocks || w.freeInodes != uint64(st.FreeInodes) {
		w.found.add(KindSuperCounts, place{}, 1, "the counts of free blocks or inodes are not those of the bitmaps")
	}
}
