package survey

import (
	"cmp"
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sort"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
	"e2qcow/scan"
)

// window is how many groups have their bitmaps read together.
const window = 256

// survey goes through all groups in their order.
func (s *survey) survey(ctx context.Context) error {
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
		s.readDescs(first, end, func(g uint32, d ext.GroupDesc, lost bool) { w.said[g-first] = s.group(g, d, lost) })
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

// A layer yields the runs of blocks of one class, ascending.
type layer struct {
	next  func() (run, bool)
	run   run // the one that is not yet behind the groups
	ok    bool
	stop  func()
	fixed bool // it is where descriptors say, not where files lie
}

type run struct {
	start, end uint64
	class      Class
}

// A piece is what a layer has in a group.
type piece struct {
	run
	fixed bool
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

func newLayer(runs iter.Seq[run], fixed bool) layer {
	next, stop := iter.Pull(runs)
	l := layer{fixed: fixed, stop: stop, next: next}
	l.run, l.ok = next()
	return l
}

func (w *walk) stop() {
	for i := range w.layers {
		w.layers[i].stop()
	}
}

func each(list blocks, class Class) iter.Seq[run] {
	return func(yield func(run) bool) {
		for _, r := range list {
			if !yield(run{r.Start, r.End, class}) {
				return
			}
		}
	}
}

// heads yields what groups begin with.
func (s *survey) heads() iter.Seq[run] {
	return func(yield func(run) bool) {
		for g := range s.groups {
			start := s.geo.GroupFirstBlock(g)
			if n := min(s.geo.GroupHead(g), s.geo.BlocksCount-start); n > 0 && !yield(run{start, start + n, Super}) {
				return
			}
		}
	}
}

// classOf returns the class of blocks that the scan found to be structure.
func classOf(k scan.Kind) (Class, bool) {
	switch k {
	case scan.Superblock, scan.GroupDescs:
		return Super, true
	case scan.BlockBitmap, scan.InodeBitmap:
		return Bitmaps, true
	case scan.InodeTable:
		return Tables, true
	case scan.Journal:
		return JournalLog, true
	case scan.Claimed, scan.FileData:
		return 0, false
	}
	return Trees, true
}

// mapped yields what the scan found.
func (s *survey) mapped() iter.Seq[run] {
	ratio := s.bs / uint64(s.res.BlockSize())
	return func(yield func(run) bool) {
		for r := range s.res.Map.Runs() {
			class, ok := classOf(r.Kind)
			if ok && !yield(run{r.Start / ratio, (r.Start + r.Count + ratio - 1) / ratio, class}) {
				return
			}
		}
	}
}

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

// stale reports whether the descriptors are a copy: the kernel keeps neither the
// counts nor the checksums of bitmaps in copies up to date.
func (s *survey) stale() bool { return s.res.SuperGroup() != 0 }

// wideDesc is the size of a descriptor with the high halves of its fields.
const wideDesc = 64

// cut takes in what the layers have in the blocks [start, end).
func (w *walk) cut(start, end uint64) {
	w.pieces = w.pieces[:0]
	for k := range w.layers {
		l := &w.layers[k]
		for l.ok && l.run.start < end {
			if from, to := max(l.run.start, start), min(l.run.end, end); from < to {
				w.pieces = append(w.pieces, piece{run{from, to, l.run.class}, l.fixed})
			}
			if l.run.end > end {
				break
			}
			l.run, l.ok = l.next()
		}
	}
}

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

// countFree counts the free clusters of a group, of which its descriptor says how
// many there are.
func (w *walk) countFree(g uint32, free uint64, said uint32) {
	w.freeClusters += free
	if free != uint64(said) && !w.stale() {
		w.found.add(KindCounts, place{group: g, hasGroup: true}, 1, "the count of free clusters is not that of the bitmap")
		w.mark(KindCounts, place{group: g, hasGroup: true}, 1, "count of free blocks")
	}
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

// freeRuns counts the runs of free blocks; one that goes over the border of
// groups counts once.
func (w *walk) freeRuns(start, end, n uint64) {
	at := uint64(0)
	for first, last := range w.used.runs(n) {
		w.addRun(start+at*w.ratio, start+first*w.ratio)
		w.endRun()
		at = last
	}
	if from := start + at*w.ratio; from < end {
		w.addRun(from, end)
	}
}

// addRun adds free blocks to the run before them.
func (w *walk) addRun(from, to uint64) {
	if w.runLen == 0 {
		w.runStart = from
	}
	w.runLen += to - from
}

func (w *walk) endRun() {
	if w.runLen > 0 {
		w.free.add(w.runLen, Largest{Block: w.runStart})
	}
	w.runLen = 0
}

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
	if !w.v.seen.known(g) || g == 0 && w.geo.FirstInode > per {
		return
	}
	want := w.v.seen.group(g)
	switch {
	case want == nil && used == 0 && g > 0:
		return
	case g == 0:
		want = append(bitset{}, w.none...)
		copy(want, w.v.seen.group(g))
		want.fill(0, uint64(w.geo.FirstInode-1))
	case want == nil:
		want = w.none
	}
	first := uint64(g)*uint64(per) + 1
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

// finish ends the walk.
func (w *walk) finish() {
	w.endRun()
	if end := uint64(w.groups) * uint64(w.geo.BlocksPerGroup); end < w.geo.BlocksCount-uint64(w.geo.FirstDataBlock) {
		w.d.Map.addRange(uint64(w.geo.FirstDataBlock)+end, w.geo.BlocksCount, Unknown)
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
