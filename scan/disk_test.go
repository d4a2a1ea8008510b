package scan

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sort"
	"sync/atomic"

	"e2qcow/ext"
)

// A disk is a sparse device in memory of any size: runs that repeat a unit of
// bytes, and above them pages of their own. What is neither is zero.
type disk struct {
	size  int64
	runs  []diskRun // ascending, disjoint
	pages map[int64]*[diskPage]byte
}

type diskRun struct {
	start, end int64
	unit       []byte
}

const diskPage = 4096

func newDisk(size int64) *disk { return &disk{size: size, pages: make(map[int64]*[diskPage]byte)} }

// fill repeats a unit over [start, end), which must lie behind all filled so far.
func (d *disk) fill(start, end int64, unit []byte) {
	d.runs = append(d.runs, diskRun{start, end, unit})
}

// put writes bytes.
func (d *disk) put(off int64, b []byte) {
	for len(b) > 0 {
		n := off / diskPage
		page := d.pages[n]
		if page == nil {
			page = new([diskPage]byte)
			d.readRuns(page[:], n*diskPage)
			d.pages[n] = page
		}
		c := copy(page[off%diskPage:], b)
		b, off = b[c:], off+int64(c)
	}
}

func (d *disk) readRuns(p []byte, off int64) {
	clear(p)
	end := off + int64(len(p))
	i := sort.Search(len(d.runs), func(i int) bool { return d.runs[i].end > off })
	for ; i < len(d.runs) && d.runs[i].start < end; i++ {
		r := d.runs[i]
		for at := max(off, r.start); at < min(end, r.end); {
			at += int64(copy(p[at-off:min(end, r.end)-off], r.unit[(at-r.start)%int64(len(r.unit)):]))
		}
	}
}

func (d *disk) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= d.size {
		return 0, io.EOF
	}
	if rest := d.size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	d.readRuns(p, off)
	for at := off; at < off+int64(len(p)); {
		n := at / diskPage
		next := min((n+1)*diskPage, off+int64(len(p)))
		if page := d.pages[n]; page != nil {
			copy(p[at-off:next-off], page[at%diskPage:])
		}
		at = next
	}
	return len(p), err
}

// A badDisk fails where a read touches one of its bad sectors: what comes
// before is delivered or, as direct I/O does, nothing is.
type badDisk struct {
	io.ReaderAt
	bad     []int64 // ascending byte offsets of sectors
	nothing bool
	reads   atomic.Int64
	failed  atomic.Int64
}

var errIO = errors.New("input/output error")

func (d *badDisk) ReadAt(p []byte, off int64) (int, error) {
	d.reads.Add(1)
	i := sort.Search(len(d.bad), func(i int) bool { return d.bad[i]+sector > off })
	if i == len(d.bad) || d.bad[i] >= off+int64(len(p)) {
		return d.ReaderAt.ReadAt(p, off)
	}
	d.failed.Add(1)
	if d.nothing || d.bad[i] <= off {
		return 0, errIO
	}
	n, err := d.ReaderAt.ReadAt(p[:d.bad[i]-off], off)
	if err == nil {
		err = errIO
	}
	return n, err
}

// A countingDisk counts reads and bytes.
type countingDisk struct {
	io.ReaderAt
	reads, bytes atomic.Int64
}

func (d *countingDisk) ReadAt(p []byte, off int64) (int, error) {
	d.reads.Add(1)
	d.bytes.Add(int64(len(p)))
	return d.ReaderAt.ReadAt(p, off)
}

// A layout is the handful of superblock fields that a synthetic filesystem is
// made of. Zero fields take what mke2fs would for a small ext4.
type layout struct {
	blockSize      uint32
	blocks         uint64
	perGroup       uint32
	inodesPerGroup uint32
	inodeSize      uint32
	descSize       uint32
	compat         uint32
	incompat       uint32
	roCompat       uint32
	lastOrphan     uint32
}

