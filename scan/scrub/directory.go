package scrub

import (
	"bytes"
	"cmp"
	"slices"

	"e2qcow/ext"
)

// A layout says how the entries of a directory are to be read.
type layout struct {
	blockSize int    // of the filesystem, in bytes
	inodes    uint32 // s_inodes_count
	indexed   bool
	hashed    bool // eight bytes of hash behind each name
}

// A dirVisitor is shown the parts of a directory block. They alias the block.
type dirVisitor interface {
	// entry is shown a name, and the inode that an entry in use gives it to,
	// else 0.
	entry(name []byte, ino uint32)

	// hash is shown the hash of an entry of the index.
	hash(b []byte)

	// root is shown the root of an index.
	root(x ext.IndexBlock)

	// header is shown the eight bytes before a name, or a part of them.
	header(b []byte)

	// number is shown what else there is: the tail of a block, the hashes behind
	// names, the parts of an index but for its hashes.
	number(b []byte)
}

const (
	direntHeader = 8 // bytes up to the name
	direntTail   = 12
	direntHash   = 8
	rootInfo     = 8 // bytes of the parameters of an index
)

// walkBlock shows the parts of a directory block. It returns false where
// entries make no sense.
func (l layout) walkBlock(block []byte, v dirVisitor) (sound bool) {
	if l.indexed {
		if x, ok := ext.DecodeIndexRoot(block); ok {
			const dot, dotdot = direntHeader, direntTail + direntHeader
			v.entry(block[dot:dot+min(int(block[6]), 4)], 0)
			v.entry(block[dotdot:dotdot+min(int(block[direntTail+6]), 4)], 0)
			v.header(block[:dot])
			v.header(block[direntTail:dotdot])
			v.number(block[2*direntTail : 2*direntTail+rootInfo])
			v.root(x)
			walkIndex(x, v)
			return true
		}
		if x, ok := ext.DecodeIndexNode(block); ok {
			v.header(block[:direntHeader])
			walkIndex(x, v)
			return true
		}
	}
	return l.walkChain(block, v)
}

func walkIndex(x ext.IndexBlock, v dirVisitor) {
	for i := range max(x.Count(), 1) {
		if i > 0 {
			v.hash(x.Hash(i))
		} else {
			v.number(x.Limits())
		}
		v.number(x.Block(i))
	}
}

// walkChain shows the parts of a chain of entries: a block, or a part of an
// inline directory.
func (l layout) walkChain(chain []byte, v dirVisitor) (sound bool) {
	r := ext.NewDirReader(chain, l.blockSize)
	end := 0
	for r.Next() {
		e := r.Entry()
		at := e.Offset + direntHeader + len(e.Name)
		end = e.Offset + e.RecLen
		v.header(chain[e.Offset : e.Offset+direntHeader])
		if e.IsTail() && end == len(chain) {
			v.number(chain[e.Offset+direntHeader : end])
			return true
		}
		v.entry(e.Name, e.Inode)
		pad := min((at+3)&^3, end)
		if l.hashed {
			v.number(chain[pad:min(pad+direntHash, end)])
			pad = min(pad+direntHash, end)
		}
		l.walkGap(chain[pad:end], v)
	}
	if r.Err() == nil {
		return true
	}
	l.salvage(chain, end, v)
	return false
}

// sound tells whether a block holds entries with names, and none that makes no
// sense.
func (l layout) sound(block []byte) bool {
	r := ext.NewDirReader(block, l.blockSize)
	used := false
	for r.Next() {
		e := r.Entry()
		if e.Inode != 0 && (e.NameLen == 0 || e.Type > 7 || bytes.IndexByte(e.Name, 0) >= 0) {
			return false
		}
		used = used || e.Inode != 0
	}
	return used && r.Err() == nil
}

// walkGap shows the parts of the space behind an entry: entries that were
// deleted, and junk.
func (l layout) walkGap(gap []byte, v dirVisitor) {
	for len(gap) >= direntHeader {
		n := l.deleted(gap)
		if n == 0 {
			gap = gap[4:]
			continue
		}
		v.header(gap[:direntHeader])
		v.entry(gap[direntHeader:direntHeader+int(gap[6])], 0)
		gap = gap[n:]
	}
}

