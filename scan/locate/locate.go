// Package locate finds the superblocks of ext2, ext3 and ext4 filesystems where no
// filesystem is known to be: after a disk was partitioned anew, a partition table
// lost, or the start of a filesystem overwritten.
//
//	off                   what a superblock says of itself        what follows
//	┌──────────────┐      group 3 (s_block_group_nr)              the copy is at the start of that
//	│ 53 EF at +56 │ ───► blocks of 4096, 32768 a group,    ───►  group, so the filesystem begins at
//	└──────────────┘      UUID, label, last write                 off - 3 × 32768 × 4096
//
// The superblocks that agree on the UUID and the start are one Filesystem. Others
// with the same UUID, in the journal or in the contents of files, are its strays:
// each says that the filesystem begins somewhere else, where there is none.
package locate

import (
	"cmp"
	"context"
	"math"
	"slices"

	"e2qcow/ext"
	"e2qcow/image"
)

// Options say where to look.
type Options struct {
	// Everywhere looks at all of the image. Else only the places are looked at
	// where mke2fs puts the copies of a filesystem that begins with the image.
	Everywhere bool

	// Progress, which may be nil, is told how many bytes of the image have been
	// looked at.
	Progress func(done, total int64)
}

// A Result is what was found.
type Result struct {
	Filesystems []Filesystem // by their start
	Unreadable  int64        // bytes that were to be looked at, and could not be read
	LeftOut     uint64       // places of filesystems that are not in the list, which is bounded
}

// A Filesystem is what superblocks that agree describe.
type Filesystem struct {
	Super      *ext.Superblock // the one with the latest write
	Start      int64           // where it begins in the image, bytes; less than 0 before the image
	Places     []Place         // ascending, at most MaxPlaces
	MorePlaces uint64          // how many there are beside these
	Strays     []int64         // where superblocks are that are none of it, bytes, at most MaxPlaces
	MoreStrays uint64          // how many there are beside these

	// Root reports whether the descriptors beside one of the superblocks lead to
	// a root directory: the filesystem is there, and not only its superblock.
	Root bool
}

// A Place holds a superblock.
type Place struct {
	Offset int64  // in the image, bytes
	Group  uint32 // whose copy it is; 0 is the primary
	Block  uint64 // of the filesystem
}

// The bounds of a result.
const (
	MaxPlaces      = 64   // of a filesystem
	maxFilesystems = 1024 // also with those that prove to be strays
	maxLone        = 256  // of one UUID, of which only a primary is known

	// maxDecoded is how many possible superblocks are decoded, which takes far
	// longer than to read them.
	maxDecoded = 1 << 18

	// maxTries is how often a root directory is looked for: in a compressed image
	// each time costs a cluster or two.
	maxTries = 2048
)

// Size returns how long the filesystem is in bytes.
func (f *Filesystem) Size() int64 {
	n, size := f.Super.BlocksCount(), uint64(f.Super.BlockSize())
	if n > math.MaxInt64/size {
		return math.MaxInt64
	}
	return int64(n * size)
}

// Holds reports whether a byte of the image lies in the filesystem.
func (f *Filesystem) Holds(off int64) bool {
	return off >= f.Start && uint64(off)-uint64(f.Start) < uint64(f.Size())
}

