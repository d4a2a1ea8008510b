package scrub

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// wide marks the try of a candidate that is drawn from all bytes but NUL and
// slash.
const wide = 1 << 31

// anyByte is what names of a few bytes are drawn from where letters and digits
// are too few.
var anyByte = func() string {
	var b []byte
	for c := range 256 {
		if c != 0 && c != '/' {
			b = append(b, byte(c))
		}
	}
	return string(b)
}()

// candidate writes the i-th word of its length that a directory may take.
func (d *directory) candidate(dr *drawer, word []byte, i uint32) {
	alphabet := alphabetOf(d.folds)
	if i&wide != 0 {
		alphabet = anyByte
	}
	dr.draw(word, alphabet, domainCandidate, uint64(d.ino)<<8|uint64(len(word)), i)
}

// hash returns the hash by which the directory is to sort a word.
func (d *directory) hash(buf *[]byte, name []byte) (uint32, bool) {
	return hashName(buf, d.version, d.unsigned, d.folds, d.freshSeed, name)
}

// Placed counts the names of indexed directories.
type Placed struct {
	Indexed   uint64 // directories
	Names     uint64 // that stand in the range of hashes that they stood in
	Misplaced uint64 // that do not: there was no word for them
}

func (p *Placed) add(o Placed) {
	p.Indexed += o.Indexed
	p.Names += o.Names
	p.Misplaced += o.Misplaced
}

// place finds a word for each name of the indexed directories. The only error
// is that of ctx.
func (x *Index) place(ctx context.Context, threads int) (Placed, error) {
	var list []*directory
	for _, d := range x.dirs {
		if d.unknown {
			d.names, d.odds = nil, nil
		}
		if d.indexed && len(d.names)+len(d.odds)+len(d.bounds) > 0 {
			list = append(list, d)
		}
	}
	// The largest first, so that no thread is left alone with it at the end.
	slices.SortFunc(list, func(a, b *directory) int {
		return cmp.Or(-cmp.Compare(len(a.names), len(b.names)), cmp.Compare(a.ino, b.ino))
	})
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	results := make([]Placed, len(list))
	var group errgroup.Group
	group.SetLimit(threads)
	for i, d := range list {
		group.Go(func() error {
			dr := x.keys.get()
			defer x.keys.put(dr)
			d.freshSeed = d.seed
			if x.opt.UUID {
				d.freshSeed = dr.hashSeed(d.seed)
			}
			var err error
			results[i], err = d.place(ctx, dr, x.words)
			return err
		})
	}
	err := group.Wait()
	var sum Placed
	for _, r := range results {
		sum.add(r)
	}
	return sum, err
}

// A directory whose names are evenly hashed needs some 25 draws for each border,
// once for each length, and one for each name. Where damage, or somebody, has
// put many names between two of many borders, that would be their product:
// names for which these draws do not do are misplaced.
const (
	fewDraws       = 1 << 20
	drawsPerName   = 512
	drawsPerBorder = 256
)

// place finds the words of one directory.
func (d *directory) place(ctx context.Context, dr *drawer, seen *words) (Placed, error) {
	d.drawBounds(dr)
	p := placer{
		ctx: ctx, dir: d, dr: dr, seen: seen, words: map[[maxShort]byte]struct{}{}, placed: Placed{Indexed: 1},
		draws: fewDraws + drawsPerName*int64(len(d.names)) + drawsPerBorder*int64(len(d.bounds)),
	}
	d.sortNames()
	// By length, then cell, then place in names: all in one number.
	const indexBits, cellBits = 28, 28
	order := make([]uint64, len(d.names))
	cells := make([]uint32, len(d.names))
	for i := range d.names {
		cells[i] = d.cell(&d.names[i])
		order[i] = uint64(d.names[i].length)<<(indexBits+cellBits) | uint64(cells[i])<<indexBits | uint64(i)
	}
	slices.Sort(order)
	for len(order) > 0 {
		n := 1
		for n < len(order) && order[n]>>(indexBits+cellBits) == order[0]>>(indexBits+cellBits) {
			n++
		}
		p.fill(order[:n], cells)
		order = order[n:]
	}
	p.placeOdds()
	if ctx.Err() != nil {
		return Placed{}, context.Cause(ctx)
	}
	return p.placed, nil
}

