package scrub

import (
	"context"
	"sync"

	"e2qcow/ext"
	"e2qcow/scan"
)

// wordedInodes are the inodes that have words in them, in groups, a bit for each.
type wordedInodes struct {
	mu    sync.RWMutex
	pages map[uint32]*[wordedPage / 64]uint64
}

// A bit is for 8 inodes: no more than a block has. A page has so many bits.
const (
	wordedGroup = 8
	wordedPage  = 4096
)

func (w *wordedInodes) note(ino uint32) {
	if w.has(ino) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages == nil {
		w.pages = map[uint32]*[wordedPage / 64]uint64{}
	}
	n := ino / wordedGroup
	page := w.pages[n/wordedPage]
	if page == nil {
		page = new([wordedPage / 64]uint64)
		w.pages[n/wordedPage] = page
	}
	page[n%wordedPage/64] |= 1 << (n % 64)
}

func (w *wordedInodes) has(ino uint32) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	n := ino / wordedGroup
	page := w.pages[n/wordedPage]
	return page != nil && page[n%wordedPage/64]>>(n%64)&1 != 0
}

// makeRoom fills the filter once more where it turned out to be too small: the
// number of words was estimated from the inodes in use.
func (s *scrubber) makeRoom(ctx context.Context) error {
	if !s.words.crowded() {
		return nil
	}
	s.words.reserve(uint64(s.words.added.Load()))
	return s.eachWord(ctx, nil, func(b []byte) error {
		s.words.add(b)
		return nil
	})
}

// eachWord reads once more all names, values and texts that the words were taken
// from, and what lies beside them that may be one. Where a block may be read in
// two ways it is read in both. progress, which may be nil, is told how many bytes
// were looked at.
func (s *scrubber) eachWord(ctx context.Context, progress func(done, total int64), yield func([]byte) error) error {
	told := &wordProgress{told: progress, total: s.wordBytes()}
	for i := range s.readings {
		r := &s.readings[i]
		w := wordReader{s: s, ctx: ctx, r: r, shape: shapeOf(r.Super, r.Geometry), yield: yield, progress: told, block: make([]byte, r.Geometry.BlockSize)}
		superblockWords(r.Super.Bytes(), w.add)
		w.tables()
		w.directories()
		w.values()
		if w.err != nil {
			return w.err
		}
	}
	return nil
}

// A wordReader reads the words of the source as one reading has them.
type wordReader struct {
	shape
	s     *scrubber
	ctx   context.Context
	r     *scan.Reading
	block []byte
	yield func([]byte) error
	err   error

	progress *wordProgress
}

// A wordProgress counts the bytes of blocks that were looked at for words.
type wordProgress struct {
	told              func(done, total int64)
	done, last, total int64
}

// toldEach is after how many bytes a wordProgress is told on.
const toldEach = 1 << 20

func (p *wordProgress) add(n int64) {
	p.done += n
	if p.told != nil && p.done-p.last >= toldEach {
		p.last = p.done
		p.told(min(p.done, p.total), p.total)
	}
}

// wordBytes returns how many bytes of blocks eachWord looks at.
func (s *scrubber) wordBytes() (n int64) {
	for _, t := range s.tables {
		n += int64(t.Count) * int64(t.BlockSize)
	}
	for i := range s.readings {
		for _, o := range s.index.owners {
			n += int64(o.count) * int64(s.readings[i].Geometry.BlockSize)
		}
		for _, kind := range valueKinds {
			for run := range s.m.RunsOf(kind) {
				n += int64(run.Count) * int64(s.blockSize)
			}
		}
	}
	return n
}

// valueKinds are the kinds of blocks with values.
var valueKinds = [...]scan.Kind{scan.Xattr, scan.XattrValue, scan.Symlink}

func (w *wordReader) add(b []byte) {
	if w.err == nil && len(b) >= minWord {
		w.err = w.yield(b)
	}
}

// read reads a block, unless there was an error.
func (w *wordReader) read(n uint64) bool {
	if w.err == nil && w.ctx.Err() != nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err != nil {
		return false
	}
	w.r.ReadBlock(n, w.block)
	return true
}

// tables reads the inodes with words in them.
func (w *wordReader) tables() {
	for _, t := range w.s.tables {
		if t.BlockSize != w.r.Geometry.BlockSize || int(t.InodeSize) != w.inodeSize {
			continue
		}
		per := t.BlockSize / t.InodeSize
		for i := range t.Count {
			w.progress.add(int64(t.BlockSize))
			first := t.First + uint32(i)*per
			if !w.s.index.worded.any(first, per) || !w.read(t.Start+i) {
				continue
			}
			for at := 0; at+w.inodeSize <= len(w.block); at += w.inodeSize {
				in := ext.Inode(w.block[at : at+w.inodeSize])
				w.inodeWords(in, w.s.strict, w.add)
				if w.use(in) == useDirectory {
					w.layout(false).walkInline(in, w)
				}
			}
		}
	}
}

// any tells whether one of so many inodes has words.
func (w *wordedInodes) any(first, count uint32) bool {
	for n := first / wordedGroup; n <= (first+count-1)/wordedGroup; n++ {
		if w.has(n * wordedGroup) {
			return true
		}
	}
	return false
}

func (w *wordReader) layout(indexed bool) layout {
	return layout{blockSize: w.blockSize, inodes: w.inodes, indexed: indexed}
}

// directories reads the names in directory blocks.
func (w *wordReader) directories() {
	for _, o := range w.s.index.owners {
		for i := range uint64(o.count) {
			w.progress.add(int64(w.blockSize))
			if !w.read(o.start + i) {
				return
			}
			dir := w.s.index.dirs[o.ino]
			l := w.layout(dir != nil && dir.indexed)
			l.hashed = dir != nil && dir.encrypted && dir.folds
			l.walkBlock(w.block, w)
			if l.indexed {
				l.indexed = false
				l.walkBlock(w.block, w)
			}
		}
	}
}

// values reads attributes, their values, and the targets of symlinks.
func (w *wordReader) values() {
	scale := uint64(w.s.blockSize)
	for _, kind := range valueKinds {
		for run := range w.s.m.RunsOf(kind) {
			size := uint64(w.blockSize)
			for n := run.Start * scale / size; n < ((run.Start+run.Count)*scale+size-1)/size; n++ {
				w.progress.add(int64(size))
				if !w.read(n) {
					return
				}
				switch kind {
				case scan.Xattr:
					r := ext.NewXattrBlockReader(w.block)
					collectXattrs(&r, w.s.strict, w.add)
				case scan.Symlink:
					pathWords(untilNUL(w.block), w.add)
				default:
					w.add(w.block)
				}
			}
		}
	}
}

func (w *wordReader) entry(name []byte, _ uint32) {
	if !keptName(name) && !numbered(name) {
		w.add(name)
	}
}

func (w *wordReader) hash([]byte)         {}
func (w *wordReader) root(ext.IndexBlock) {}
func (w *wordReader) header([]byte)       {}
func (w *wordReader) number([]byte)       {}