// deleted returns how long the deleted entry is that gap begins with, its own
// gap not counted; 0 where there is none.
func (l layout) deleted(gap []byte) int {
	recLen, nameLen := ext.RecLen(le.Uint16(gap[4:]), l.blockSize), int(gap[6])
	n := (direntHeader + nameLen + 3) &^ 3
	if nameLen == 0 || recLen < n || recLen&3 != 0 || recLen > l.blockSize || n > len(gap) ||
		le.Uint32(gap) > l.inodes || gap[7] > 7 || odd(gap[direntHeader:direntHeader+nameLen], true) {
		return 0
	}
	return n
}

// A span is a part of a block.
type span struct{ start, end int }

// salvage shows what e2fsck may find in the rest of a chain whose entries make
// no sense from start on.
func (l layout) salvage(chain []byte, start int, v dirVisitor) {
	var headers, names []span
	at := func(b []byte) span {
		off := cap(chain) - cap(b)
		return span{off, off + len(b)}
	}
	ext.SalvageDirents(chain, l.blockSize, l.inodes, l.hashed,
		func(h []byte) { headers = append(headers, at(h)) },
		func(d *ext.Dirent) { names = append(names, at(d.Name)) })
	order := func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) }
	slices.SortFunc(headers, order)
	slices.SortFunc(names, order)
	done := start
	for len(headers) > 0 || len(names) > 0 {
		list, isName := &headers, false
		if len(headers) == 0 || len(names) > 0 && names[0].start < headers[0].start {
			list, isName = &names, true
		}
		s := (*list)[0]
		*list = (*list)[1:]
		if s.start = max(s.start, done); s.start >= s.end {
			continue
		}
		if isName {
			v.entry(chain[s.start:s.end], 0)
		} else {
			v.header(chain[s.start:s.end])
		}
		done = s.end
	}
}

// A replacer replaces the names of one directory.
type replacer struct {
	s      *scrubber
	d      *drawer
	all    []byte     // the block, or the chain
	dir    *directory // nil where nothing is to be known of it
	ino    uint32
	lost   bool // it is lost+found
	hashed bool

	index   bool // it has one that was sound
	written writtenBlock
	folded  []byte

	last       pool // that a word was taken from last
	lastLarger bool
}

// replacer returns the one of a drawer for a directory.
func (s *scrubber) replacer(d *drawer, ino uint32) *replacer {
	r := &d.replacer
	*r = replacer{s: s, d: d, ino: ino, folded: r.folded, dir: s.index.directory(ino), lost: ino != 0 && ino == s.index.lost}
	if r.dir != nil {
		r.hashed = r.dir.encrypted && r.dir.folds
	}
	return r
}

// directoryBlock scrubs a block of a directory.
func (s *scrubber) directoryBlock(d *drawer, n uint64, block []byte) {
	r := s.replacer(d, s.index.ownerBy(d, n, block))
	l := layout{blockSize: s.blockSize, inodes: s.inodes, indexed: r.dir != nil && r.dir.indexed, hashed: r.hashed}
	before, at, ok := ext.DirBlockChecksum(0, block)
	var stored uint32
	if ok {
		stored = le.Uint32(block[at:])
	}
	right := ok && s.linkedRight(d, n, block, ext.VerifyDirBlock)
	if dir := r.dir; dir != nil && dir.indexed && dir.placed && !dir.crooked && !d.copied {
		head := headOf(block)
		r.index, r.written = true, newWrittenBlock()
		s.entries(d, l, block, r, l.walkBlock)
		s.judgeIndex(d, dir, n, head, headOf(block), &r.written)
	} else {
		s.entries(d, l, block, r, l.walkBlock)
	}
	if after, at, still := ext.DirBlockChecksum(s.seeds.inode, block); ok && still {
		le.PutUint32(block[at:], d.linkedSum(stored, before, after, right))
	}
}

