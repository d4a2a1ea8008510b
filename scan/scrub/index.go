package scrub

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"e2qcow/ext"
	"e2qcow/scan"
)

// An Index gathers, while a filesystem is scanned, what scrubbing it takes:
// [Index.Visit] goes into the options of the scan.
//
// It holds 16 bytes for each name of an indexed directory, twice that where the
// name has seven bytes or fewer, and 24 for each of a few bytes in another, as long
// as there are few such names: see [heldNames]. It holds 16 bytes for each block of
// a directory, and two for each word.
type Index struct {
	// Progress is told how many of the names of indexed directories have got a
	// word, while View runs. It is called from one goroutine at a time, and may
	// be nil.
	Progress func(done, total int64)

	opt   Options
	keys  *keyring
	words *words

	collectors sync.Pool
	once       sync.Once // the words have room for the first reading's

	worded wordedInodes

	held    *heldNames // nil while all names are held
	maxHeld int        // names; more are not held all
	names   int        // of indexed directories, and short ones of others, that were shown
	many    bool       // more of them than maxHeld

	mu      sync.Mutex
	owners  []owner
	shared  map[uint64][]uint32   // directories that a block belongs to beside its owner
	dirs    map[uint32]*directory // those of which more is to be known than their blocks
	shorts  []shortName
	lost    uint32               // the inode of lost+found
	wrong   map[uint64]struct{}  // directory and extent blocks with a wrong checksum
	seedTry uint32               // which of the seeds that a key gives is taken
	values  map[uint32]struct{}  // inodes that hold values of attributes
	claims  map[uint64]scan.Kind // what damage passes blocks off as, where that is no directory

	claimed int  // inodes that damage makes indexed directories
	crowded bool // not all directories are remembered

	generations generations

	symlinks atomic.Bool // an inode in use is a symlink
}

// An owner says which directory a run of blocks belongs to.
type owner struct {
	start uint64
	count uint32
	ino   uint32
}

// A directory is one whose names need more than to be drawn.
type directory struct {
	ino       uint32
	indexed   bool
	encrypted bool
	folds     bool // case is ignored
	rooted    bool // version is that of its root; of several the least
	mixed     bool // a root has another version than was assumed
	again     bool // which are being gathered again
	unknown   bool // by a hash that nobody knows
	kept      bool // the hash and its seed stay
	placed    bool // names have numbers of words
	version   ext.DirHash
	assumed   ext.DirHash // the version before a root was shown
	unsigned  bool
	seed      [4]uint32
	freshSeed [4]uint32 // that the index is to have

	names  []placedName // ascending by id once placed
	tiny   []tinyName   // those of a few bytes; ascending by id while they are placed
	odds   []oddName
	fixed  []oddName // names that stay
	leaves []leaf    // ascending by block once placed
	bounds []uint32  // hashes in the index, lowest bits included; ascending once placed
	fresh  []uint32  // what is in their place

	unclear bool // which leaf names stand in is not known of all
	crooked bool // names stand outside the leaf that their hash belongs to

	count  int         // names shown of it
	seen   bool        // names were read and placed again
	shorts []shortName // while they are read again
	source *directory  // of which this is what was read again; nil if it is none

	expected bool        // placing knows why the index may not be sound
	unsound  atomic.Bool // it is not, as it is written
}

// A tinyName is a name so short that it may be drawn for itself.
type tinyName struct {
	id   uint64
	name [maxTiny]byte
}

// maxTiny is the length of the longest of these: a longer one is none of the
// words seen.
const maxTiny = minWord - 1

// A placedName is a name of an indexed directory, or one of another that is
// not to be drawn at the first try.
type placedName struct {
	id     uint64 // its keyed hash
	hash   uint32 // by which the index sorts it; once placed, the try it is drawn at
	length uint8
	lower  bool // a name in the same block has a lower hash
	number bool // it is one of those that e2fsck gives
}

// An oddName is an invalid name of an indexed directory.
type oddName struct {
	placedName
	name []byte
}

