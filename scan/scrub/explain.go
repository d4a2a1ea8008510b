package scrub

import (
	"bytes"
	"iter"

	"e2qcow/ext"
	"e2qcow/scan"
)

// The search for words is a proof that the rules leave none: so it is told
// where the rules keep numbers and names, by the same tables that they are
// written by.

// keptWords are the longer ones of the names that rules keep: what stands in
// one of them is no word of a user.
var keptWords = [...]string{
	lostAndFound, ".journal.dat", "capability", "apparmor", "posix_acl_access", "posix_acl_default",
	"SMACK64IPIN", "SMACK64IPOUT", "SMACK64EXEC", "SMACK64MMAP", "SMACK64TRANSMUTE",
}

// explain returns which bytes of a scrubbed block the rules keep.
func (s *scrubber) explain(number uint64, block []byte) []bool {
	e := explainer{s: s, block: block, kept: make([]bool, len(block))}
	e.explain(number)
	for _, name := range keptWords {
		for at := 0; ; at++ {
			i := bytes.Index(block[at:], []byte(name))
			if i < 0 {
				break
			}
			at += i
			e.keep(at, at+len(name))
		}
	}
	return e.kept
}

// textParts yields the parts of a scrubbed block that something else may stand in
// than numbers that rules keep: all of it, but for most inodes of a table.
func (s *scrubber) textParts(number uint64, block []byte) iter.Seq[span] {
	return func(yield func(span) bool) {
		t, ok := s.table(number)
		if !ok || !s.m.Contains(scan.InodeTable, number) || s.inJournal(number) {
			yield(span{0, len(block)})
			return
		}
		size := int(t.InodeSize)
		for at := 0; at < len(block); at += size {
			end := min(at+size, len(block))
			// A prefix may begin in this inode and end in the next.
			if !s.allNumbers(block[at:end]) && !yield(span{at, min(end+minWord-1, len(block))}) {
				return
			}
		}
	}
}

// allNumbers tells whether rules keep all of a scrubbed inode, and its last byte
// is zero, so that no word begins in the inode and ends behind it.
func (s *scrubber) allNumbers(in ext.Inode) bool {
	if len(in) < goodOldInodeSize || in[len(in)-1] != 0 || !allZero(in[min(inodeFixedEnd, len(in)):]) {
		return false
	}
	switch s.use(in) {
	case useTree, useFreed, useDevice, useNothing:
		return true
	}
	return false
}

// An explainer marks what of a scrubbed block rules keep.
type explainer struct {
	s     *scrubber
	block []byte
	kept  []bool
}

func (e *explainer) keep(from, to int) {
	for i := max(from, 0); i < min(to, len(e.kept)); i++ {
		e.kept[i] = true
	}
}

// fields marks the numbers of a structure at an offset.
func (e *explainer) fields(st *structure, at int) {
	for _, f := range st.fields {
		if f.rule != drawn && (f.rule != part || st == superblockFields) {
			e.keep(at+f.off, at+f.off+f.size)
		}
	}
}

// explain marks what is kept of a block, as each of the kinds that it may be.
func (e *explainer) explain(number uint64) {
	m := e.s.m
	if e.s.inJournal(number) {
		e.journal(number)
		return
	}
	if m.Contains(scan.Superblock, number) {
		at := 0
		if number == 0 && len(e.block) > ext.SuperblockOffset {
			at = ext.SuperblockOffset
		}
		e.fields(superblockFields, at)
	}
	for _, k := range [...]scan.Kind{scan.GroupDescs, scan.BlockBitmap, scan.InodeBitmap, scan.ExtentNode, scan.IndirectBlock,
		scan.Quota, scan.OrphanFile} {
		if m.Contains(k, number) {
			e.keep(0, len(e.block))
		}
	}
	if m.Contains(scan.Mmp, number) {
		e.fields(mmpFields, 0)
	}
	if m.Contains(scan.Claimed, number) && e.s.claimed(number) == scan.IndirectBlock {
		e.keep(0, len(e.block))
	}
	if m.Contains(scan.InodeTable, number) {
		if t, ok := e.s.table(number); ok {
			for at, size := 0, int(t.InodeSize); at+size <= len(e.block); at += size {
				e.inode(at, e.block[at:at+size])
			}
		}
	}
	if m.Contains(scan.Xattr, number) || e.s.claimed(number) == scan.Xattr {
		e.fields(xattrHeaderFields, 0)
		e.attributes(ext.NewXattrBlockReader(e.block), 0)
	}
	if e.s.index.ownerOf(number) != 0 || m.Contains(scan.Directory, number) {
		dir := e.s.index.dirs[e.s.index.ownerOf(number)]
		l := layout{blockSize: e.s.blockSize, inodes: e.s.inodes,
			indexed: e.s.inIndexed(number), hashed: dir != nil && dir.encrypted && dir.folds}
		l.walkBlock(e.block, e)
	}
}

// inode marks what is kept of an inode at an offset of the block.
func (e *explainer) inode(at int, in ext.Inode) {
	e.fields(inodeFields, at)
	start := at + ext.IBlockOffset
	switch e.s.use(in) {
	case useTree, useFreed, useDevice, useNothing:
		e.keep(start, start+ext.IBlockSize)
	case useDirectory:
		if _, chain, ok := ext.InlineDirectory(in.IBlock()); ok {
			e.keep(start, start+ext.IBlockSize-len(chain))
			layout{blockSize: e.s.blockSize, inodes: e.s.inodes}.walkChain(chain, e)
		}
	}
	e.attributes(ext.NewInodeXattrReader(in), at)
}

// attributes marks the heads of attributes, and the values that are kept.
func (e *explainer) attributes(r ext.XattrReader, base int) {
	for r.Next() {
		a := r.Entry()
		e.fields(xattrEntryFields, base+a.Offset)
		off, size, ok := r.ValueRange()
		value, _ := r.Value()
		if !ok {
			continue
		}
		switch rule := xattrRule(a.NameIndex, a.Name, value); {
		case rule == valueKept, rule == valueEncryption && !e.s.strict:
			e.keep(base+off, base+off+size)
		case rule == valueInline && e.s.use(e.block[base:]) == useDirectory:
			layout{blockSize: e.s.blockSize, inodes: e.s.inodes}.walkChain(value, e)
		}
	}
}

// journal marks what is kept of a block of a journal: of a copy what is kept of
// the block it is of.
func (e *explainer) journal(number uint64) {
	for i := range e.s.journals {
		j := &e.s.journals[i]
		n, ok := j.at(number)
		if !ok {
			continue
		}
		role, known := j.index.roles[n]
		switch {
		case n == 0, known && role.kind != ext.JournalData:
			e.keep(0, len(e.block)) // nothing but numbers
		case known:
			if place := j.index.place(role.block); !e.s.inJournal(place) {
				e.explain(place)
			}
		default:
			eachFastCommit(e.block, func(off int, t *ext.FastCommitTag) {
				if t.Type == ext.FastCommitInode {
					at := off + fastCommitFields.size + fastCommitInodeFields.size
					e.inode(at, ext.Inode(t.Raw))
				}
			})
		}
		return
	}
}

func (e *explainer) mark(b []byte) {
	at := cap(e.block) - cap(b)
	e.keep(at, at+len(b))
}

func (e *explainer) header(b []byte)     { e.mark(b) }
func (e *explainer) number(b []byte)     { e.mark(b) }
func (e *explainer) hash(b []byte)       { e.mark(b) }
func (e *explainer) root(ext.IndexBlock) {}

func (e *explainer) entry([]byte, uint32) {}
