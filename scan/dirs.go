package scan

import (
	"encoding/binary"
	"errors"

	"e2qcow/ext"
)

// visitDirBlock processes a directory block and the inodes that it names.
func (s *scanner) visitDirBlock(b *batch, ino uint32, block uint64, data []byte) {
	s.tellLost(b, block)
	s.visitor.Directory(ino, block, data)
	if s.visitDirents(b, ino, block, data) {
		b.mark(Directory, block, 1)
	} else {
		b.mark(Claimed, block, 1)
	}
}

// visitDirents processes the inodes named in a chain of directory entries, and
// in every part of a broken chain that e2fsck might salvage. It reports whether
// at least the first entry is valid, or could not be read.
func (s *scanner) visitDirents(b *batch, ino uint32, block uint64, chain []byte) bool {
	entries := 0
	r := ext.NewDirReader(chain, int(s.geo.BlockSize))
	for ; r.Next(); entries++ {
		if n := r.Entry().Inode; n != 0 && s.geo.ValidInode(n) {
			s.name(b, n)
			if entries < 2 && string(r.Entry().Name) == ".." {
				b.parents = append(b.parents, n)
			}
		}
	}
	unread := false
	if err := r.Err(); err != nil {
		const header = 8 // of an entry
		bad := (*ext.DirentError)(nil)
		unread = block != 0 && errors.As(err, &bad) && b.unread(int64(block)*int64(s.geo.BlockSize)+int64(bad.Offset), header)
		if !unread {
			b.problem(BadDirectory, ino, block, err.Error())
		}
	}
	if r.Suspect() {
		ext.SalvageDirents(chain, int(s.geo.BlockSize), s.geo.InodesCount, true, nil, func(d *ext.Dirent) {
			if s.geo.ValidInode(d.Inode) {
				s.name(b, d.Inode)
			}
		})
	}
	return entries > 0 || unread
}

// visitOrphanBlock processes the inodes that a block of the orphan file names:
// inode numbers, and a tail of eight bytes (struct ext4_orphan_block_tail).
func (s *scanner) visitOrphanBlock(b *batch, data []byte) {
	for data = data[:len(data)-ext.OrphanTailLen]; len(data) >= 4; data = data[4:] {
		if ino := binary.LittleEndian.Uint32(data); ino != 0 {
			s.orphan(b, ino)
		}
	}
}
