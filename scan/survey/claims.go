package survey

import (
	"encoding/binary"
	"sync"

	"e2qcow/ext"
)

// claimInode takes in the blocks that an inode has.
func (v *visitor) claimInode(ino uint32, in ext.Inode) {
	if block := in.FileACL(v.wide); block != 0 {
		v.share(block)
	}
	flags := in.Flags()
	if flags&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData {
		return
	}
	switch in.Type() {
	case ext.ModeRegular, ext.ModeDir:
	case ext.ModeSymlink:
		if flags&ext.FlagExtents == 0 && in.SymlinkTarget(v.wide, v.geo.ClusterSize)&ext.TargetInInode != 0 {
			return
		}
	default:
		if ino >= v.geo.FirstInode {
			return
		}
	}
	if flags&ext.FlagExtents != 0 {
		if node := ext.ExtentNode(in.IBlock()); node.Valid() {
			v.claimNode(node)
		}
		return
	}
	v.claimPointers(in.IBlock())
}

// share takes in a block that several inodes may have.
func (v *visitor) share(block uint64) {
	if v.geo.ValidBlock(block) {
		g := v.geo.GroupOf(block)
		bit := (block - v.geo.GroupFirstBlock(g)) / uint64(v.geo.ClusterSize/v.geo.BlockSize)
		v.claims.set(g, bit, bit+1)
	}
}

// multiple counts the blocks that more than one claim.
type multiple struct {
	mu    sync.Mutex
	count uint64
	first uint64 // block
}

func (m *multiple) add(n, block uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count == 0 || block < m.first {
		m.first = block
	}
	m.count += n
}

// claimNode takes in the blocks to which a node of an extent tree points.
func (v *visitor) claimNode(node ext.ExtentNode) {
	_, n := node.Count()
	for i := range n {
		if node.Depth() > 0 {
			child, _ := node.Index(i)
			v.claim(child, 1)
			continue
		}
		x := node.Extent(i)
		v.claim(x.Start, uint64(x.Len))
	}
}

// claimPointers takes in blocks by their numbers, 32 bits each. Those that
// follow each other are taken in together.
func (v *visitor) claimPointers(list []byte) {
	start, n := uint64(0), uint64(0)
	for ; len(list) >= 4; list = list[4:] {
		block := uint64(binary.LittleEndian.Uint32(list))
		if n > 0 && block == start+n {
			n++
			continue
		}
		if n > 0 {
			v.claim(start, n)
		}
		start, n = block, min(block, 1) // 0 is a hole
	}
	if n > 0 {
		v.claim(start, n)
	}
}

// claim takes in n blocks from start. e2fsck refuses a run that does not lie
// wholly in the filesystem.
func (v *visitor) claim(start, n uint64) {
	if n == 0 || !v.geo.ValidBlock(start) || n > v.geo.BlocksCount-start {
		return
	}
	ratio := uint64(v.geo.ClusterSize / v.geo.BlockSize)
	for n > 0 {
		g := v.geo.GroupOf(start)
		first := start - v.geo.GroupFirstBlock(g)
		count := min(n, uint64(v.geo.BlocksPerGroup)-first)
		if again, lowest := v.claims.set(g, first/ratio, (first+count+ratio-1)/ratio); again > 0 && v.counts {
			v.multiple.add(again, v.geo.GroupFirstBlock(g)+lowest)
		}
		start, n = start+count, n-count
	}
}