// A synthetic is a filesystem written by hand on a disk: what mke2fs would
// never make.
type synthetic struct {
	*disk
	layout
	first  uint32 // s_first_data_block
	groups uint64
	table  uint64 // block of group 0's inode table
	free   uint64 // first block that nothing was put into
}

var le = binary.LittleEndian

// Offsets in struct ext4_super_block.
const (
	sbInodesCount    = 0x00
	sbBlocksCountLo  = 0x04
	sbFirstDataBlock = 0x14
	sbLogBlockSize   = 0x18
	sbLogClusterSize = 0x1C
	sbBlocksPerGroup = 0x20
	sbInodesPerGroup = 0x28
	sbMagic          = 0x38
	sbRevLevel       = 0x4C
	sbFirstIno       = 0x54
	sbInodeSize      = 0x58
	sbCompat         = 0x5C
	sbIncompat       = 0x60
	sbRoCompat       = 0x64
	sbJournalInum    = 0xE0
	sbLastOrphan     = 0xE8
	sbDescSize       = 0xFE
	sbFirstMetaBg    = 0x104
	sbBlocksCountHi  = 0x150
)

func newSynthetic(l layout) *synthetic {
	if l.blockSize == 0 {
		l.blockSize = 4096
	}
	if l.blocks == 0 {
		l.blocks = 4096
	}
	if l.perGroup == 0 {
		l.perGroup = 8 * l.blockSize
	}
	if l.inodesPerGroup == 0 {
		l.inodesPerGroup = 512
	}
	if l.inodeSize == 0 {
		l.inodeSize = 256
	}
	if l.descSize == 0 {
		l.descSize = 64
	}
	if l.incompat == 0 {
		l.incompat = ext.IncompatFiletype | ext.IncompatExtents | ext.Incompat64bit | ext.IncompatFlexBg
	}
	if l.roCompat == 0 {
		l.roCompat = ext.RoCompatSparseSuper
	}
	s := &synthetic{layout: l, disk: newDisk(int64(l.blocks) * int64(l.blockSize))}
	logSize := uint32(0)
	for ext.MinBlockSize<<logSize < l.blockSize {
		logSize++
	}
	if l.blockSize == ext.MinBlockSize {
		s.first = 1
	}
	s.groups = (l.blocks - uint64(s.first) + uint64(l.perGroup) - 1) / uint64(l.perGroup)
	sb := make([]byte, ext.SuperblockSize)
	le.PutUint32(sb[sbInodesCount:], uint32(s.groups)*l.inodesPerGroup)
	le.PutUint32(sb[sbBlocksCountLo:], uint32(l.blocks))
	le.PutUint32(sb[sbBlocksCountHi:], uint32(l.blocks>>32))
	le.PutUint32(sb[sbFirstDataBlock:], s.first)
	le.PutUint32(sb[sbLogBlockSize:], logSize)
	le.PutUint32(sb[sbLogClusterSize:], logSize)
	le.PutUint32(sb[sbBlocksPerGroup:], l.perGroup)
	le.PutUint32(sb[sbInodesPerGroup:], l.inodesPerGroup)
	le.PutUint16(sb[sbMagic:], 0xEF53)
	le.PutUint32(sb[sbRevLevel:], 1)
	le.PutUint32(sb[sbFirstIno:], 11)
	le.PutUint16(sb[sbInodeSize:], uint16(l.inodeSize))
	le.PutUint32(sb[sbCompat:], l.compat)
	le.PutUint32(sb[sbIncompat:], l.incompat)
	le.PutUint32(sb[sbRoCompat:], l.roCompat)
	le.PutUint32(sb[sbLastOrphan:], l.lastOrphan)
	le.PutUint16(sb[sbDescSize:], uint16(l.descSize))
	s.put(ext.SuperblockOffset, sb)

	perBlock := uint64(l.blockSize / s.realDescSize())
	descBlocks := (s.groups + perBlock - 1) / perBlock
	s.table = uint64(s.first) + 1 + descBlocks + 2
	s.free = s.table + uint64(l.inodesPerGroup)*uint64(l.inodeSize)/uint64(l.blockSize)
	s.setDesc(0, s.table-2, s.table-1, s.table)
	return s
}

