package scan

import (
	"encoding/binary"
	"testing"

	"e2qcow/ext"
)

// Symlinks that programs read differently: damage only where no reading is
// sound, and all that a reading leads to is taken.
func TestDoubtfulSymlinks(t *testing.T) {
	const attributes = 32 // sectors that i_blocks counts for an attribute value in an inode
	for _, c := range []struct {
		what    string
		eaInode bool
		size    uint64
		blocks  uint32 // sectors
		target  string // i_block, where no block is asked for
		damage  bool
		kind    Kind // of the block that i_block[0] numbers; kinds if it is not taken
	}{
		{what: "text, ea_inode", eaInode: true, size: 3, blocks: attributes, target: "bob", kind: kinds},
		{what: "text that is the number of a block, ea_inode", eaInode: true, size: 2, blocks: attributes, target: "a\x01", kind: kinds},
		{what: "text that is the number of a block", size: 2, blocks: attributes, target: "a\x01", kind: Claimed},
		{what: "text without its end", eaInode: true, size: 7, blocks: attributes, target: "bob", damage: true, kind: kinds},
		{what: "a short target in a block", size: 20, blocks: 8, kind: Symlink},
		{what: "a short target in a block, ea_inode", eaInode: true, size: 20, blocks: 8, kind: Symlink},
		{what: "a long target", eaInode: true, size: 90, blocks: 8, kind: Symlink},
		{what: "a long target nowhere", eaInode: true, size: 90, blocks: 8, target: "bob", damage: true, kind: kinds},
	} {
		t.Run(c.what, func(t *testing.T) {
			l := layout{blocks: 2000, incompat: ext.IncompatFiletype | ext.IncompatExtents | ext.Incompat64bit | ext.IncompatFlexBg}
			if c.eaInode {
				l.incompat |= ext.IncompatEaInode
			}
			fs := newSynthetic(l)
			iblock := make([]byte, ext.IBlockSize)
			if copy(iblock, c.target) == 0 {
				binary.LittleEndian.PutUint32(iblock, uint32(fs.block([]byte("target"))))
			}
			fs.inode(12, modeSymlink, 0, c.size, iblock)
			const iBlocksLo = 0x1C
			fs.put(int64(fs.table)*int64(fs.blockSize)+11*int64(fs.inodeSize)+iBlocksLo, le.AppendUint32(nil, c.blocks))
			res := scanBounded(t, fs, fs.size, Options{})
			if got := hasProblem(res, BadBlockPointer); got != c.damage {
				t.Errorf("damage %v, want %v: %v", got, c.damage, res.AllProblems())
			}
			block := uint64(binary.LittleEndian.Uint32(iblock))
			for _, k := range []Kind{Symlink, Claimed} {
				if res.Map.Contains(k, block) != (k == c.kind) {
					t.Errorf("block %d: as %v %v", block, k, k != c.kind)
				}
			}
		})
	}
}