// maxNames is how many names of a directory are given a place: more than a
// directory of three levels of index has.
const maxNames = 1 << 28

// sortNames sorts the names by their keyed hashes, each of them once.
func (d *directory) sortNames() {
	slices.SortFunc(d.names, func(a, b placedName) int {
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		case a.lower == b.lower:
			return 0
		case b.lower:
			return -1
		}
		return 1
	})
	d.names = slices.CompactFunc(d.names, func(a, b placedName) bool { return a.id == b.id })
	d.names = slices.Clip(d.names[:min(len(d.names), maxNames)])
}

// drawBounds draws the hashes that the index is to have: as many, in the same
// order, evenly over all there are, give or take an eighth of their distance.
func (d *directory) drawBounds(dr *drawer) {
	d.bounds = append(d.bounds, 0)
	slices.Sort(d.bounds)
	// Of H and H|1 the latter stays: it is the same border, continued.
	kept := d.bounds[:0]
	for _, b := range d.bounds {
		if n := len(kept) - 1; n >= 0 && kept[n]&^1 == b&^1 {
			kept[n] = b
			continue
		}
		kept = append(kept, b)
	}
	d.bounds = slices.Clip(kept)
	d.fresh = make([]uint32, len(d.bounds))
	step := borderStep(len(d.bounds))
	for i := 1; i < len(d.fresh); i++ {
		at := uint64(i) * step >> stepShift
		if room := step >> stepShift / 4; room >= 4 {
			r, _ := dr.random(domainBoundary, uint64(d.ino), uint32(i), 0)
			at += r%room - room/2
		}
		d.fresh[i] = uint32(at) &^ 1
	}
}

// stepShift is how many bits of a step are behind its point.
const stepShift = 16

// borderStep returns the distance of n borders in 2³², with stepShift bits
// behind the point.
func borderStep(n int) uint64 { return 1 << (32 + stepShift) / uint64(n) }

// cell returns between which two borders the hash of a name lies: the number
// of the first. A name whose hash is a border that goes on from the block
// before lies before it, if it stands in that block.
func (d *directory) cell(n *placedName) uint32 {
	i, found := slices.BinarySearchFunc(d.bounds, n.hash, func(b, h uint32) int { return cmp.Compare(b&^1, h) })
	switch {
	case !found:
		i--
	case d.bounds[i]&1 != 0 && n.lower && i > 0:
		i--
	}
	return uint32(i)
}

// freshCell returns between which two drawn borders a hash lies.
func (d *directory) freshCell(hash uint32) int {
	i := int(uint64(hash) << stepShift / borderStep(len(d.fresh)))
	i = min(i, len(d.fresh)-1)
	for i > 0 && d.fresh[i] > hash {
		i--
	}
	for i+1 < len(d.fresh) && d.fresh[i+1] <= hash {
		i++
	}
	return i
}

// freshHash returns what is in the place of a hash of the index.
func (d *directory) freshHash(dr *drawer, old uint32) uint32 {
	i, found := slices.BinarySearchFunc(d.bounds, old&^1, func(b, h uint32) int { return cmp.Compare(b&^1, h) })
	if found {
		return d.fresh[i] | old&1
	}
	// A hash that no block shown to the index had: anything between its
	// neighbours.
	low, high := uint32(0), uint32(math.MaxUint32-1)
	if i > 0 {
		low = d.fresh[i-1]
	}
	if i < len(d.fresh) {
		high = d.fresh[i]
	}
	r, _ := dr.random(domainBoundary, uint64(d.ino)|1<<32, old, 0)
	if high-low > 4 {
		low += 2 + uint32(r%uint64(high-low-2))&^1
	}
	return low | old&1
}

