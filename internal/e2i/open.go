package e2i

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"

	"e2qcow/ext"
	"e2qcow/image"
)

// An Image is the disk of a normal image. Its runs are the superblock, the
// descriptors, the inode tables, and the bitmaps that were ever written. Its
// methods are safe for concurrent use.
type Image struct {
	*layout
	r      io.ReaderAt
	sb     *ext.Superblock
	origin Header
	disk   int64
	pieces []piece // ascending, disjoint
}

var _ image.Image = (*Image)(nil)

// maxGroups bounds the memory for pieces, 100 bytes a group while they are sorted.
// The 4 GiB that a normal image can be long hold the tables of some thousand
// groups of the usual size.
const maxGroups = 1 << 20

// A piece is a stretch of the disk and where it stands in the file.
type piece struct {
	disk, n int64
	file    int64
	bits    int64 // of a bitmap: how many of them stand in the file; else 0
}

func (p piece) end() int64 { return p.disk + p.n }

// Open opens the image in the first size bytes of r. The error is ErrNotE2i
// where the magic is missing, ErrTooLarge where offsets must have wrapped, ErrGroups, a
// *CorruptError for damage, io.ErrUnexpectedEOF in it where the end is missing.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	header := make([]byte, headerSize)
	if k, err := r.ReadAt(header, 0); k < len(header) {
		if k >= HeadSize && Is(header) && errors.Is(err, io.EOF) {
			return nil, &CorruptError{What: "header", Err: io.ErrUnexpectedEOF}
		}
		if errors.Is(err, io.EOF) {
			err = ErrNotE2i
		}
		return nil, err
	}
	if !Is(header) {
		return nil, ErrNotE2i
	}
	m := &Image{r: r, origin: decodeHeader(header)}
	if err := m.readSuperblock(header); err != nil {
		return nil, err
	}
	if m.size > size {
		return nil, &CorruptError{What: fmt.Sprintf("it has %d bytes of %d", size, m.size), Err: io.ErrUnexpectedEOF}
	}
	for field, off := range m.offsets() {
		if got := binary.LittleEndian.Uint32(header[field:]); int64(got) != off {
			return nil, corrupt("offset %d in the header (byte %d) where the superblock says %d", got, field, off)
		}
	}
	return m, m.findPieces()
}

// readSuperblock reads the superblock and derives the layout from it.
func (m *Image) readSuperblock(header []byte) error {
	blockSize := binary.LittleEndian.Uint32(header[hdrBlockSize:])
	if blockSize < ext.MinBlockSize || blockSize > ext.MaxBlockSize || blockSize&(blockSize-1) != 0 {
		return corrupt("block size %d", blockSize)
	}
	b := make([]byte, ext.SuperblockSize)
	if k, err := m.r.ReadAt(b, int64(blockSize)); k < len(b) {
		if errors.Is(err, io.EOF) {
			err = &CorruptError{What: "superblock", Err: io.ErrUnexpectedEOF}
		}
		return err
	}
	var err error
	if m.sb, err = ext.DecodeSuperblock(b); err != nil {
		return &CorruptError{What: "superblock", Err: err}
	}
	geo, err := m.sb.Geometry()
	if err != nil {
		return &CorruptError{What: "superblock", Err: err}
	}
	if geo.BlockSize != blockSize {
		return corrupt("block size %d in the header, %d in the superblock", blockSize, geo.BlockSize)
	}
	if geo.BlocksCount > (math.MaxInt64>>1)/uint64(blockSize) {
		return corrupt("a filesystem of %d blocks", geo.BlocksCount)
	}
	if geo.GroupCount > maxGroups {
		return fmt.Errorf("%d groups: %w, of which %d are read", geo.GroupCount, ErrGroups, maxGroups)
	}
	m.disk = int64(geo.BlocksCount) * int64(blockSize)
	if m.layout, err = newLayout(geo); errors.Is(err, ErrNoTables) {
		return &CorruptError{What: "superblock", Err: err}
	}
	return err
}

// findPieces reads the descriptors and finds where things belong on the disk.
// Where they say that two things stand at one place, the superblock and the
// descriptors have it, then bitmaps, then the first of the tables.
func (m *Image) findPieces() error {
	top := []piece{{disk: ext.SuperblockOffset, n: ext.SuperblockSize, file: m.super}}
	// The file has room for a table of each group: so many there are.
	bitmaps := make([]piece, 0, 2*m.geo.GroupCount)
	tables := make([]piece, 0, m.geo.GroupCount)
	buf := make([]byte, m.blockSize)
	per := m.geo.DescsPerBlock()
	for i := range m.geo.DescBlocks {
		file := m.descs + int64(i)*m.blockSize
		if k, err := m.r.ReadAt(buf, file); k < len(buf) {
			return fmt.Errorf("read descriptors at %d: %w", file, unexpectedEOF(err))
		}
		if block := m.geo.DescBlock(0, i); m.geo.ValidBlock(block) {
			top = append(top, piece{disk: int64(block) * m.blockSize, n: m.blockSize, file: file})
		}
		for k := range per {
			g := i*per + k
			if g >= m.geo.GroupCount {
				break
			}
			d := ext.GroupDesc(buf[k*m.geo.DescSize : (k+1)*m.geo.DescSize])
			bitmaps = m.addBitmaps(bitmaps, g, d)
			if t := d.InodeTable(); m.geo.ValidBlock(t) && uint64(m.geo.TableBlocks) <= m.geo.BlocksCount-t {
				tables = append(tables, piece{disk: int64(t) * m.blockSize, n: m.tableSize, file: m.inodes + int64(g)*m.tableSize})
			}
		}
	}
	top = overlay(settle(top), settle(bitmaps))
	m.pieces = overlay(top, settle(tables))
	return nil
}