// A shortName is a name so short that another's word may be the same.
type shortName struct {
	id     uint64
	ino    uint32 // of the directory
	length uint8
	number bool // as that of a placedName
	name   [maxShort]byte
}

// maxShort is the length of the longest name of which two in a directory may
// draw the same word: 62¹¹ are enough for millions.
const maxShort = 10

// NewIndex returns an empty index.
func NewIndex(opt Options) *Index {
	keys := newKeyring(opt.Key)
	x := &Index{opt: opt, keys: keys, words: newWords(keys), dirs: map[uint32]*directory{}, wrong: map[uint64]struct{}{}, values: map[uint32]struct{}{}, claims: map[uint64]scan.Kind{}, shared: map[uint64][]uint32{}, maxHeld: maxHeld}
	x.collectors.New = func() any { return new(collector) }
	return x
}

// Visit returns who gathers what is to be known of one reading of the
// filesystem.
func (x *Index) Visit(sb *ext.Superblock, geo *ext.Geometry) scan.Visitor {
	x.once.Do(func() { x.words.reserve(uint64(geo.InodesCount - min(le.Uint32(sb.Bytes()[0x10:]), geo.InodesCount))) })
	superblockWords(sb.Bytes(), x.words.add)
	x.keys.encoded = x.keys.encoded || sb.HasIncompat(ext.IncompatCasefold)
	return &visitor{shape: shapeOf(sb, geo), x: x, sb: sb, sums: sb.HasRoCompat(ext.RoCompatMetadataCsum)}
}

// A visitor gathers what is to be known of one reading.
type visitor struct {
	shape
	x    *Index
	sb   *ext.Superblock
	sums bool // metadata_csum is in use
}

// directory returns what is known of a directory, from now on.
func (v *visitor) directory(ino uint32) *directory {
	d := v.x.dirs[ino]
	if d == nil {
		version := v.sb.DefaultHash()
		d = &directory{ino: ino, version: version, assumed: version, unsigned: v.sb.UnsignedHash(), seed: v.sb.HashSeed(), kept: v.x.opt.KeepSeed}
		v.x.dirs[ino] = d
	}
	return d
}

// maxSpecial bounds the directories of which more is known than their blocks, some
// 400 bytes each, and maxClaimed those among them that are no directories: damage.
const (
	maxSpecial = 1 << 19
	maxClaimed = 1 << 16
)

// ErrManyDirectories says that more directories have an index, encryption or
// ignore case than are remembered.
var ErrManyDirectories = errors.New("too many indexed directories to scramble")

// room reports whether one more directory can be remembered, or an inode of
// another type that damage makes one. Where a directory cannot, View fails.
func (v *visitor) room(mode uint16) bool {
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	if mode != ext.ModeDir {
		v.x.claimed++
		return v.x.claimed <= maxClaimed
	}
	v.x.crowded = v.x.crowded || len(v.x.dirs) >= maxSpecial
	return !v.x.crowded
}

// Inode notes what kind of a directory an inode is, and the words in it.
func (v *visitor) Inode(ino uint32, in ext.Inode) {
	const special = ext.FlagIndex | ext.FlagEncrypt | ext.FlagCasefold
	if f := in.Flags(); f&special != 0 && (in.Type() == ext.ModeDir || f&ext.FlagIndex != 0 && in.LinksCount() != 0) && v.room(in.Type()) {
		v.x.mu.Lock()
		d := v.directory(ino)
		d.indexed = d.indexed || f&ext.FlagIndex != 0
		d.encrypted = d.encrypted || f&ext.FlagEncrypt != 0
		d.folds = d.folds || f&ext.FlagCasefold != 0
		if first := firstBlock(in); in.Type() != ext.ModeDir && first != 0 {
			v.x.owners = append(v.x.owners, owner{first, 1, ino}) // e2fsck looks for a root there
		}
		v.x.mu.Unlock()
	}
	if in.Type() == ext.ModeSymlink && in.LinksCount() != 0 {
		v.x.symlinks.Store(true)
	}
	v.noteGeneration(ino, in)
	v.inodeNames(ino, in)
	if len(in) > goodOldInodeSize {
		v.x.noteValues(ext.NewInodeXattrReader(in))
	}
	worded := v.use(in) == useDirectory
	v.inodeWords(in, v.x.opt.Strict, func(b []byte) {
		worded = worded || len(b) >= minWord
		v.x.words.add(b)
	})
	if worded {
		v.x.worded.note(ino)
	}
}

