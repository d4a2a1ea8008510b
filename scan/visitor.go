package scan

import (
	"cmp"
	"iter"
	"slices"

	"e2qcow/ext"
)

// A Visitor gets the structures that a scan reads. Several goroutines call it
// at once, in any order, but an inode comes before the blocks to which it
// points. Some structures come more than once. The arguments belong to the
// scan: a Visitor must neither keep nor change them.
type Visitor interface {
	// Inode is shown an inode, in use or not.
	Inode(ino uint32, in ext.Inode)

	// Directory is shown a block that the inode ino claims as a directory's,
	// whether it is one or not.
	Directory(ino uint32, block uint64, data []byte)

	// Attributes is shown a block that an inode claims for its attributes.
	Attributes(block uint64, data []byte)

	// Extents gets a block that the inode ino claims as a node of its extent
	// tree and that has the magic number of a node.
	Extents(ino uint32, block uint64, data []byte)

	// Indirect gets a block that the inode ino claims as an indirect block, and
	// whether its numbers are those of blocks of the file, and not of indirect
	// blocks.
	Indirect(ino uint32, block uint64, leaves bool, data []byte)

	// Pointers gets the number of a block that something claims as an indirect
	// block, although most of its words are not block numbers.
	Pointers(block uint64)
}

// A LossVisitor is a Visitor that needs to know which blocks are incomplete.
type LossVisitor interface {
	// Lost is called with the number of a block before the block is shown, if a
	// part of the block could not be read and is zero.
	Lost(block uint64)
}

// tellLost tells a LossVisitor that a part of a block is lost.
func (s *scanner) tellLost(b *batch, block uint64) {
	bs := int64(s.geo.BlockSize)
	if len(b.lost) == 0 || !b.unread(int64(block)*bs, bs) {
		return
	}
	if v, ok := s.visitor.(LossVisitor); ok {
		v.Lost(block)
	}
}

// nobody is the visitor of a scan without a visitor.
type nobody struct{}

func (nobody) Inode(uint32, ext.Inode)          {}
func (nobody) Directory(uint32, uint64, []byte) {}
func (nobody) Attributes(uint64, []byte)        {}
func (nobody) Extents(uint32, uint64, []byte)   {}
func (nobody) Pointers(uint64)                  {}

func (nobody) Indirect(uint32, uint64, bool, []byte) {}

// A TableRun is a run of blocks of inode tables, and which inodes they hold.
type TableRun struct {
	Start, Count uint64 // blocks
	First        uint32 // inode
	InodeSize    uint32 // bytes
	BlockSize    uint32 // bytes; what Start and Count count
}

// A Reading is a way in which the scan has read the filesystem: by which
// superblock, and whether as it is or as journal replay would leave it.
type Reading struct {
	Super    *ext.Superblock
	Geometry *ext.Geometry
	Replayed bool // as journal replay would leave it

	scanner *scanner
}

// Tables yields the inode tables of a reading, in order of groups. Tables that
// lie together, as with flex_bg, come as one.
func (r *Reading) Tables() iter.Seq[TableRun] {
	return func(yield func(TableRun) bool) {
		geo := r.Geometry
		var run TableRun
		for g, block := range r.scanner.tables {
			if block == 0 {
				continue
			}
			first := uint32(g)*geo.InodesPerGroup + 1
			if block == run.Start+run.Count && uint64(first) == uint64(run.First)+run.Count*uint64(geo.InodesPerBlock()) {
				run.Count += uint64(geo.TableBlocks)
				continue
			}
			if run.Count > 0 && !yield(run) {
				return
			}
			run = TableRun{block, uint64(geo.TableBlocks), first, geo.InodeSize, geo.BlockSize}
		}
		if run.Count > 0 {
			yield(run)
		}
	}
}

// ReadInode returns an inode under the reading; false if no table contains it.
func (r *Reading) ReadInode(ino uint32) (ext.Inode, bool) {
	in := make(ext.Inode, r.Geometry.InodeSize)
	if !r.scanner.geo.ValidInode(ino) || !r.scanner.readInode(in, ino) {
		return nil, false
	}
	return in, true
}

// Visitor returns the visitor to which the structures of the reading were
// shown.
func (r *Reading) Visitor() Visitor { return r.scanner.visitor }

// Groups returns the number of groups whose descriptors the scan has read.
func (r *Reading) Groups() uint32 { return r.scanner.groups }

// ReadBlock fills p, of the size of a block, with a block under the reading.
// Unreadable bytes are zero.
func (r *Reading) ReadBlock(n uint64, p []byte) {
	r.scanner.dev.read(p, int64(n)*int64(len(p)))
}

// ReadBlocks fills p, whole blocks, from block n under the reading. Unreadable
// bytes are zero.
func (r *Reading) ReadBlocks(n uint64, p []byte) {
	r.scanner.dev.read(p, int64(n)*int64(r.Geometry.BlockSize))
}

// DescBlock returns block i of the group descriptor table that the reading
// uses.
func (r *Reading) DescBlock(i uint32) uint64 { return r.Geometry.DescBlock(r.scanner.descGroup, i) }

// MapFile returns the places of the blocks of a file, in the order of the file.
// It reads at most nodes nodes of the tree.
func (r *Reading) MapFile(in ext.Inode, nodes int) []ext.Extent {
	file, _ := r.scanner.mapFile(in.IBlock(), in.Flags()&ext.FlagExtents != 0, nodes)
	return file
}

// MapClaims is MapFile with the blocks that a damaged file claims outside the
// filesystem.
func (r *Reading) MapClaims(in ext.Inode, nodes int) []ext.Extent {
	file, _ := r.scanner.mapAs(&mapper{s: r.scanner, left: nodes, all: true}, in.IBlock(), in.Flags()&ext.FlagExtents != 0)
	return file
}

// Journal returns the places of the blocks of the journal, in the order of the
// journal; nil if there is none. The first is the journal superblock. On a
// journal device its number is not 0, because numbers count from the start of
// the device.
func (r *Reading) Journal() FileMap { return r.scanner.journalFile }

// Readings returns the ways in which the filesystem has been read. Inodes can
// be read again after a scan with a Visitor or with Options.Reread only: without,
// nothing is kept that says where they are.
func (r *Result) Readings() []Reading { return r.readings }

// keep remembers a scanner for Readings.
func (r *Result) keep(s *scanner) {
	r.readings = append(r.readings, Reading{Super: s.sb, Geometry: s.geo, scanner: s})
	if after := s.after; after != nil && s.opt.Visit != nil {
		after.retire()
		r.readings = append(r.readings, Reading{Super: after.sb, Geometry: after.geo, Replayed: true, scanner: after})
	}
	s.after = nil
}

// compareTables orders inode tables by place.
func compareTables(a, b TableRun) int { return cmp.Compare(a.Start, b.Start) }

// TableRuns returns the inode tables of all readings, ascending.
func (r *Result) TableRuns() []TableRun {
	var list []TableRun
	for i := range r.readings {
		list = slices.AppendSeq(list, r.readings[i].Tables())
	}
	slices.SortStableFunc(list, compareTables)
	return slices.CompactFunc(list, func(a, b TableRun) bool { return a == b })
}

// newVisitor returns the visitor of a scanner.
func (s *scanner) newVisitor() Visitor {
	if s.opt.Visit == nil {
		return nobody{}
	}
	return s.opt.Visit(s.sb, s.geo)
}