// A placer finds words for the names of one directory.
type placer struct {
	ctx    context.Context
	dir    *directory
	dr     *drawer
	seen   *words
	words  map[[maxShort]byte]struct{} // taken, of the length at hand
	buf    []byte
	word   [maxName]byte
	draws  int64 // that are left
	placed Placed
}

// draw takes one of the draws that are left; false where there is none, or
// where nothing more is wanted.
func (p *placer) draw() bool {
	const often = 1 << 12
	if p.draws--; p.draws%often == 0 && p.ctx.Err() != nil {
		p.draws = 0
	}
	return p.draws > 0
}

// take tells whether a word is free, and takes it.
func (p *placer) take(word []byte) bool {
	if keptName(word) || numbered(word) || p.seen.has(word) {
		return false
	}
	if len(word) > maxShort {
		return true
	}
	var k [maxShort]byte
	copy(k[:], word)
	if _, taken := p.words[k]; taken {
		return false
	}
	p.words[k] = struct{}{}
	return true
}

// fill finds words for names of one length, in order of their cells.
func (p *placer) fill(order []uint64, cells []uint32) {
	clear(p.words)
	d := p.dir
	names := make([]uint32, len(order))
	for i, o := range order {
		names[i] = uint32(o & (maxNames - 1))
	}
	length := int(d.names[names[0]].length)
	starts := make([]uint32, len(d.fresh)+1) // of each cell in names, moved on as names get words
	ends := make([]uint32, len(d.fresh))
	for i, n := range names {
		ends[cells[n]] = uint32(i) + 1
	}
	for c := range ends {
		ends[c] = max(ends[c], starts[c])
		starts[c+1] = ends[c]
	}
	left := len(names)
	most := 0
	for c := range ends {
		most = max(most, int(ends[c]-starts[c]))
	}
	// The last cell is full after about cells × (names in it + ln cells) draws.
	limit := uint32(min(16*uint64(len(d.fresh))*(uint64(most)+32), maxPool))
	try := func(from, limit uint32) {
		for i := range limit {
			if left == 0 || !p.draw() {
				return
			}
			word := p.word[:length]
			d.candidate(p.dr, word, from|i)
			h, _ := d.hash(&p.buf, word)
			c := d.freshCell(h)
			if starts[c] == ends[c] || !p.take(word) {
				continue
			}
			d.names[names[starts[c]]].hash = from | i
			starts[c]++
			left--
		}
	}
	try(0, limit)
	if length <= maxWide && !d.folds {
		try(wide, limit)
	}
	p.placed.Names += uint64(len(names) - left)
	p.placed.Misplaced += uint64(left)
	p.misplace(names, starts, ends)
}

const (
	// maxPool is how many candidates of a length are hashed at most.
	maxPool = 1 << 28

	// maxWide is the length of the longest names that are drawn from any byte:
	// of longer ones there are enough letters and digits.
	maxWide = 4
)

// misplace gives the names that are left any word that is free.
func (p *placer) misplace(names, starts, ends []uint32) {
	i := uint32(maxPool)
	for c := range ends {
		for ; starts[c] < ends[c]; starts[c]++ {
			n := &p.dir.names[names[starts[c]]]
			for tries := 0; ; tries++ {
				if tries >= 1<<10 && n.length <= maxWide && !p.dir.folds {
					i |= wide
				}
				word := p.word[:n.length]
				most := 1 << 16
				if !p.draw() {
					most = 1 << 4
				}
				if p.dir.candidate(p.dr, word, i); p.take(word) || tries >= most {
					n.hash = i
					i++
					break
				}
				i++
			}
		}
	}
}

// maxOddTries is how many words are drawn for an invalid name.
const maxOddTries = 1 << 16

