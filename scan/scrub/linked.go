package scrub

import (
	"sync"

	"e2qcow/ext"
)

// The checksum of a directory block, and that of a block of an extent tree,
// begins with the number and the generation of an inode. Only the scan knows
// whose block it shows, so there the checksums are verified, and the blocks are
// noted whose checksum is wrong.

// generations has the generations of the inodes that such blocks belong to, by
// pages of inodes. Each page holds one inode at least.
type generations struct {
	mu    sync.RWMutex
	pages map[uint32]*[generationPage]uint32
}

const generationPage = 32

func (g *generations) set(ino, generation uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pages == nil {
		g.pages = map[uint32]*[generationPage]uint32{}
	}
	page := g.pages[ino/generationPage]
	if page == nil {
		page = new([generationPage]uint32)
		g.pages[ino/generationPage] = page
	}
	page[ino%generationPage] = generation
}

func (g *generations) get(ino uint32) uint32 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if page := g.pages[ino/generationPage]; page != nil {
		return page[ino%generationPage]
	}
	return 0
}

// noteGeneration keeps the generation of an inode that has blocks with
// checksums of its own.
func (v *visitor) noteGeneration(ino uint32, in ext.Inode) {
	if !v.sums {
		return
	}
	node := ext.ExtentNode(in.IBlock())
	if in.Type() == ext.ModeDir || in.Flags()&ext.FlagIndex != 0 || node.Valid() && node.Depth() > 0 {
		v.x.generations.set(ino, in.Generation())
	}
}

// verify notes a block whose checksum is wrong.
func (v *visitor) verify(ino uint32, block uint64, data []byte, right func(seed uint32, data []byte) bool) {
	if !v.sums || right(ext.InodeSeed(v.sb.ChecksumSeed(), ino, v.x.generations.get(ino)), data) {
		return
	}
	v.x.mu.Lock()
	defer v.x.mu.Unlock()
	v.x.wrong[block] = struct{}{}
}

// Extents verifies the checksum of a block of an extent tree.
func (v *visitor) Extents(ino uint32, block uint64, data []byte) {
	v.verify(ino, block, data, ext.VerifyExtentBlock)
}

// linkedRight tells whether the checksum of a block was right for each inode
// that claims it.
func (x *Index) linkedRight(block uint64) bool {
	_, wrong := x.wrong[block]
	return !wrong
}

// copyRight tells whether the checksum of a copy of block n in a journal is
// right: seed, which is what a right one adds to the sum of the copy, has to be
// that of the block in some reading.
func (s *scrubber) copyRight(n uint64, seed uint32) bool {
	block := make([]byte, s.blockSize)
	for i := range s.readings {
		if int(s.readings[i].Geometry.BlockSize) != s.blockSize {
			continue
		}
		s.readings[i].ReadBlock(n, block)
		if sum, at, ok := ext.DirBlockChecksum(0, block); ok && le.Uint32(block[at:])^sum == seed {
			return true
		}
		if sum, ok := ext.ExtentBlockChecksum(0, block); ok && le.Uint32(ext.ExtentChecksumField(block))^sum == seed {
			return true
		}
	}
	return false
}