// firstBlock returns the first block of a file as far as its inode says it.
func firstBlock(in ext.Inode) uint64 {
	if in.Flags()&ext.FlagExtents == 0 {
		return uint64(in.BlockNr(0))
	}
	node := ext.ExtentNode(in.IBlock())
	if _, n := node.Count(); n == 0 || !node.Sound() || node.Depth() != 0 || node.Extent(0).Logical != 0 {
		return 0
	}
	return node.Extent(0).Start
}

// Attributes notes the words in an attribute block.
func (v *visitor) Attributes(block uint64, data []byte) {
	if h, ok := ext.DecodeXattrHeader(data); ok && !h.Valid() {
		v.claim(block, scan.Xattr)
		return
	}
	r := ext.NewXattrBlockReader(data)
	v.x.noteValues(r)
	collectXattrs(&r, v.x.opt.Strict, v.x.words.add)
}

// Indirect does nothing: the map has these blocks.
func (v *visitor) Indirect(uint32, uint64, bool, []byte) {}

// Pointers notes that a block is claimed as an indirect one.
func (v *visitor) Pointers(block uint64) { v.claim(block, scan.IndirectBlock) }

func (v *visitor) claim(block uint64, k scan.Kind) {
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	if old, ok := v.x.claims[block]; !ok || k < old {
		v.x.claims[block] = k
	}
}

// Directory gathers the names in a block.
func (v *visitor) Directory(ino uint32, block uint64, data []byte) {
	c := v.collector(ino)
	c.layout(v).walkBlock(data, c)
	v.finish(c, owner{block, 1, ino})
	v.verify(ino, block, data, ext.VerifyDirBlock)
}

// A collector gathers the names of one block, or of one inline directory.
type collector struct {
	x         *Index
	d         *drawer
	ino       uint32
	indexed   bool
	encrypted bool
	hashed    bool // their hashes stand behind them
	folds     bool
	version   ext.DirHash
	unsigned  bool
	seed      [4]uint32
	rooted    bool
	unknown   bool
	many      bool // names are only counted
	again     bool // the names were shown before
	count     int  // names of an indexed directory

	journal uint32 // inode
	lost    uint32
	names   []placedName
	tiny    []tinyName
	odds    []oddName
	fixed   []oddName
	shorts  []shortName
	bounds  []uint32
	word    []byte
	span    leaf
}

// collector returns one for the names of a directory.
func (v *visitor) collector(ino uint32) *collector {
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	c := v.collectorOf(ino, v.x.dirs[ino])
	c.many = v.x.many
	return c
}

// collectorOf returns one for the names of a directory of which d is known, if
// anything.
func (v *visitor) collectorOf(ino uint32, d *directory) *collector {
	c := v.x.collectors.Get().(*collector)
	*c = collector{
		x: v.x, d: v.x.keys.get(), ino: ino, journal: v.journalInode, span: leaf{low: ^uint32(0)},
		names: c.names[:0], tiny: c.tiny[:0], fixed: c.fixed[:0], odds: c.odds[:0], shorts: c.shorts[:0], bounds: c.bounds[:0], word: c.word,
	}
	if d != nil {
		c.indexed, c.folds, c.encrypted, c.hashed = d.indexed, d.folds, d.encrypted, d.encrypted && d.folds
		c.version, c.unsigned, c.seed, c.unknown = d.version, d.unsigned, d.seed, d.unknown
	}
	return c
}

