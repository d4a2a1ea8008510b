package scrub

import (
	"bytes"
	"context"
	"errors"
	"io"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A Rename is a name in a directory and what took its place.
type Rename struct {
	Directory uint32 // its inode, 0 where nothing says which
	Old, New  []byte
}

// Renames calls yield with every name in the directories and what took its
// place, those of deleted files included, in the order of the blocks that they
// stand in; the slices are good during the call. It reads the directories and
// the inode tables once more.
func (v *View) Renames(ctx context.Context, yield func(Rename) error) error {
	old, fresh := make([]byte, v.blockSize), make([]byte, v.blockSize)
	d := v.s.keys.get()
	defer v.s.keys.put(d)
	for _, kind := range [...]scan.Kind{scan.InodeTable, scan.Directory} {
		for run := range v.s.m.RunsOf(kind) {
			for n := run.Start; n < run.Start+run.Count; n++ {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				m, err := v.base.ReadAt(old, int64(n)*v.blockSize)
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				clear(old[m:])
				copy(fresh, old)
				v.s.block(d, n, fresh)
				if kind == scan.Directory {
					err = v.s.renames(v.s.index.ownerBy(d, n, old), old, fresh, yield)
				} else {
					err = v.s.inlineRenames(n, old, fresh, yield)
				}
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
		}
	}
	return nil
}

// renames yields the names in a directory block, old and new.
func (s *scrubber) renames(ino uint32, old, fresh []byte, yield func(Rename) error) error {
	dir := s.index.dirs[ino]
	l := layout{blockSize: s.blockSize, inodes: s.inodes, indexed: dir != nil && dir.indexed, hashed: dir != nil && dir.encrypted && dir.folds}
	p := pairer{old: old, fresh: fresh, ino: ino, yield: yield}
	l.walkBlock(old, &p)
	return p.err
}

// inlineRenames yields the names of the directories that stand in a block of
// an inode table.
func (s *scrubber) inlineRenames(n uint64, old, fresh []byte, yield func(Rename) error) error {
	t, ok := s.table(n)
	if !ok {
		return nil
	}
	size := int(t.InodeSize)
	ino := t.First + uint32(n-t.Start)*uint32(len(old)/size)
	l := layout{blockSize: s.blockSize, inodes: s.inodes}
	for at := 0; at+size <= len(old); at, ino = at+size, ino+1 {
		in := ext.Inode(old[at : at+size])
		if s.use(in) != useDirectory {
			continue
		}
		p := pairer{old: old, fresh: fresh, ino: ino, yield: yield}
		if _, chain, ok := ext.InlineDirectory(in.IBlock()); ok {
			l.walkChain(chain, &p)
		}
		for r := ext.NewInodeXattrReader(in); r.Next(); {
			if value, ok := r.Value(); ok && r.Entry().IsInlineData() {
				l.walkChain(value, &p)
			}
		}
		if p.err != nil {
			return p.err
		}
	}
	return nil
}

// A pairer is a dirVisitor that finds what took the place of names.
type pairer struct {
	old, fresh []byte
	ino        uint32
	yield      func(Rename) error
	err        error
}

func (p *pairer) entry(name []byte, _ uint32) {
	at := cap(p.old) - cap(name)
	fresh := p.fresh[at : at+len(name)]
	if p.err == nil && !bytes.Equal(name, fresh) {
		p.err = p.yield(Rename{p.ino, name, fresh})
	}
}

func (p *pairer) hash([]byte)         {}
func (p *pairer) root(ext.IndexBlock) {}
func (p *pairer) header([]byte)       {}
func (p *pairer) number([]byte)       {}