// Find looks for superblocks in an image. The error is that of ctx.
func Find(ctx context.Context, img image.Image, opt Options) (*Result, error) {
	s := &search{img: img, known: map[identity]*Filesystem{}, lone: map[[16]byte]int{}}
	var err error
	if opt.Everywhere {
		err = s.everywhere(ctx, opt.Progress)
	} else {
		err = s.usual(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &Result{Filesystems: s.settle(), Unreadable: s.unreadable, LeftOut: s.leftOut}, nil
}

// usualGroups are the groups with a copy under sparse_super that are looked at.
var usualGroups = [...]int64{0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729, 2187, 2401, 3125, 6561, 15625, 16807, 19683}

// usual looks where mke2fs puts the copies of a filesystem that begins with the
// image, for each block size.
func (s *search) usual(ctx context.Context) error {
	b := make([]byte, ext.SuperblockSize)
	for blockSize := int64(ext.MinBlockSize); blockSize <= ext.MaxBlockSize; blockSize *= 2 {
		for _, group := range usualGroups {
			off := group * 8 * blockSize * blockSize
			if blockSize == ext.MinBlockSize {
				off += blockSize // block 0 belongs to no group
			}
			if group == 0 {
				if blockSize != ext.MinBlockSize {
					continue // the primary is at the same place for all
				}
				off = ext.SuperblockOffset
			}
			if off > s.img.Size()-ext.SuperblockSize {
				break
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if n, err := s.img.ReadAt(b, off); n < len(b) {
				if err != nil {
					s.unreadable += int64(len(b))
				}
				continue
			}
			s.look(b, off)
		}
	}
	return nil
}

// An identity is what superblocks of one filesystem agree on.
type identity struct {
	uuid  [16]byte
	start int64
}

// A search collects what it finds.
type search struct {
	img        image.Image
	known      map[identity]*Filesystem
	lone       map[[16]byte]int // how many of known have no copy, only a primary
	decoded    int
	tries      int // to find a root directory
	unreadable int64
	leftOut    uint64
}

// look notes the superblock that b may be, at a byte of the image.
func (s *search) look(b []byte, off int64) {
	if !ext.LooksLikeSuperblock(b) {
		return
	}
	if s.decoded == maxDecoded {
		s.leftOut++
		return
	}
	s.decoded++
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		return
	}
	geo, err := sb.Geometry()
	if err != nil || sb.Verify(geo) != nil || !sb.ChecksumOK() {
		return
	}
	p, start, ok := s.place(sb, geo, off)
	if !ok {
		return
	}
	id := identity{sb.UUID(), start}
	f := s.known[id]
	switch {
	case f != nil:
	case len(s.known) == maxFilesystems, p.Group == 0 && s.lone[id.uuid] == maxLone:
		s.leftOut++
		return
	default:
		f = &Filesystem{Super: sb, Start: start}
		s.known[id] = f
		if p.Group == 0 {
			s.lone[id.uuid]++
		}
	}
	if slices.Contains(f.Places, p) {
		return
	}
	if sb.Status().Written.After(f.Super.Status().Written) {
		f.Super = sb
	}
	if len(f.Places) == MaxPlaces {
		f.MorePlaces++
		return
	}
	f.Places = append(f.Places, p)
	if !f.Root && s.tries < maxTries {
		s.tries++
		f.Root = s.leadsToRoot(sb, geo, start, p.Group)
	}
}

// place returns whose copy a superblock at a byte of the image is, and where its
// filesystem begins in the image. ok is false where no copy of that group can be.
func (s *search) place(sb *ext.Superblock, geo *ext.Geometry, off int64) (p Place, start int64, ok bool) {
	at := func(group uint32) Place {
		return Place{Offset: off, Group: group, Block: geo.SuperBlock(group)}
	}
	if sb.HasIncompat(ext.IncompatJournalDev) {
		return Place{Offset: off, Block: ext.SuperblockOffset / uint64(geo.BlockSize)}, off - ext.SuperblockOffset, true
	}
	if sb.Revision() == 0 {
		// Its copies have no numbers: one that is where the first filesystem of the
		// image has a copy is taken for that.
		block := uint64(off) / uint64(geo.BlockSize)
		group := geo.GroupOf(block)
		if group > 0 && group < geo.GroupCount && off%int64(geo.BlockSize) == 0 && geo.HasSuper(group) && geo.SuperBlock(group) == block {
			return at(group), 0, true
		}
		return at(0), off - ext.SuperblockOffset, true
	}
	if sb.Group() == 0 {
		return at(0), off - ext.SuperblockOffset, true
	}
	// s_block_group_nr has 16 bits.
	for group := uint64(sb.Group()); group < uint64(geo.GroupCount); group += 1 << 16 {
		g := uint32(group)
		if !geo.HasSuper(g) || geo.SuperBlock(g) > math.MaxInt64/uint64(geo.BlockSize) {
			continue
		}
		return at(g), off - int64(geo.SuperBlock(g)*uint64(geo.BlockSize)), true
	}
	return p, 0, false
}

// leadsToRoot reports whether the first descriptor beside a superblock leads to an
// inode table whose second inode is a directory.
func (s *search) leadsToRoot(sb *ext.Superblock, geo *ext.Geometry, start int64, group uint32) bool {
	if sb.HasIncompat(ext.IncompatJournalDev) {
		return true // there is none, and no need of one
	}
	desc := make(ext.GroupDesc, geo.DescSize)
	if !s.read(desc, geo, start, geo.DescBlock(group, 0), 0) {
		return false
	}
	root := make(ext.Inode, geo.InodeSize)
	return s.read(root, geo, start, desc.InodeTable(), int64(geo.InodeSize)*int64(ext.RootInode-1)) && root.Type() == ext.ModeDir
}

// read reads from a block of a filesystem, which need not lie in the image.
func (s *search) read(b []byte, geo *ext.Geometry, start int64, block uint64, in int64) bool {
	if block == 0 || block >= geo.BlocksCount || block > math.MaxInt64/2/uint64(geo.BlockSize) {
		return false
	}
	off := start + int64(block*uint64(geo.BlockSize)) + in
	if off < 0 || off > s.img.Size()-int64(len(b)) {
		return false
	}
	n, _ := s.img.ReadAt(b, off)
	return n == len(b)
}

// settle returns the filesystems, by their start. Of those of one UUID, it makes
// what lies in another and is nothing but a superblock a stray of that.
func (s *search) settle() []Filesystem {
	list := make([]*Filesystem, 0, len(s.known))
	for _, f := range s.known {
		slices.SortFunc(f.Places, func(a, b Place) int { return cmp.Compare(a.Offset, b.Offset) })
		list = append(list, f)
	}
	// The best come first: those with a root directory, then with the most copies.
	slices.SortFunc(list, func(a, b *Filesystem) int {
		ua, ub := a.Super.UUID(), b.Super.UUID()
		return cmp.Or(
			slices.Compare(ua[:], ub[:]),
			-compareBool(a.Root, b.Root),
			-cmp.Compare(len(a.Places), len(b.Places)),
			cmp.Compare(a.Start, b.Start))
	})
	var kept []Filesystem
	first := 0 // of those with the UUID of f
	for _, f := range list {
		if first < len(kept) && kept[first].Super.UUID() != f.Super.UUID() {
			first = len(kept)
		}
		of := -1
		if !f.Root && f.MorePlaces == 0 {
			of = slices.IndexFunc(kept[first:], func(k Filesystem) bool {
				return !slices.ContainsFunc(f.Places, func(p Place) bool { return !k.Holds(p.Offset) })
			})
		}
		if of < 0 {
			kept = append(kept, *f)
			continue
		}
		k := &kept[first+of]
		for _, p := range f.Places {
			if len(k.Strays) < MaxPlaces {
				k.Strays = append(k.Strays, p.Offset)
			} else {
				k.MoreStrays++
			}
		}
	}
	for _, f := range kept {
		slices.Sort(f.Strays)
	}
	slices.SortStableFunc(kept, func(a, b Filesystem) int { return cmp.Compare(a.Start, b.Start) })
	return kept
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