// finish takes over what a collector has gathered.
func (v *visitor) finish(c *collector, o owner) {
	x := v.x
	x.mu.Lock()
	if o.count > 0 {
		x.owners = append(x.owners, o)
	}
	if c.count+len(c.fixed)+len(c.bounds) > 0 || c.rooted {
		d := v.directory(c.ino)
		if c.rooted {
			// Whether names were shown before depends on the order of work, so
			// it does not matter here.
			d.mixed = d.mixed || c.version != d.assumed
			if !d.rooted || c.version < d.version {
				d.rooted, d.version = true, c.version
			}
		}
		d.count += c.count
		if !x.many {
			c.moveTo(d, o.start)
		}
	}
	if !x.many {
		x.shorts = append(x.shorts, c.shorts...)
		x.names += c.count + len(c.shorts)
		if x.many = x.names > x.maxHeld; x.many {
			x.shorts = nil
			for _, d := range x.dirs {
				d.forget()
			}
		}
	}
	if c.lost != 0 && (x.lost == 0 || c.lost < x.lost) {
		x.lost = c.lost
	}
	x.mu.Unlock()
	c.release()
}

// moveTo gives a directory the names that were gathered from a block.
func (c *collector) moveTo(d *directory, block uint64) {
	for i := range c.names {
		c.names[i].lower = c.names[i].hash > c.span.low
	}
	for i := range c.fixed {
		c.fixed[i].lower = c.fixed[i].hash > c.span.low
	}
	d.unknown = d.unknown || c.unknown
	if c.again {
		d.shorts = append(d.shorts, c.shorts...)
	}
	d.names = append(d.names, c.names...)
	d.tiny = append(d.tiny, c.tiny...)
	d.odds = append(d.odds, c.odds...)
	d.fixed = append(d.fixed, c.fixed...)
	if c.span.low <= c.span.high {
		c.span.block = block
		d.leaves = append(d.leaves, c.span)
	}
	d.bounds = append(d.bounds, c.bounds...)
}

// forget drops the names of an indexed directory.
func (d *directory) forget() {
	if d.indexed {
		d.names, d.tiny, d.odds, d.fixed, d.leaves, d.bounds, d.unknown = nil, nil, nil, nil, nil, nil, false
	}
}

// release gives a collector back.
func (c *collector) release() {
	c.x.keys.put(c.d)
	c.x.collectors.Put(c)
}

// layout returns how the directory of a collector is read.
func (c *collector) layout(v *visitor) layout {
	return layout{blockSize: v.blockSize, inodes: v.inodes, indexed: c.indexed, hashed: c.hashed}
}

func (c *collector) header([]byte) {}

func (c *collector) number([]byte) {}

func (c *collector) root(r ext.IndexBlock) { c.version, c.rooted = r.HashVersion(), true }

func (c *collector) hash(b []byte) { c.bounds = append(c.bounds, le.Uint32(b)) }

func (c *collector) entry(name []byte, ino uint32) {
	kept := keptName(name)
	switch {
	case kept && c.ino == ext.RootInode && ino != 0 && string(name) == lostAndFound:
		c.lost = ino
	case c.ino == ext.RootInode && ino != 0 && ino == c.journal && journalName(name):
		kept = true
	}
	if !kept && !numbered(name) && !c.again {
		c.x.words.add(name)
	}
	if c.indexed && !c.unknown {
		if ino != 0 {
			c.count++
			if !c.many {
				c.indexedName(name, kept)
			}
		}
		return // e2fsck does not look at what was deleted
	}
	if !kept && !c.many && len(name) <= maxShort {
		s := shortName{id: c.d.nameID(name), ino: c.ino, length: uint8(len(name)), number: numbered(name)}
		copy(s.name[:], name)
		c.shorts = append(c.shorts, s)
	}
}

