package scan

import (
	"cmp"
	"context"
	"slices"

	"e2qcow/ext"
)

// A role says as which structure a gathered block is read.
type role uint8

const (
	roleExtent role = iota
	roleInd1        // single indirect: points to data
	roleInd2
	roleInd3
	roleDir
	roleProbe // a first block that may be a directory's
	roleXattr
	roleOrphan
	roles
)

// A content says what the leaves of a tree contain.
type content uint8

const (
	contentData content = iota // file contents, not taken
	contentFile                // file contents, taken
	contentDir
	contentSymlink
	contentEncrypted // a symlink's target, encrypted
	contentProbe     // an inode of no known type: its first block may be a directory's
	contentIndex     // no directory, but flagged as an indexed one: its first block is read as a root
	contents
)

// An item is count blocks that something claims, to be read in a role.
type item struct {
	block   uint64
	ino     uint32 // who claims it
	count   uint16
	role    role
	content content
}

// A slice of a level is read before the blocks to which it leads are counted.
// Its items and bytes are bounded, because a block of pointers can lead to as
// many items as it has words.
const (
	levelSlice      = 2048
	levelSliceBytes = 8 << 20
)

// scanLevels reads the gathered blocks, and the blocks to which these lead,
// until none is left. Suspects come last.
func (s *scanner) scanLevels(ctx context.Context) error {
	for {
		if err := s.drain(ctx); err != nil {
			return err
		}
		if len(s.suspects) == 0 {
			return nil
		}
		s.claimSuspects()
	}
}

// drain reads the gathered blocks, and the blocks to which these lead. It
// finishes a level before the next one, unless the next one grows beyond
// maxPending: then that comes first.
func (s *scanner) drain(ctx context.Context) error {
	s.draining = true
	defer func() { s.draining = false }()
	var levels [][]item // the last is being read
	for len(levels) > 0 || len(s.pending) > 0 {
		if len(levels) == 0 || len(s.pending) >= s.maxPending {
			slices.SortFunc(s.pending, compareItems)
			levels = append(levels, s.pending)
			s.pending = nil
		}
		level := &levels[len(levels)-1]
		part := (*level)[:min(len(*level), levelSlice, levelSliceBytes/int(s.geo.BlockSize))]
		if *level = (*level)[len(part):]; len(*level) == 0 {
			levels = levels[:len(levels)-1]
		}
		err := s.sweep(ctx, len(part),
			func(i int) (uint64, uint64) { return part[i].block, uint64(part[i].count) },
			func(b *batch, i int, block uint64, data []byte) {
				for bs := int(s.geo.BlockSize); len(data) > 0; data, block = data[bs:], block+1 {
					problems := len(b.problems)
					s.visit(b, &part[i], block, data[:bs])
					if r := part[i].role; r != roleDir && r != roleXattr { // which look closer
						b.excuse(problems, int64(block)*int64(bs), int64(bs))
					}
				}
			})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// visit processes one block of an item.
func (s *scanner) visit(b *batch, it *item, block uint64, data []byte) {
	switch it.role {
	case roleExtent:
		s.visitExtentBlock(b, it, block, data)
	case roleInd1, roleInd2, roleInd3:
		s.visitIndirectBlock(b, it, block, data)
	case roleDir:
		s.visitDirBlock(b, it.ino, block, data)
	case roleProbe:
		b.mark(Claimed, block, 1)
		if ext.LooksLikeDirectory(data, it.ino) {
			b.revisits = append(b.revisits, revisit{ino: it.ino, why: asDir})
		}
	case roleXattr:
		s.visitXattrBlock(b, it.ino, block, data)
	case roleOrphan:
		s.visitOrphanBlock(b, data)
	}
}

func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.role, b.role), cmp.Compare(a.content, b.content), cmp.Compare(a.ino, b.ino), cmp.Compare(a.count, b.count))
}