// chain scrubs a part of an inline directory.
func (s *scrubber) chain(d *drawer, l layout, chain []byte, r *replacer) {
	s.entries(d, l, chain, r, l.walkChain)
}

// entries scrubs the entries that walk shows of b. What is shown to nobody
// becomes zero, and the numbers before names become such as can be, or as
// cannot be.
func (s *scrubber) entries(d *drawer, l layout, b []byte, r *replacer, walk func([]byte, dirVisitor) bool) {
	d.claimed = append(d.claimed[:0], make([]bool, len(b))...)
	d.headers = d.headers[:0]
	r.all = b
	sound := walk(b, r)
	for i, used := range d.claimed {
		if !used {
			b[i] = 0
		}
	}
	illegal := 0
	for _, h := range d.headers {
		if !possibleInode(&s.lim, uint64(le.Uint32(b[h:]))) {
			illegal++
		}
	}
	for _, h := range d.headers {
		s.dirent(d, l, b, h, sound, illegal)
	}
}

// claim notes that a part of the block is somebody's, and where it is.
func (r *replacer) claim(b []byte) span {
	start := cap(r.all) - cap(b)
	for i := range b {
		r.d.claimed[start+i] = true
	}
	return span{start, start + len(b)}
}

func (r *replacer) header(b []byte) {
	if len(b) == direntHeader {
		r.d.headers = append(r.d.headers, r.claim(b).start)
	}
}

func (r *replacer) number(b []byte) { r.claim(b) }

// root has an index sort by the hash that its words were placed by.
func (r *replacer) root(x ext.IndexBlock) {
	if !r.dir.unknown && x.HashVersion() == r.dir.version {
		x.SetHashVersion(r.dir.freshVersion())
	}
}

func (r *replacer) hash(b []byte) {
	r.claim(b)
	if r.dir.unknown {
		return
	}
	old := le.Uint32(b)
	le.PutUint32(b, r.dir.freshHash(r.d, old))
	if r.index {
		r.written.hash(old, le.Uint32(b))
	}
}

func (r *replacer) entry(name []byte, ino uint32) {
	if r.all != nil {
		r.claim(name)
	}
	r.replace(name, ino)
	if !r.index || ino == 0 || len(name) == 0 || string(name) == "." || string(name) == ".." {
		return
	}
	if hash, ok := r.dir.hash(&r.folded, name); ok {
		r.written.name(hash)
	}
}

// replace replaces a name, in place.
func (r *replacer) replace(name []byte, ino uint32) {
	if keptName(name) || r.ino == ext.RootInode && ino != 0 && ino == r.s.journalInode && journalName(name) {
		return
	}
	id := r.d.nameID(name)
	alphabet := lettersAndDigits
	var p *placedName
	if r.dir != nil {
		alphabet = alphabetOf(r.dir.encrypted, r.dir.folds)
		p = r.dir.lookup(id)
	}
	number := r.lost && numbered(name)
	r.written.news = r.written.news || ino != 0 && (p == nil || int(p.length) != len(name))
	switch {
	case p != nil && int(p.length) == len(name) && r.dir.placed && (r.dir.encrypted || !r.d.odd(name)):
		pool := r.pool(p)
		pool.word(r.d, name, p.hash&^wide)
	case number:
		try := uint32(0)
		if p != nil {
			try = p.hash
		}
		r.d.numberWord(name, id, try)
	case p == nil || int(p.length) != len(name):
		r.s.words.draw(r.d, name, alphabet, id, 0)
	case p.hash&wide != 0:
		_, alphabet = r.dir.alphabets()
		r.d.word(name, alphabet, id, p.hash)
	default:
		r.s.words.draw(r.d, name, alphabet, id, p.hash)
	}
}

// pool returns the pool that the word of a name is from.
func (r *replacer) pool(p *placedName) *pool {
	larger := p.hash&wide != 0
	if r.last.length != int(p.length) || r.last.number != p.number || r.lastLarger != larger {
		r.last, r.lastLarger = r.dir.newPool(r.d, int(p.length), p.number, larger), larger
	}
	return &r.last
}
