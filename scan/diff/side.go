package diff

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/scan"
)

// A side is one of the two images, scanned.
type side struct {
	src      Source
	size     int64 // bytes
	sums     *sums // nil where none are kept
	res      *scan.Result
	readings []scan.Reading
	indexes  []*index // of the readings, in the order in which they began

	// What follows is of the reading that was chosen.
	reading *scan.Reading
	index   *index
	super   *ext.Superblock
	geo     *ext.Geometry
	wide    bool // block numbers have high halves
	sumsOn  bool // metadata_csum
	seed    uint32
	ratio   uint64 // blocks of the map in a block
	tables  []scan.TableRun

	descs map[uint64]uint32 // the blocks of the descriptor table: the first group in each

	lastDir      ext.Inode // of lastDirInode
	lastDirInode uint32
	lastDirFirst uint64 // the block that it begins with

	paths    map[uint32]Name
	pathLeft int64 // bytes that may still be read to find paths
}

// maxPathReads bounds what is read to find paths, in bytes.
const maxPathReads = 256 << 20

// newSide scans an image. What s is given is summed; s may be nil.
func newSide(ctx context.Context, src Source, s *sums, opt scan.Options) (*side, error) {
	sd := &side{src: src, size: src.Size, sums: s, paths: make(map[uint32]Name), pathLeft: maxPathReads}
	opt.Visit = func(sb *ext.Superblock, geo *ext.Geometry) scan.Visitor {
		x := &index{super: sb}
		sd.indexes = append(sd.indexes, x)
		return &indexer{x, geo}
	}
	r := src.Reader
	if s != nil {
		r = sumReader(r, s)
	}
	res, err := scan.Scan(ctx, r, src.Size, opt)
	if err != nil {
		return nil, err
	}
	sd.res, sd.readings = res, res.Readings()
	if len(sd.readings) == 0 {
		return nil, ErrUnusable
	}
	// The one that was believed comes first; of others the scan may have ended
	// early.
	slices.SortStableFunc(sd.readings, func(a, b scan.Reading) int {
		believed := func(r scan.Reading) int {
			if r.Super == res.Super() {
				return 0
			}
			return 1
		}
		return cmp.Compare(believed(a), believed(b))
	})
	return sd, nil
}

// choose takes one of the readings to go by.
func (s *side) choose(i int) {
	s.reading = &s.readings[i]
	s.super, s.geo = s.reading.Super, s.reading.Geometry
	for _, x := range s.indexes {
		// Of one superblock, the first is of the filesystem as it is, and another
		// of what journal replay would leave.
		if x.super == s.super {
			s.index = x
			break
		}
	}
	s.index.finish()
	s.indexes = nil
	s.wide = s.super.HasIncompat(ext.Incompat64bit)
	s.sumsOn = s.super.HasRoCompat(ext.RoCompatMetadataCsum)
	s.seed = s.super.ChecksumSeed()
	s.ratio = uint64(s.geo.BlockSize / s.res.BlockSize())
	s.tables = slices.DeleteFunc(s.res.TableRuns(), func(t scan.TableRun) bool {
		return t.BlockSize != s.geo.BlockSize || t.InodeSize != s.geo.InodeSize
	})
}

// has tells whether a block is in the map as one of a kind.
func (s *side) has(kind scan.Kind, block uint64) bool {
	for i := range s.ratio {
		if s.res.Map.Contains(kind, block*s.ratio+i) {
			return true
		}
	}
	return false
}

// A kindSet is a set of kinds.
type kindSet uint32

func (k kindSet) has(kind scan.Kind) bool { return k>>kind&1 != 0 }

// kinds returns what a block is.
func (s *side) kinds(block uint64) (set kindSet) {
	for kind := range scan.Kinds() {
		if s.has(kind, block) {
			set |= 1 << kind
		}
	}
	if _, ok := s.table(block); ok && set == 0 {
		set = 1 << scan.InodeTable // a part that is not in use
	}
	return set
}

