package e2i

import (
	"errors"
	"io"
	"math"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// A Normal is the normal image of a filesystem, made while it is read. All of
// it is one run.
type Normal struct {
	*layout
	disk   io.ReaderAt
	sb     *ext.Superblock
	header []byte
	table  []byte                 // of descriptors, as much as the disk has
	marks  []ranges.Range[uint64] // blocks in use in groups whose bitmap was never written
}

var _ image.Image = (*Normal)(nil)

// New returns the normal image of the filesystem with that superblock, on a
// disk of size bytes, with the descriptors that belong to the superblock of a
// group. What lies beyond the end of the disk is zero in the image. The error
// is ErrTooLarge or ErrNoTables where there can be no such image, else that of
// a read.
func New(disk io.ReaderAt, size int64, sb *ext.Superblock, group uint32, h Header) (*Normal, error) {
	geo, err := sb.Geometry()
	if err != nil {
		return nil, err
	}
	l, err := newLayout(geo)
	if err != nil {
		return nil, err
	}
	n := &Normal{layout: l, disk: disk, sb: sb, header: h.encode(l, sb.UUID())}
	if err := n.readTable(size, group); err != nil {
		return nil, err
	}
	n.markNeverWritten()
	return n, nil
}

// readTable reads the descriptors.
func (n *Normal) readTable(size int64, group uint32) error {
	for i := range n.geo.DescBlocks {
		block := n.geo.DescBlock(group, i)
		if block >= uint64(size)/uint64(n.blockSize) {
			break
		}
		b := make([]byte, n.blockSize)
		if err := n.read(b, int64(block)*n.blockSize); err != nil {
			return err
		}
		n.table = append(n.table, b...)
	}
	return nil
}

// desc returns the descriptor of a group, if the disk has it.
func (n *Normal) desc(g uint32) (ext.GroupDesc, bool) {
	per := uint64(n.geo.DescsPerBlock())
	at := uint64(g)/per*uint64(n.blockSize) + uint64(g)%per*uint64(n.geo.DescSize)
	if at+uint64(n.geo.DescSize) > uint64(len(n.table)) {
		return nil, false
	}
	return ext.GroupDesc(n.table[at : at+uint64(n.geo.DescSize)]), true
}

// neverWritten tells whether the descriptor of a group says by a flag, and may
// be believed, that a bitmap was never written.
func neverWritten(sb *ext.Superblock, g uint32, d ext.GroupDesc, flag uint16) bool {
	return sb.HasDescChecksums() && d.Flags()&flag != 0 && sb.DescChecksumOK(g, d)
}

// markNeverWritten finds the blocks that groups have in use whose block bitmap
// was never written: what it would hold, as libext2fs has it.
func (n *Normal) markNeverWritten() {
	for g := range n.geo.GroupCount {
		d, ok := n.desc(g)
		if !ok {
			break
		}
		if !n.sb.HasDescChecksums() || d.Flags()&ext.BgBlockUninit == 0 {
			continue // whether the checksum is right or not, as there
		}
		first := n.geo.GroupFirstBlock(g)
		n.mark(first, n.geo.GroupHead(g))
		n.mark(d.InodeTable(), uint64(n.geo.TableBlocks))
		n.mark(d.BlockBitmap(), 1)
		n.mark(d.InodeBitmap(), 1)
	}
	n.marks = ranges.Join(n.marks)
}

func (n *Normal) mark(start, count uint64) {
	if count > 0 && n.geo.ValidBlock(start) && count <= n.geo.BlocksCount-start {
		n.marks = append(n.marks, ranges.Range[uint64]{Start: start, End: start + count})
	}
}

// Size returns the length of the image.
func (n *Normal) Size() int64 { return n.size }

// NextRun returns all that is left as a run.
func (n *Normal) NextRun(off int64) (start, end int64, err error) {
	if off >= n.size {
		return 0, 0, io.EOF
	}
	return off, n.size, nil
}

// ReadAt reads the image as io.ReaderAt does.
func (n *Normal) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= n.size {
		return 0, io.EOF
	}
	done := 0
	for done < len(p) && off+int64(done) < n.size {
		k, err := n.part(p[done:], off+int64(done))
		if err != nil {
			return done, err
		}
		done += k
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// part fills the start of p from off, which lies within the image, as far as
// one part of the image goes.
func (n *Normal) part(p []byte, off int64) (int, error) {
	switch {
	case off < n.super:
		return fill(p, n.header, off, n.super), nil
	case off < n.descs:
		return fill(p, n.sb.Bytes(), off-n.super, n.blockSize), nil
	case off < n.inodes:
		return fill(p, n.table, off-n.descs, n.inodes-n.descs), nil
	case off < n.blockBitmaps:
		return n.inodeTable(p, off-n.inodes)
	case off < n.inodeBitmaps:
		return n.bitmap(p, off-n.blockBitmaps, n.blockBitmapSize, n.inodeBitmaps-n.blockBitmaps, n.readBlockBitmap)
	}
	return n.bitmap(p, off-n.inodeBitmaps, n.inodeBitmapSize, n.size-n.inodeBitmaps, n.readInodeBitmap)
}

// fill copies from a part of size bytes, of which the first are data and the
// rest is zero, and returns how much of p that is.
func fill(p, data []byte, off, size int64) int {
	p = p[:min(int64(len(p)), size-off)]
	k := 0
	if off < int64(len(data)) {
		k = copy(p, data[off:])
	}
	clear(p[k:])
	return len(p)
}

// inodeTable reads the table that off lies in.
func (n *Normal) inodeTable(p []byte, off int64) (int, error) {
	g, off := uint32(off/n.tableSize), off%n.tableSize
	p = p[:min(int64(len(p)), n.tableSize-off)]
	d, ok := n.desc(g)
	if !ok || !n.valid(d.InodeTable()) {
		clear(p)
		return len(p), nil
	}
	return len(p), n.read(p, int64(d.InodeTable())*n.blockSize+off)
}

// bitmap reads the bitmap that off lies in, size bytes of all, which end at
// end.
func (n *Normal) bitmap(p []byte, off, size, end int64, read func(b []byte, g uint32) error) (int, error) {
	g, at := off/size, off%size
	if g >= int64(n.geo.GroupCount) {
		return fill(p, nil, off, end), nil
	}
	b := p
	if whole := at == 0 && int64(len(p)) >= size; !whole {
		b = make([]byte, size)
	}
	clear(b[:size])
	if err := read(b[:size], uint32(g)); err != nil {
		return 0, err
	}
	return copy(p, b[at:size]), nil
}

func (n *Normal) readBlockBitmap(b []byte, g uint32) error {
	if d, ok := n.desc(g); ok && n.valid(d.BlockBitmap()) && !neverWritten(n.sb, g, d, ext.BgBlockUninit) {
		if err := n.read(b, int64(d.BlockBitmap())*n.blockSize); err != nil {
			return err
		}
	}
	first := n.geo.GroupFirstBlock(g)
	end := first + uint64(n.geo.BlocksPerGroup)
	ratio := uint64(n.geo.ClusterSize / n.geo.BlockSize)
	for i := ranges.Find(n.marks, first); i < len(n.marks) && n.marks[i].Start < end; i++ {
		from, to := max(n.marks[i].Start, first)-first, min(n.marks[i].End, end)-first
		for bit := from / ratio; bit <= (to-1)/ratio; bit++ {
			b[bit/8] |= 1 << (bit % 8)
		}
	}
	return nil
}

func (n *Normal) readInodeBitmap(b []byte, g uint32) error {
	d, ok := n.desc(g)
	if !ok || !n.valid(d.InodeBitmap()) || neverWritten(n.sb, g, d, ext.BgInodeUninit) {
		return nil
	}
	return n.read(b, int64(d.InodeBitmap())*n.blockSize)
}

// valid tells whether something may stand in a block, and its place be
// counted in bytes.
func (n *Normal) valid(block uint64) bool {
	return n.geo.ValidBlock(block) && block < math.MaxInt64/uint64(n.blockSize)-uint64(n.geo.TableBlocks)
}

// read fills p from off on the disk. Beyond its end all is zero.
func (n *Normal) read(p []byte, off int64) error {
	k, err := n.disk.ReadAt(p, off)
	clear(p[k:])
	if k < len(p) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