// addBitmaps adds those of a group that were ever written.
func (m *Image) addBitmaps(list []piece, g uint32, d ext.GroupDesc) []piece {
	add := func(block uint64, flag uint16, file, bits int64) {
		if m.geo.ValidBlock(block) && !neverWritten(m.sb, g, d, flag) {
			list = append(list, piece{disk: int64(block) * m.blockSize, n: m.blockSize, file: file, bits: bits})
		}
	}
	blocks := min(uint64(m.geo.BlocksPerGroup), m.geo.BlocksCount-m.geo.GroupFirstBlock(g))
	ratio := uint64(m.geo.ClusterSize / m.geo.BlockSize)
	add(d.BlockBitmap(), ext.BgBlockUninit, m.blockBitmaps+int64(g)*m.blockBitmapSize, int64((blocks+ratio-1)/ratio))
	add(d.InodeBitmap(), ext.BgInodeUninit, m.inodeBitmaps+int64(g)*m.inodeBitmapSize, int64(m.geo.InodesPerGroup))
	return list
}

// settle sorts pieces and cuts from each what one that begins before it has.
func settle(list []piece) []piece {
	slices.SortStableFunc(list, func(a, b piece) int { return cmp.Compare(a.disk, b.disk) })
	out, end := list[:0], int64(0)
	for _, p := range list {
		if p = p.from(end); p.n > 0 {
			out, end = append(out, p), p.end()
		}
	}
	return out
}

// from returns what of a piece is not before off.
func (p piece) from(off int64) piece {
	k := min(max(off-p.disk, 0), p.n)
	if k > 0 && p.bits > 0 {
		return piece{} // blocks: a bitmap is cut as a whole
	}
	p.disk, p.file, p.n = p.disk+k, p.file+k, p.n-k
	return p
}

// overlay returns the pieces of high and, where it has none, those of low.
func overlay(high, low []piece) []piece {
	out := make([]piece, 0, len(high)+len(low))
	first := 0 // of high, those before it end before p
	for _, p := range low {
		for first < len(high) && high[first].end() <= p.disk {
			first++
		}
		for i := first; p.n > 0; i++ {
			if i == len(high) || high[i].disk >= p.end() {
				out = append(out, p)
				break
			}
			if head := p; p.bits == 0 && high[i].disk > p.disk {
				head.n = high[i].disk - p.disk
				out = append(out, head)
			}
			p = p.from(high[i].end())
		}
	}
	return settle(append(out, high...))
}

// Superblock returns the superblock in the image.
func (m *Image) Superblock() *ext.Superblock { return m.sb }

// Origin returns what the header says of where the image comes from.
func (m *Image) Origin() Header { return m.origin }

// Size returns the size of the filesystem in bytes.
func (m *Image) Size() int64 { return m.disk }

// next returns the index of the first piece that ends behind off.
func (m *Image) next(off int64) int {
	return sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].end() > off })
}

// NextRun returns the next piece as image.Image says.
func (m *Image) NextRun(off int64) (start, end int64, err error) {
	if i := m.next(off); off < m.disk && i < len(m.pieces) {
		return max(off, m.pieces[i].disk), m.pieces[i].end(), nil
	}
	return 0, 0, io.EOF
}

// ReadAt reads the disk as io.ReaderAt does.
func (m *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= m.disk {
		return 0, io.EOF
	}
	if rest := m.disk - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	done := 0
	for i := m.next(off); done < len(p) && i < len(m.pieces); i++ {
		at := off + int64(done)
		gap := min(max(m.pieces[i].disk-at, 0), int64(len(p)-done))
		clear(p[done:][:gap])
		done += int(gap)
		if done == len(p) {
			break
		}
		k := min(m.pieces[i].end()-at-gap, int64(len(p)-done))
		if err := m.readPiece(p[done:][:k], m.pieces[i], at+gap-m.pieces[i].disk); err != nil {
			return done, err
		}
		done += int(k)
	}
	clear(p[done:])
	return len(p), err
}

// readPiece fills b from the byte at of a piece.
func (m *Image) readPiece(b []byte, p piece, at int64) error {
	data := b
	if p.bits > 0 {
		// Behind its bits a bitmap on a disk is ones.
		stored := (p.bits + 7) / 8
		data = b[:min(max(stored-at, 0), int64(len(b)))]
		for i := range b[len(data):] {
			b[len(data)+i] = 0xff
		}
	}
	if k, err := m.r.ReadAt(data, p.file+at); k < len(data) {
		return fmt.Errorf("read at %d: %w", p.file+at, unexpectedEOF(err))
	}
	if last := p.bits / 8; p.bits%8 != 0 && last >= at && last < at+int64(len(data)) {
		data[last-at] |= 0xff << (p.bits % 8)
	}
	return nil
}

func unexpectedEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