// realDescSize is the descriptor size that the features say.
func (s *synthetic) realDescSize() uint32 {
	if s.incompat&ext.Incompat64bit == 0 || s.descSize < 32 {
		return 32
	}
	return s.descSize
}

// super changes a field of the superblock.
func (s *synthetic) super(off int64, v uint32) {
	s.put(ext.SuperblockOffset+off, le.AppendUint32(nil, v))
}

// setDesc writes where a group's bitmaps and inode table are.
func (s *synthetic) setDesc(group uint64, blockBitmap, inodeBitmap, inodeTable uint64) {
	size := s.realDescSize()
	d := make([]byte, size)
	for i, b := range [...]uint64{blockBitmap, inodeBitmap, inodeTable} {
		le.PutUint32(d[4*i:], uint32(b))
		if size >= 64 {
			le.PutUint32(d[0x20+4*i:], uint32(b>>32))
		}
	}
	s.put(int64(s.first+1)*int64(s.blockSize)+int64(group)*int64(size), d)
}

// inode writes an inode of group 0.
func (s *synthetic) inode(ino uint32, mode uint16, flags uint32, size uint64, iblock []byte) {
	in := make([]byte, s.inodeSize)
	le.PutUint16(in, mode)
	le.PutUint32(in[4:], uint32(size))
	le.PutUint32(in[0x6C:], uint32(size>>32))
	le.PutUint16(in[0x1A:], 1)
	le.PutUint32(in[0x1C:], 8)
	le.PutUint32(in[0x20:], flags)
	copy(in[0x28:0x28+ext.IBlockSize], iblock)
	s.put(int64(s.table)*int64(s.blockSize)+int64(ino-1)*int64(s.inodeSize), in)
}

// block writes a block and returns its number.
func (s *synthetic) block(b []byte) uint64 {
	n := s.free
	s.put(int64(n)*int64(s.blockSize), b)
	s.free++
	return n
}

// at writes a block in its place.
func (s *synthetic) at(n uint64, b []byte) { s.put(int64(n)*int64(s.blockSize), b) }

// An entry of an extent node: an extent, or above depth 0 an index.
type entry struct {
	logical uint32
	len     uint16
	block   uint64
}

// extentNode makes a node of size bytes.
func extentNode(size, depth int, entries ...entry) []byte {
	b := make([]byte, size)
	le.PutUint16(b, 0xF30A)
	le.PutUint16(b[2:], uint16(len(entries)))
	le.PutUint16(b[4:], uint16((size-12)/12))
	le.PutUint16(b[6:], uint16(depth))
	for i, e := range entries {
		p := b[12+12*i:]
		le.PutUint32(p, e.logical)
		if depth > 0 {
			le.PutUint32(p[4:], uint32(e.block))
			le.PutUint16(p[8:], uint16(e.block>>32))
		} else {
			le.PutUint16(p[4:], e.len)
			le.PutUint16(p[6:], uint16(e.block>>32))
			le.PutUint32(p[8:], uint32(e.block))
		}
	}
	return b
}

// pointers makes a block of block numbers.
func pointers(size int, blocks ...uint32) []byte {
	b := make([]byte, size)
	for i, n := range blocks {
		le.PutUint32(b[4*i:], n)
	}
	return b
}

// runsOf lists the blocks of a kind.
func runsOf(m *Map, kind Kind) []uint64 {
	var blocks []uint64
	for start, end := range m.sets[kind].runs() {
		for ; start < end; start++ {
			blocks = append(blocks, start)
		}
	}
	return blocks
}

func sorted(blocks ...uint64) []uint64 {
	slices.Sort(blocks)
	return slices.Compact(blocks)
}
