package scan

import (
	"context"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
)

// A scanner goes through a filesystem under one reading of it: one superblock
// and descriptor table, before or after journal replay. Several scanners may
// fill one map.
//
// It contains twelve bytes for each block group, 24 for each run of bitmaps and
// tables, sixteen for each block that is gathered for the next level, and
// sparse sets of visited blocks.
type scanner struct {
	dev          *device
	sb           *ext.Superblock
	geo          *ext.Geometry
	deviceBlocks uint64
	groups       uint32 // groups that can be on the device
	first, end   uint64 // blocks that pointers can point to; first is at most end
	wide         bool   // block numbers in inodes have high halves
	journalFile  FileMap
	ahead        readAhead // of journalFile
	trustFlags   bool      // UNINIT and bg_itable_unused count where the checksum is right
	descGroup    uint32    // the superblock copy whose descriptors are read
	opt          Options
	after        *scanner // as recovery of the journal would leave it, nil where there is none
	visitor      Visitor
	quotas       [5]uint32 // inodes that may be quota inodes; 0 is none
	orphanFile   uint32    // its inode, 0 if there is none

	tables []uint64 // by group: first block of the inode table, 0 where unusable
	limits []uint32 // by group: how many inodes of the table have been visited

	maxPending   int
	maxRevisits  int
	maxValueWork int64
	maxRepeated  uint64

	// Only the worker that merges changes the following fields.
	work         *work
	out          *Map
	held, inUse  blockSet // filled only where contents of files are taken
	problems     *problems
	visited      [roles][contents]blockSet
	pending      []item
	suspects     []item
	named        *roaring.Bitmap // inodes that a directory names beyond what was visited
	parents      *roaring.Bitmap // inodes that a ".." names
	unlinkedDirs *roaring.Bitmap // directories without links
	revisits     []revisit
	asked        map[revisit]struct{} // revisits asked for so far
	orphanLinks  map[uint32]uint32    // what inodes name as the next of the orphan list; nil once that is known
	located      blockSet             // bitmaps and tables, to find those that overlap
	swept        blockSet             // blocks of tables visited since descBad
	repeated     uint64               // bytes of tables visited more than once
	holes        holes                // of the source
	draining     bool                 // what is pending is being read
	valueWork    int64                // for attribute values, see mapCost
	claimed      int64                // bytes that only damage makes structure
	picky        bool                 // stop at the first such descriptor
	descBad      bool                 // e2fsck would not believe this descriptor table
}

func newScanner(rd reading, dev *device, deviceBlocks uint64, opt Options, out *Map, pr *problems) *scanner {
	s := &scanner{
		dev:          dev,
		sb:           rd.sb,
		geo:          rd.geo,
		deviceBlocks: deviceBlocks,
		groups:       groupsOn(rd.sb, rd.geo, deviceBlocks),
		wide:         rd.sb.HasIncompat(ext.Incompat64bit),
		trustFlags:   rd.group == 0 && rd.believed && !opt.TablesOnly,
		descGroup:    rd.group,
		opt:          opt,
		out:          out,
		problems:     pr,
		work:         new(work),
		named:        roaring.New(),
		parents:      roaring.New(),
		unlinkedDirs: roaring.New(),
		asked:        make(map[revisit]struct{}),
		orphanLinks:  make(map[uint32]uint32),
		quotas:       [5]uint32{ext.UserQuota, ext.GroupQuota},

		maxPending:   maxPending,
		maxRevisits:  maxRevisits,
		maxValueWork: maxValueWork,
		maxRepeated:  maxRepeated,
		holes:        holesOf(dev),
	}
	s.end = min(rd.geo.BlocksCount, deviceBlocks)
	s.first = min(max(uint64(rd.geo.FirstDataBlock), 1), s.end)
	if rd.sb.HasCompat(ext.CompatOrphanFile) {
		s.orphanFile = rd.sb.OrphanFileInode()
	}
	q := rd.sb.QuotaInodes()
	copy(s.quotas[2:], q[:])
	s.tables = make([]uint64, s.groups)
	s.limits = make([]uint32, s.groups)
	s.visitor = s.newVisitor()
	return s
}