// placeOdds finds words for the invalid names: each has its own, as what makes
// it invalid is hashed too.
func (p *placer) placeOdds() {
	d := p.dir
	for _, o := range d.odds {
		want := int(d.cell(&o.placedName))
		name := slices.Clone(o.name)
		o.hash = 0
		for try := range uint32(maxOddTries) {
			if try == 0 && p.ctx.Err() != nil {
				break
			}
			copy(name, o.name)
			p.dr.word(name, alphabetOf(d.folds), o.id, try)
			if h, _ := d.hash(&p.buf, name); d.freshCell(h) == want && !p.seen.has(name) {
				o.hash = try
				p.placed.Names++
				want = -1
				break
			}
		}
		if want >= 0 {
			p.placed.Misplaced++
		}
		o.name = nil
		d.names = append(d.names, o.placedName)
	}
	if len(d.odds) > 0 {
		d.odds = nil
		slices.SortFunc(d.names, func(a, b placedName) int { return cmp.Compare(a.id, b.id) })
		d.names = slices.CompactFunc(d.names, func(a, b placedName) bool { return a.id == b.id })
	}
}

// lookup finds a name by its keyed hash.
func (d *directory) lookup(id uint64) *placedName {
	// The hashes are spread evenly: the search begins where this one should be.
	n := len(d.names)
	if n == 0 {
		return nil
	}
	at := int(id >> 32 * uint64(n) >> 32)
	low, high := at, at
	for width := 8; low > 0 && d.names[low].id > id; width *= 4 {
		low = max(low-width, 0)
	}
	for width := 8; high < n && d.names[high].id <= id; width *= 4 {
		high = min(high+width, n)
	}
	i, found := slices.BinarySearchFunc(d.names[low:high], id, func(p placedName, id uint64) int { return cmp.Compare(p.id, id) })
	if !found {
		return nil
	}
	return &d.names[low+i]
}

// spread gives names of other directories whose words are the same a later
// try.
func (x *Index) spread() {
	slices.SortFunc(x.shorts, func(a, b shortName) int {
		return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.length, b.length), slices.Compare(a.word[:], b.word[:]), cmp.Compare(a.id, b.id))
	})
	x.shorts = slices.CompactFunc(x.shorts, func(a, b shortName) bool { return a.ino == b.ino && a.id == b.id && a.length == b.length })
	same := func(a, b *shortName) bool { return a.ino == b.ino && a.length == b.length && a.word == b.word }
	dr := x.keys.get()
	defer x.keys.put(dr)
	for start := 0; start < len(x.shorts); {
		end := start + 1
		clash := false
		for end < len(x.shorts) && x.shorts[end].ino == x.shorts[start].ino && x.shorts[end].length == x.shorts[start].length {
			clash = clash || same(&x.shorts[end], &x.shorts[end-1])
			end++
		}
		if clash {
			x.spreadNames(dr, x.shorts[start:end])
		}
		start = end
	}
	x.shorts = nil
}

// spreadNames gives names of one length in one directory words of their own.
func (x *Index) spreadNames(dr *drawer, names []shortName) {
	d := x.dirs[names[0].ino]
	if d == nil {
		d = &directory{ino: names[0].ino}
		x.dirs[d.ino] = d
	}
	taken := make(map[[maxShort]byte]struct{}, len(names))
	for i := range names {
		taken[names[i].word] = struct{}{}
	}
	alphabet := alphabetOf(d.folds)
	room := 1 // how many words there are, as far as it is less than enough
	for range names[0].length {
		room = min(room*len(alphabet), 4*len(names))
	}
	for i := 1; i < len(names); i++ {
		n := &names[i]
		if n.word != names[i-1].word {
			continue
		}
		mark := uint32(0)
		if len(taken) > room/2 && !d.folds {
			mark, alphabet = wide, anyByte
		}
		for k := uint32(1); k < maxOddTries && (mark != 0 || len(taken) < room); k++ {
			var word [maxShort]byte
			dr.draw(word[:n.length], alphabet, domainName, n.id, k|mark)
			if _, ok := taken[word]; !ok && !keptName(word[:n.length]) {
				taken[word] = struct{}{}
				d.names = append(d.names, placedName{id: n.id, hash: k | mark, length: n.length})
				break
			}
		}
	}
	slices.SortFunc(d.names, func(a, b placedName) int { return cmp.Compare(a.id, b.id) })
}
