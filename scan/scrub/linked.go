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

// linkedRight tells whether the checksum of block n, or of a copy of it in a
// journal, is right.
func (s *scrubber) linkedRight(d *drawer, n uint64, block []byte, verify func(seed uint32, block []byte) bool) bool {
	_, wrong := s.index.wrong[n]
	owner := s.index.ownerOf(n)
	switch {
	case !s.sums:
		return false
	case !d.copied && !wrong:
		return true
	case owner == 0:
		return !wrong && s.likeBlock(n, block)
	}
	if s.rightFor(owner, block, verify) {
		return true
	}
	for _, ino := range s.index.shared[n] {
		if s.rightFor(ino, block, verify) {
			return true
		}
	}
	return false
}

// rightFor tells whether the checksum of a block is right if it belongs to an
// inode, in some reading.
func (s *scrubber) rightFor(ino uint32, block []byte, verify func(seed uint32, block []byte) bool) bool {
	generation := s.index.generations.get(ino)
	for i := range s.readings {
		r := &s.readings[i]
		if verify(ext.InodeSeed(r.Super.ChecksumSeed(), ino, generation), block) {
			return true
		}
		if in, ok := r.ReadInode(ino); ok && verify(ext.InodeSeed(r.Super.ChecksumSeed(), ino, in.Generation()), block) {
			return true
		}
	}
	return false
}

// likeBlock tells whether the checksum of a copy of a block of an extent tree is
// right if that of the block is, in some reading: what it adds to the sum of the
// block with the seed zero is the seed of its inode, carried over the block.
func (s *scrubber) likeBlock(n uint64, copied []byte) bool {
	added := func(b []byte) (uint32, bool) {
		sum, ok := ext.ExtentBlockChecksum(0, b)
		if !ok {
			return 0, false
		}
		return le.Uint32(ext.ExtentChecksumField(b)) ^ sum, true
	}
	want, ok := added(copied)
	block := make([]byte, s.blockSize)
	for i := 0; ok && i < len(s.readings); i++ {
		if r := &s.readings[i]; int(r.Geometry.BlockSize) == s.blockSize {
			r.ReadBlock(n, block)
			if got, ok := added(block); ok && got == want && ext.ExtentNode(block).Max() == ext.ExtentNode(copied).Max() {
				return true
			}
		}
	}
	return false
}

// linkedSum returns what takes the place of the checksum of a block whose seed
// is that of its inode. The sums of the format are linear: a right one changes
// by the sum of what changes in the block. before and after are those sums, with
// the seed zero and with what it changes by.
func (d *drawer) linkedSum(stored, before, after uint32, right bool) uint32 {
	return d.sumOf(stored, stored^before^after, right)
}