// retire frees the memory of a finished scanner, except the parts that a
// Reading needs.
func (s *scanner) retire() {
	s.limits = nil
	s.visited = [roles][contents]blockSet{}
	s.pending, s.suspects, s.asked = nil, nil, nil
	s.held, s.located, s.swept = blockSet{}, blockSet{}, blockSet{}
	if s.opt.Visit == nil && !s.opt.Reread {
		s.tables, s.groups = nil, 0
	}
}

// maxGroups bounds the cost of the group count of a damaged superblock. The
// largest filesystem with blocks of 4 KiB has no more groups.
const maxGroups = 1 << 24

// groupsOn returns how many groups can have bitmaps and an inode table on a
// device: those that begin there and, as the tables of a flex group stand
// together at its start, those that are in one with them.
func groupsOn(sb *ext.Superblock, geo *ext.Geometry, deviceBlocks uint64) uint32 {
	n := min(uint64(geo.GroupCount), maxGroups, math.MaxUint32/uint64(geo.InodesPerGroup)) // numbers of inodes have 32 bits
	if !geo.MetaBg(0) {
		// The descriptors of all groups lie in the first.
		n = min(n, uint64(geo.BlocksPerGroup)*uint64(geo.DescsPerBlock()))
	}
	if deviceBlocks < geo.BlocksCount && deviceBlocks > uint64(geo.FirstDataBlock) {
		flex := uint64(sb.GroupsPerFlex())
		n = min(n, (uint64(geo.GroupOf(deviceBlocks-1))/flex+1)*flex)
	}
	return uint32(n)
}

// A revisit is an inode that something met later says more about.
type revisit struct {
	ino  uint32
	why  reason
	size uint32 // of the value, for asValue
}

// An orphanLink is an inode that may be on the orphan list, and the next there.
type orphanLink struct{ ino, next uint32 }

type reason uint8

const (
	asOrphan   reason = iota // on the orphan list: in use whatever its links say
	asDir                    // a directory in spite of its mode, or of its links
	asReserved               // visited whatever its descriptor says of the table
	asValue                  // holds the value of an extended attribute
)

// maxPending bounds how many blocks are gathered before they are read: more
// would give larger reads, at sixteen bytes each.
const maxPending = 1 << 20

// maxRevisits bounds the memory that inodes named elsewhere take.
const maxRevisits = 1 << 21

// run goes through the filesystem.
func (s *scanner) run(ctx context.Context) error {
	if err := s.scanGroups(ctx); err != nil {
		return err
	}
	b := new(batch)
	if err := s.seedOrphans(ctx, b); err != nil {
		return err
	}
	s.seedReserved(b)
	s.merge(b)
	return s.scanAll(ctx)
}

// scanAll follows all that has been gathered and asked for until nothing is
// left.
func (s *scanner) scanAll(ctx context.Context) error {
	for {
		if err := s.scanLevels(ctx); err != nil {
			return err
		}
		switch {
		case len(s.revisits) > 0:
			if err := s.scanRevisits(ctx); err != nil {
				return err
			}
		case s.parents.Intersects(s.unlinkedDirs):
			s.askUnlinkedDirs()
		case !s.named.IsEmpty():
			if err := s.scanNamed(ctx); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// validRun cuts a run of blocks at the ends of the filesystem and of the
// device, and reports whether a part is left.
func (s *scanner) validRun(start, n uint64) (uint64, uint64, bool) {
	if n == 0 || start >= s.end || start+n < start || start+n <= s.first {
		return 0, 0, false
	}
	if start < s.first {
		start, n = s.first, start+n-s.first
	}
	return start, min(n, s.end-start), true
}

func (s *scanner) validBlock(block uint64) bool { return block >= s.first && block < s.end }
