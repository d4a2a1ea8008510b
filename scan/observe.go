package scan

import (
	"cmp"
	"iter"
	"slices"

	"e2qcow/ext"
)

// A Visitor is shown structures as a scan reads them: by several goroutines at
// once, in no order but that an inode comes before what it points to, and some
// more than once. What it is given is the scan's: not to be kept or changed.
type Visitor interface {
	// Inode is shown an inode, in use or not.
	Inode(ino uint32, in ext.Inode)

	// Directory is shown a block that the inode ino claims as a directory's,
	// whether it is one or not.
	Directory(ino uint32, block uint64, data []byte)

	// Attributes is shown a block that an inode claims for its attributes.
	Attributes(block uint64, data []byte)

	// Extents is shown a block that the inode ino claims as a node of its extent
	// tree, and that has the magic number of one.
	Extents(ino uint32, block uint64, data []byte)

	// Pointers is shown the number of a block that something claims as an
	// indirect one, though most of what it holds are no block numbers.
	Pointers(block uint64)
}

// nobody is the visitor of a scan that has none.
type nobody struct{}

func (nobody) Inode(uint32, ext.Inode)          {}
func (nobody) Directory(uint32, uint64, []byte) {}
func (nobody) Attributes(uint64, []byte)        {}
func (nobody) Extents(uint32, uint64, []byte)   {}
func (nobody) Pointers(uint64)                  {}

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

	scanner *scanner
}

// tableRuns yields the inode tables of a reading, in order of groups.
// Tables that lie together, as with flex_bg, come as one.
func (r *Reading) tableRuns() iter.Seq[TableRun] {
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

// ReadInode returns an inode as the reading has it; false where it is on no
// table.
func (r *Reading) ReadInode(ino uint32) (ext.Inode, bool) {
	in := make(ext.Inode, r.Geometry.InodeSize)
	if !r.scanner.geo.ValidInode(ino) || !r.scanner.readInode(in, ino) {
		return nil, false
	}
	return in, true
}

// ReadBlock fills p, of the size of a block, with a block as the reading has
// it. What cannot be read is zero.
func (r *Reading) ReadBlock(n uint64, p []byte) {
	r.scanner.dev.read(p, int64(n)*int64(len(p)))
}

// DescBlock returns block i of the group descriptor table that the reading goes
// by.
func (r *Reading) DescBlock(i uint32) uint64 { return r.Geometry.DescBlock(r.scanner.descGroup, i) }

// MapFile returns where the blocks of a file lie, in the order of the file, as
// far as nodes nodes of its tree say.
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

// Journal returns where the blocks of the journal lie, in its order; nil where
// there is none. The first of them is its superblock, which in a journal device
// is not number 0: that counts from the start of the device.
func (r *Reading) Journal() FileMap { return r.scanner.journalFile }

// Readings returns the ways in which the filesystem has been read. Inodes can
// be read again after a scan with a Visitor only: without, nothing is kept that
// says where they are.
func (r *Result) Readings() []Reading { return r.readings }

// keep remembers a scanner for Readings.
func (r *Result) keep(s *scanner) {
	r.readings = append(r.readings, Reading{Super: s.sb, Geometry: s.geo, scanner: s})
	if after := s.after; after != nil && s.opt.Visit != nil {
		after.retire()
		r.readings = append(r.readings, Reading{Super: after.sb, Geometry: after.geo, scanner: after})
	}
	s.after = nil
}

// compareTables orders inode tables by place.
func compareTables(a, b TableRun) int { return cmp.Compare(a.Start, b.Start) }

// TableRuns returns the inode tables of all readings, ascending.
func (r *Result) TableRuns() []TableRun {
	var list []TableRun
	for i := range r.readings {
		list = slices.AppendSeq(list, r.readings[i].tableRuns())
	}
	slices.SortStableFunc(list, compareTables)
	return slices.CompactFunc(list, func(a, b TableRun) bool { return a == b })
}

// newVisitor returns who is shown what a scanner reads.
func (s *scanner) newVisitor() Visitor {
	if s.opt.Visit == nil {
		return nobody{}
	}
	return s.opt.Visit(s.sb, s.geo)
}