// first returns the first kind of a set, and "" of an empty one.
func (k kindSet) first() string {
	for kind := range scan.Kinds() {
		if k.has(kind) {
			return kind.String()
		}
	}
	return ""
}

// read fills p, whole blocks, from a byte. What cannot be read is zero, and
// listed by the scan; what lies beyond the end is zero.
func (s *side) read(p []byte, off int64) {
	n := 0
	var err error
	if off < s.size {
		n, err = image.ReadFor(s.src.Reader, p[:min(int64(len(p)), s.size-off)], off, image.Again)
	}
	if err == nil || errors.Is(err, io.EOF) {
		clear(p[n:])
		return
	}
	bs := int(s.geo.BlockSize)
	for ; len(p) >= bs; p, off = p[bs:], off+int64(bs) {
		s.reading.ReadBlock(uint64(off/int64(bs)), p[:bs])
	}
}

// runs returns the runs of an image that may hold data.
func (s *side) runs() finder {
	if img, ok := s.src.Reader.(image.Image); ok {
		return image.Data(img).NextRun
	}
	return func(off int64) (start, end int64, err error) {
		if off >= s.size {
			return 0, 0, io.EOF
		}
		return off, s.size, nil
	}
}

// table returns the inode that a block of an inode table begins with; false
// where the block is in none.
func (s *side) table(block uint64) (first uint32, ok bool) {
	i, found := slices.BinarySearchFunc(s.tables, block, func(t scan.TableRun, b uint64) int { return cmp.Compare(t.Start, b) })
	if !found {
		i--
	}
	const near = 8 // tables that damage lays over each other
	for n := 0; i >= 0 && n < near; i, n = i-1, n+1 {
		if t := s.tables[i]; block >= t.Start && block-t.Start < t.Count {
			ino := uint64(t.First) + (block-t.Start)*uint64(s.geo.InodesPerBlock())
			return uint32(ino), ino < 1<<32
		}
	}
	return 0, false
}

// eachDesc yields the descriptors that the reading goes by, as far as there can be
// groups on the image, and as far as maxDescBytes of table say.
func (s *side) eachDesc(yield func(group uint32, desc ext.GroupDesc) bool) {
	const maxDescBytes = 256 << 20
	per, size := s.geo.DescsPerBlock(), s.geo.DescSize
	if s.geo.GroupCount == 0 || per == 0 {
		return
	}
	groups := s.groups()
	buf := make([]byte, s.geo.BlockSize)
	for i := uint32(0); uint64(i)*uint64(per) < uint64(groups) && int64(i)*int64(len(buf)) < maxDescBytes; i++ {
		s.reading.ReadBlock(s.reading.DescBlock(i), buf)
		for k := range per {
			g := i*per + k
			if g >= groups {
				return
			}
			if !yield(g, ext.GroupDesc(buf[k*size:(k+1)*size])) {
				return
			}
		}
	}
}

// groups returns how many groups begin on the image.
func (s *side) groups() uint32 {
	blocks := uint64(s.size) / uint64(s.geo.BlockSize)
	first := uint64(s.geo.FirstDataBlock)
	if blocks <= first || s.geo.BlocksPerGroup == 0 {
		return 0
	}
	return uint32(min(uint64(s.geo.GroupCount), (blocks-first+uint64(s.geo.BlocksPerGroup)-1)/uint64(s.geo.BlocksPerGroup)))
}

// desc returns the descriptor of a group, nil where there is none.
func (s *side) desc(group uint32) ext.GroupDesc {
	if group >= s.groups() {
		return nil
	}
	per, size := s.geo.DescsPerBlock(), s.geo.DescSize
	buf := make([]byte, s.geo.BlockSize)
	s.reading.ReadBlock(s.reading.DescBlock(group/per), buf)
	return ext.GroupDesc(buf[group%per*size : (group%per+1)*size])
}

// trusts tells whether the flags of a group's descriptor count.
func (s *side) trusts(group uint32, d ext.GroupDesc) bool {
	return s.super.HasDescChecksums() && s.super.DescChecksumOK(group, d)
}

var le = binary.LittleEndian
