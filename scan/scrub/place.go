package scrub

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// hash returns the hash by which the directory is to sort a word.
func (d *directory) hash(buf *[]byte, name []byte) (uint32, bool) {
	return hashName(buf, d.freshVersion(), d.unsigned, d.folds, d.freshSeed, name)
}

// Placed counts the names of indexed directories.
type Placed struct {
	Indexed   uint64 // directories
	Names     uint64 // that stand in the leaf of the index that they stood in
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
		if d.indexed && !d.unknown && len(d.names)+len(d.odds)+len(d.bounds) > 0 {
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
	count := newCounter(x.Progress, list)
	results := make([]Placed, len(list))
	var group errgroup.Group
	group.SetLimit(threads)
	for i, d := range list {
		group.Go(func() error {
			dr := x.keys.get()
			defer x.keys.put(dr)
			var err error
			results[i], err = x.placeOne(ctx, dr, d, count)
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

// countedAtOnce is how many names get words before a counter is told.
const countedAtOnce = 1 << 12

// A counter counts the names of all directories that have got words. A nil
// counter counts nothing.
type counter struct {
	mu          sync.Mutex
	told        func(done, total int64)
	done, total int64
}

func newCounter(told func(done, total int64), list []*directory) *counter {
	if told == nil {
		return nil
	}
	c := &counter{told: told}
	for _, d := range list {
		c.total += int64(len(d.names) + len(d.odds))
	}
	return c
}

func (c *counter) add(n uint64) {
	if c == nil || n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A name that stands in several blocks is gathered once for each.
	c.done = min(c.done+int64(n), c.total)
	c.told(c.done, c.total)
}

// placeOne finds a word for each name of an indexed directory.
func (x *Index) placeOne(ctx context.Context, dr *drawer, d *directory, count *counter) (Placed, error) {
	for i := range d.names {
		d.names[i].number = d.names[i].number && d.ino == x.lost
	}
	d.freshSeed = x.hashSeed(dr, d.seed)
	return d.place(ctx, dr, x.words, count)
}

// Draws that are not more than these for a directory of names that are evenly
// hashed: a draw for each name and each length of it, times what it takes to
// fill the last frame. Where damage, or somebody, has put many names between two
// of many borders, that would be their product: names for which these draws do
// not do are misplaced.
const (
	fewDraws       = 1 << 20
	drawsPerName   = 512
	drawsPerBorder = 256
)

// A kind is a length of names and whether they are numbered.
type kind uint16

const numberedKind kind = 1 << 8

func (n *placedName) kind() kind {
	if n.number {
		return numberedKind | kind(n.length)
	}
	return kind(n.length)
}

// A placer finds words for the names of one directory.
type placer struct {
	ctx    context.Context
	dir    *directory
	dr     *drawer
	seen   *words
	frames []uint64 // where each begins, and where the last one ends
	hints  []uint32 // the frame that a hash is in, by its first bits
	shift  uint
	low    []uint32 // the least hash of a word in each frame,
	high   []uint32 // and the greatest
	buf    []byte
	word   [maxName]byte
	draws  int64 // that are left
	placed Placed

	count   *counter
	counted uint64 // of placed.Names, those that count was told of
}

// A section is the names of one kind, in order of their cells.
type section struct {
	kind   kind
	names  []uint32 // their places in directory.names
	cells  []uint32
	pool   pool
	scarce *scarce // nil where words are plenty
	larger bool
}

// place finds the words of one directory.
func (d *directory) place(ctx context.Context, dr *drawer, seen *words, count *counter) (Placed, error) {
	d.sortBounds()
	d.sortNames()
	d.placed = true
	d.sortLeaves()
	p := placer{
		ctx: ctx, dir: d, dr: dr, seen: seen, count: count, placed: Placed{Indexed: 1},
		draws: fewDraws + drawsPerName*int64(len(d.names)) + drawsPerBorder*int64(len(d.bounds)),
		low:   make([]uint32, len(d.bounds)), high: make([]uint32, len(d.bounds)),
	}
	for i := range p.low {
		p.low[i] = math.MaxUint32
	}
	sections := p.sections()
	p.frame(sections)
	p.keepFixed()
	for i := range sections {
		p.fill(&sections[i])
	}
	p.placeOdds()
	d.tiny = nil
	p.tell()
	if ctx.Err() != nil {
		return Placed{}, context.Cause(ctx)
	}
	p.drawBorders()
	d.expected = d.expected || p.placed.Misplaced > 0 || d.unclear
	return p.placed, nil
}

// sections returns the names by kind, then cell.
func (p *placer) sections() []section {
	d := p.dir
	// All in one number: 9 bits of the kind, 27 of the cell, 28 of the place.
	const indexBits, cellBits = 28, 27
	order := make([]uint64, len(d.names))
	for i := range d.names {
		n := &d.names[i]
		order[i] = uint64(n.kind())<<(indexBits+cellBits) | uint64(d.cell(n))<<indexBits | uint64(i)
	}
	slices.Sort(order)
	var sections []section
	names, cells := make([]uint32, len(order)), make([]uint32, len(order))
	for i, o := range order {
		names[i], cells[i] = uint32(o&(maxNames-1)), uint32(o>>indexBits&(1<<cellBits-1))
	}
	for start := 0; start < len(order); {
		end := start + 1
		for end < len(order) && order[end]>>(indexBits+cellBits) == order[start]>>(indexBits+cellBits) {
			end++
		}
		sections = append(sections, section{kind: d.names[names[start]].kind(), names: names[start:end], cells: cells[start:end]})
		start = end
	}
	return sections
}

// frame finds the frames. It tries letters and digits first, with a word to
// spare where a name could get itself; then all bytes, then fewer spares and
// narrower frames. What cannot be had then is left to be misplaced, the kind
// with the most names first.
func (p *placer) frame(sections []section) {
	d := p.dir
	f := framer{weights: make([]uint32, len(d.bounds))}
	for i := range f.weights {
		f.weights[i] = 1
	}
	for i := range sections {
		for _, c := range sections[i].cells {
			f.weights[c]++
		}
	}
	for _, o := range d.odds {
		f.weights[d.cell(&o.placedName)]++
	}
	for _, n := range d.fixed {
		if h, ok := d.hash(&p.buf, n.name); ok {
			f.fixed = append(f.fixed, fixed{d.cell(&n.placedName), h})
		}
	}
	slices.SortFunc(f.fixed, func(a, b fixed) int { return cmp.Or(cmp.Compare(a.frame, b.frame), cmp.Compare(a.hash, b.hash)) })
	f.aim()
	total := uint64(0)
	for _, w := range f.weights {
		total += uint64(w)
	}
	for i := range sections {
		p.enumerate(&sections[i], &f, total, false)
	}
	for _, try := range [...]struct {
		larger, spare bool
		squeeze       uint64
	}{{false, true, 4}, {true, true, 4}, {true, false, 4}, {true, false, 64}, {true, false, allHashes}} {
		f.squeeze, f.scarce = try.squeeze, f.scarce[:0]
		for i := range sections {
			s := &sections[i]
			if try.larger && !s.larger && s.scarce != nil {
				p.enumerate(s, &f, total, true)
			}
			if s.scarce != nil {
				s.want(len(f.weights), try.spare)
				f.scarce = append(f.scarce, s.scarce)
			}
		}
		if p.settle(&f) {
			return
		}
	}
	f.fixed = nil
	slices.SortFunc(f.scarce, func(a, b *scarce) int { return cmp.Compare(len(a.words), len(b.words)) })
	for !p.settle(&f) {
		f.scarce = f.scarce[:len(f.scarce)-1]
	}
}

// settle takes the frames of f, if there are any.
func (p *placer) settle(f *framer) bool {
	frames, ok := f.frames()
	if !ok {
		return false
	}
	p.frames = frames
	log := uint(1)
	for 1<<log < len(f.weights) {
		log++
	}
	p.shift = 32 - log
	p.hints = make([]uint32, 1<<log)
	at := uint32(0)
	for i := range p.hints {
		for frames[at+1] <= uint64(i)<<p.shift {
			at++
		}
		p.hints[i] = at
	}
	return true
}

// frameOf returns the frame that a hash is in.
func (p *placer) frameOf(hash uint32) uint32 {
	i := p.hints[hash>>p.shift]
	for p.frames[i+1] <= uint64(hash) {
		i++
	}
	return i
}

// want notes how many words each frame wants.
func (s *section) want(frames int, spare bool) {
	s.scarce.wants = make([]uint32, frames)
	for _, c := range s.cells {
		s.scarce.wants[c]++
	}
	for i, n := range s.scarce.wants {
		if n == 1 && spare {
			s.scarce.wants[i]++
		}
	}
}

// enumerate hashes all the words of a kind, or many of them, where there are
// few for so many frames.
func (p *placer) enumerate(s *section, f *framer, total uint64, larger bool) {
	s.pool = p.dir.newPool(p.dr, int(s.kind&^numberedKind), s.kind&numberedKind != 0, larger)
	s.larger = larger
	if !larger && uint64(len(s.names)) > s.pool.size/2 {
		p.enumerate(s, f, total, true)
		return
	}
	most, n := uint64(0), uint64(0)
	for i, c := range s.cells {
		if i > 0 && s.cells[i-1] != c {
			n = 0
		}
		n++
		w := uint64(f.weights[c])
		draws := (n + 4*uint64(math.Sqrt(float64(n))) + 8) * total / w
		most = max(most, draws)
	}
	if s.scarce == nil && 8*most < s.pool.size {
		return
	}
	const many = 1 << 18
	count := min(s.pool.size, max(many, 4*uint64(len(s.names))), uint64(max(p.draws, 0)))
	words := make([]uint64, 0, count)
	word := p.word[:s.pool.length]
	for i := range uint32(count) {
		s.pool.word(p.dr, word, i)
		if p.free(s, word) {
			h, _ := p.dir.hash(&p.buf, word)
			words = append(words, uint64(h)<<32|uint64(i))
		}
	}
	p.draws -= int64(count)
	slices.Sort(words)
	s.scarce = &scarce{words: words}
}

// free tells whether a word may be given to a name.
func (p *placer) free(s *section, word []byte) bool {
	return !keptName(word) && (numbered(word) == (s.kind&numberedKind != 0)) && !p.seen.has(word)
}

// draw takes one of the draws that are left; false where there is none.
func (p *placer) draw() bool {
	const often = 1 << 12
	if p.draws--; p.draws%often == 0 && p.ctx.Err() != nil {
		p.draws = 0
	}
	return p.draws > 0
}

// give gives a word to a name.
func (p *placer) give(s *section, name, number, hash, frame uint32) {
	if s.larger {
		number |= wide
	}
	p.dir.names[name].hash = number
	p.low[frame], p.high[frame] = min(p.low[frame], hash), max(p.high[frame], hash)
	if p.placed.Names++; p.placed.Names-p.counted >= countedAtOnce {
		p.tell()
	}
}

// tell tells the counter of the names that have got words since it was told.
func (p *placer) tell() {
	p.count.add(p.placed.Names - p.counted)
	p.counted = p.placed.Names
}

// fill finds words for the names of one kind.
func (p *placer) fill(s *section) {
	if s.scarce != nil {
		p.deal(s)
	} else {
		p.drawInto(s)
	}
}

// deal gives out words that were hashed before, frame by frame.
func (p *placer) deal(s *section) {
	used := map[uint32]bool{}
	var chosen []uint64
	var left []uint32
	for start := 0; start < len(s.names); {
		cell := s.cells[start]
		end := start
		for end < len(s.names) && s.cells[end] == cell {
			end++
		}
		from, _ := slices.BinarySearch(s.scarce.words, p.frames[cell]<<32)
		to := len(s.scarce.words)
		if p.frames[cell+1] < allHashes {
			to, _ = slices.BinarySearch(s.scarce.words, p.frames[cell+1]<<32)
		}
		chosen = chosen[:0]
		for _, w := range s.scarce.words[from:to] {
			chosen = append(chosen, w<<32|w>>32) // by number: no place in the frame is preferred
		}
		slices.Sort(chosen)
		names := s.names[start:end]
		n := min(len(names), len(chosen))
		p.derange(s, names[:n], chosen)
		for i, name := range names[:n] {
			p.give(s, name, uint32(chosen[i]>>32), uint32(chosen[i]), cell)
			used[uint32(chosen[i]>>32)] = true
		}
		left = append(left, names[n:]...)
		start = end
	}
	next := uint32(0)
	p.misplace(s, left, func() (uint32, bool) {
		for ; uint64(next) < s.pool.size; next++ {
			if used[next] {
				continue
			}
			s.pool.word(p.dr, p.word[:s.pool.length], next)
			if p.free(s, p.word[:s.pool.length]) {
				next++
				return next - 1, true
			}
		}
		return 0, false
	})
}

// derange orders words so that none is given to the name that it is.
func (p *placer) derange(s *section, names []uint32, words []uint64) {
	for i, name := range names {
		if !p.itself(s, name, uint32(words[i]>>32)) || len(words) == 1 {
			continue
		}
		j := (i + 1) % len(words)
		words[i], words[j] = words[j], words[i]
	}
}

// itself tells whether a word is the name that it would be given to.
func (p *placer) itself(s *section, name, number uint32) bool {
	t, ok := p.tiny(p.dir.names[name].id)
	if !ok || s.pool.length > maxTiny {
		return false
	}
	word := p.word[:s.pool.length]
	s.pool.word(p.dr, word, number)
	return string(word) == string(t.name[:s.pool.length])
}

// tiny returns the name of a few bytes that has a keyed hash.
func (p *placer) tiny(id uint64) (*tinyName, bool) {
	i, ok := slices.BinarySearchFunc(p.dir.tiny, id, func(t tinyName, id uint64) int { return cmp.Compare(t.id, id) })
	if !ok {
		return nil, false
	}
	return &p.dir.tiny[i], true
}

// isName tells whether a word is that of the source which some name of the
// directory has: then it is not drawn. Of longer words the words seen tell.
func (p *placer) isName(word []byte) bool {
	if len(word) > maxTiny {
		return false
	}
	t, ok := p.tiny(p.dr.nameID(word))
	return ok && string(word) == string(t.name[:len(word)])
}

// drawInto draws words till each frame has as many as names wait in it.
func (p *placer) drawInto(s *section) {
	starts := make([]uint32, len(p.low)+1) // of each cell in names, moved on as names get words
	ends := make([]uint32, len(p.low))
	for i, c := range s.cells {
		ends[c] = uint32(i) + 1
	}
	for c := range ends {
		ends[c] = max(ends[c], starts[c])
		starts[c+1] = ends[c]
	}
	left := len(s.names)
	word := p.word[:s.pool.length]
	limit := uint32(min(s.pool.size, maxPool))
	i := uint32(0)
	for ; i < limit && left > 0 && p.draw(); i++ {
		s.pool.word(p.dr, word, i)
		h, _ := p.dir.hash(&p.buf, word)
		c := p.frameOf(h)
		if starts[c] == ends[c] || !p.free(s, word) {
			continue
		}
		if p.isName(word) {
			continue
		}
		p.give(s, s.names[starts[c]], i, h, c)
		starts[c]++
		left--
	}
	var rest []uint32
	for c := range ends {
		rest = append(rest, s.names[starts[c]:ends[c]]...)
	}
	p.misplace(s, rest, func() (uint32, bool) {
		for ; uint64(i) < s.pool.size && i < wide; i++ {
			if s.pool.word(p.dr, word, i); p.free(s, word) {
				i++
				return i - 1, true
			}
		}
		return 0, false
	})
}

// maxPool is how many words of a length are drawn at most.
const maxPool = 1 << 28

// misplace gives names that are left any words that are, none to the name that
// it is.
func (p *placer) misplace(s *section, names []uint32, next func() (uint32, bool)) {
	var held []uint32 // words that were the name whose turn it was
	for _, name := range names {
		var number uint32
		var ok bool
		if len(held) > 0 && !p.itself(s, name, held[0]) {
			number, ok, held = held[0], true, held[1:]
		} else if number, ok = next(); ok && p.itself(s, name, number) {
			held = append(held, number)
			number, ok = next()
		}
		if !ok {
			// There are fewer words than names.
			number = uint32(uint64(name) % s.pool.size)
			if p.itself(s, name, number) {
				number = uint32((uint64(number) + 1) % s.pool.size)
			}
		}
		if s.larger {
			number |= wide
		}
		p.dir.names[name].hash = number
		p.placed.Misplaced++
	}
}

// keepFixed has the borders go round the names that stay.
func (p *placer) keepFixed() {
	for _, n := range p.dir.fixed {
		h, ok := p.dir.hash(&p.buf, n.name)
		if !ok {
			continue
		}
		c := p.frameOf(h)
		if c != p.dir.cell(&n.placedName) {
			p.placed.Misplaced++
			continue
		}
		p.low[c], p.high[c] = min(p.low[c], h), max(p.high[c], h)
	}
}

// How many words are drawn for an invalid name, and for all of a directory.
const (
	maxOddTries = 1 << 16
	fewOddTries = 1 << 16
	triesPerOdd = 64
)

// placeOdds finds words for the invalid names: each has its own, as what makes
// it invalid is hashed too.
func (p *placer) placeOdds() {
	d := p.dir
	slices.SortFunc(d.odds, func(a, b oddName) int {
		return cmp.Or(cmp.Compare(a.id, b.id), bytes.Compare(a.name, b.name))
	})
	d.odds = slices.CompactFunc(d.odds, func(a, b oddName) bool { return a.id == b.id && bytes.Equal(a.name, b.name) })
	left := fewOddTries + triesPerOdd*len(d.odds)
	for _, o := range d.odds {
		want := d.cell(&o.placedName)
		name := slices.Clone(o.name)
		o.hash = 0
		found := false
		for try := range uint32(min(maxOddTries, left)) {
			if try == 0 && p.ctx.Err() != nil {
				break
			}
			left--
			copy(name, o.name)
			p.dr.word(name, alphabetOf(d.encrypted, d.folds), o.id, try)
			if h, _ := d.hash(&p.buf, name); p.frameOf(h) == want && !p.seen.has(name) {
				o.hash = try
				p.low[want], p.high[want] = min(p.low[want], h), max(p.high[want], h)
				p.placed.Names++
				found = true
				break
			}
		}
		if !found {
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

// drawBorders draws the hashes that the index is to have: each anywhere between
// what the leaves on both sides of it got, so that it says no more than these.
func (p *placer) drawBorders() {
	d := p.dir
	d.fresh = make([]uint32, len(d.bounds))
	for i := 1; i < len(d.fresh); i++ {
		// A frame without names ends and begins where it was planned to.
		low, high := p.frames[i-1], p.frames[i]
		if p.low[i-1] <= p.high[i-1] {
			low = uint64(p.high[i-1])
		}
		if p.low[i] <= p.high[i] {
			high = uint64(p.low[i])
		}
		at := high
		if high > low+2 {
			r, _ := p.dr.random(domainBoundary, uint64(d.ino), uint32(i), 0)
			at = low + 2 + r%(high-low-1)&^1
			at = min(at, high)
		}
		d.fresh[i] = uint32(at) &^ 1
	}
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
	d.names = slices.CompactFunc(d.names, func(a, b placedName) bool {
		if a.id != b.id {
			return false
		}
		d.expected = d.expected || a.hash != b.hash || a.lower != b.lower // on both sides of a border
		return true
	})
	d.names = slices.Clip(d.names[:min(len(d.names), maxNames)])
}

// sortBounds sorts the hashes of the index.
func (d *directory) sortBounds() {
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
	slices.SortFunc(d.tiny, func(a, b tinyName) int { return cmp.Compare(a.id, b.id) })
}

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