// indexedName gathers a name that the index leads to.
func (c *collector) indexedName(name []byte, kept bool) {
	if len(name) == 0 || string(name) == "." || string(name) == ".." {
		return
	}
	hash, ok := hashName(&c.word, c.version, c.unsigned, c.folds, c.seed, name)
	if !ok {
		c.unknown = true
		return
	}
	c.span.low, c.span.high = min(c.span.low, hash), max(c.span.high, hash)
	p := placedName{id: c.d.nameID(name), hash: hash, length: uint8(len(name)), number: numbered(name)}
	switch {
	case kept:
		c.fixed = append(c.fixed, oddName{p, slices.Clone(name)})
		return
	case !c.encrypted && c.d.odd(name):
		c.odds = append(c.odds, oddName{p, slices.Clone(name)})
		return
	}
	c.names = append(c.names, p)
	if len(name) <= maxTiny {
		t := tinyName{id: p.id}
		copy(t.name[:], name)
		c.tiny = append(c.tiny, t)
	}
}

// hashName returns the hash by which an index sorts a name. buf holds the
// folded name, where case is ignored.
func hashName(buf *[]byte, version ext.DirHash, unsigned, folds bool, seed [4]uint32, name []byte) (uint32, bool) {
	if unsigned {
		version = version.Unsigned()
	}
	if folds {
		*buf = ext.Casefold((*buf)[:0], name)
		name = *buf
	}
	major, _, ok := version.Hash(name, seed)
	return major, ok
}

// alphabetOf returns what the names of a directory are drawn from.
func alphabetOf(encrypted, folds bool) string {
	usual, _ := (&directory{encrypted: encrypted, folds: folds}).alphabets()
	return usual
}

// maxShared bounds the directories that a block is taken to belong to beside its
// owner: one by each reading of the filesystem, and more by damage.
const maxShared = 4

// ownerBy returns the directory that a block belongs to by what is in it, which is
// another under each reading: that whose "." it holds, or of the names that it
// holds the most.
func (x *Index) ownerBy(d *drawer, n uint64, block []byte) uint32 {
	owner := x.ownerOf(n)
	others := x.shared[n]
	if len(others) == 0 {
		return owner
	}
	r := ext.NewDirReader(block, len(block))
	most := 0
	known := make([]int, 1+len(others))
	for r.Next() {
		e := r.Entry()
		if e.Inode == 0 || string(e.Name) == ".." {
			continue
		}
		id := d.nameID(e.Name)
		for i := range known {
			ino := owner
			if i > 0 {
				ino = others[i-1]
			}
			if string(e.Name) == "." && e.Inode == ino {
				return ino
			}
			if dir := x.directory(ino); dir != nil && dir.lookup(id) != nil {
				known[i]++
				most = max(most, known[i])
			}
		}
	}
	if i := slices.Index(known, most); most > 0 && i > 0 {
		return others[i-1]
	}
	return owner
}

// sortOwners makes the owners of directory blocks ready to be searched. Of a
// block with several the directory with the least number is that of ownerOf, and
// others are in shared.
func (x *Index) sortOwners() {
	slices.SortFunc(x.owners, func(a, b owner) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.ino, b.ino))
	})
	merged := x.owners[:0]
	for _, o := range x.owners {
		if n := len(merged) - 1; n >= 0 {
			last := &merged[n]
			switch end := last.start + uint64(last.count); {
			case o.start < end:
				if ownerIn(merged, o.start) != o.ino && len(x.shared[o.start]) < maxShared {
					x.shared[o.start] = append(x.shared[o.start], o.ino)
				}
				continue
			case o.start == end && o.ino == last.ino:
				last.count++
				continue
			}
		}
		merged = append(merged, o)
	}
	x.owners = slices.Clip(merged)
}

// ownerOf returns the directory that a block belongs to, 0 where there is none.
func (x *Index) ownerOf(block uint64) uint32 { return ownerIn(x.owners, block) }

func ownerIn(owners []owner, block uint64) uint32 {
	i, found := slices.BinarySearchFunc(owners, block, func(o owner, b uint64) int { return cmp.Compare(o.start, b) })
	if !found {
		if i--; i < 0 || block-owners[i].start >= uint64(owners[i].count) {
			return 0
		}
	}
	return owners[i].ino
}
