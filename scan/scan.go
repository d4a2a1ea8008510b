package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
)

// ErrNotExt says that there is no ext2, ext3 or ext4 filesystem: no superblock
// where one or a copy of one can be.
var ErrNotExt = errors.New("no ext2, ext3 or ext4 filesystem found")

// Backups says which copies of the superblock and the descriptors are taken.
type Backups uint8

const (
	// BackupsAuto takes all superblock copies, and the descriptors beside the
	// first two that are valid and beside the one asked for.
	BackupsAuto Backups = iota
	// BackupsAll takes the descriptors beside every copy too.
	BackupsAll
	// BackupsNone takes only the copy asked for, if one was.
	BackupsNone
)

// JournalMode says how much of the journal is taken.
type JournalMode uint8

const (
	// JournalWhole takes all of it.
	JournalWhole JournalMode = iota
	// JournalLive takes its superblock and what recovery would replay.
	JournalLive
	// JournalNone takes its superblock.
	JournalNone
)

// Options are the choices of a scan.
type Options struct {
	// Superblock is the number of the block whose superblock is to be used,
	// BlockSize the block size in bytes. 0 finds them.
	Superblock uint64
	BlockSize  uint32

	Backups Backups
	Journal JournalMode

	// Threads is how many workers there are; 0 is runtime.GOMAXPROCS.
	Threads int

	// Retries is how often a sector that cannot be read is tried again.
	Retries int

	// Bad lists what is known to be unreadable, ascending and disjoint. It is
	// not read, and listed as unreadable where it is metadata.
	Bad []Range

	// Progress is told how many of all block groups have been scanned. It is
	// called from one goroutine at a time, and may be nil.
	Progress func(done, total int64)
}

// A Result is what a scan found.
type Result struct {
	Map      *Map
	dev      *device
	super    *ext.Superblock
	view     *View
	problems *problems
}

// View returns the image of the metadata.
func (r *Result) View() *View { return r.view }

// Super returns the superblock that was believed, nil where none could be.
func (r *Result) Super() *ext.Superblock { return r.super }

// BlockSize returns the size in bytes of the blocks that the map counts.
func (r *Result) BlockSize() uint32 { return uint32(r.view.blockSize) }

// MetadataBytes returns the size of the blocks in the map.
func (r *Result) MetadataBytes() int64 { return int64(r.view.runs.blocks) * r.view.blockSize }

// Problems returns the damage met: the first of each kind, with the count of
// all.
func (r *Result) Problems() []Problem { return r.problems.list() }

// AllProblems returns all damage met, up to 256 of each kind.
func (r *Result) AllProblems() []Problem { return r.problems.all() }

// Unreadable returns what could not be read, in ascending order. Reading the
// view may add to it.
func (r *Result) Unreadable() []Range { return r.dev.unreadable() }

// Scan finds the metadata of the filesystem that begins at byte 0 of r, which
// is size bytes long. It fails with ErrNotExt where there is none, and when
// ctx ends; damage and read errors do not make it fail.
func Scan(ctx context.Context, r io.ReaderAt, size int64, opt Options) (*Result, error) {
	if opt.Threads <= 0 {
		opt.Threads = runtime.GOMAXPROCS(0)
	}
	res := &Result{Map: new(Map), dev: &device{r: r, size: size, retries: opt.Retries, bad: opt.Bad}, problems: new(problems)}
	readings, err := findReadings(res.dev, opt, res.problems)
	if err != nil {
		return nil, err
	}
	if len(readings) == 0 {
		res.markProbes()
		return res, nil
	}
	blockSize, err := res.scanReadings(ctx, readings, opt)
	if err != nil {
		return nil, fmt.Errorf("scanning the filesystem: %w", err)
	}
	if n := res.Map.boundClaimed(maxClaimed / uint64(blockSize)); n > 0 {
		res.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("%d blocks that only damage makes structure are left out", n)})
	}
	res.freeze(blockSize)
	return res, nil
}

// scanReadings fills the map under each reading, and returns the size of the
// blocks that it counts: those of the likeliest.
func (r *Result) scanReadings(ctx context.Context, readings []reading, opt Options) (blockSize uint32, err error) {
	if rd := readings[0]; len(readings) == 1 && rd.believed && rd.group == 0 {
		s := r.scanner(rd, opt, new(Map))
		s.picky = true
		switch err := s.scan(ctx, opt); {
		case err == nil:
			r.super, r.Map = rd.sb, s.out
			return rd.geo.BlockSize, nil
		case !errors.Is(err, errBadDescs):
			return 0, err
		}
		// e2fsck turns to a backup, having read this superblock and table.
		if backups := backupReadings(r.dev, opt, ext.GeometryHint(rd.sb.Bytes())); len(backups) > 0 {
			s := r.scanner(rd, opt, new(Map))
			s.markSuperblock()
			blockSize = backups[0].geo.BlockSize
			r.Map.addScaled(s.out, rd.geo.BlockSize, blockSize)
			readings = backups
		}
	}
	r.super, blockSize = readings[0].sb, readings[0].geo.BlockSize
	for _, rd := range readings {
		s := r.scanner(rd, opt, new(Map))
		if err := s.scan(ctx, opt); err != nil {
			return 0, err
		}
		r.Map.addScaled(s.out, rd.geo.BlockSize, blockSize)
	}
	return blockSize, nil
}

// scanner returns a scanner that fills out under a reading.
func (r *Result) scanner(rd reading, opt Options, out *Map) *scanner {
	bs := uint64(rd.geo.BlockSize)
	s := newScanner(rd, r.dev, (uint64(r.dev.size)+bs-1)/bs, out, r.problems)
	s.threads, s.journal, s.progress = opt.Threads, opt.Journal, opt.Progress
	return s
}

// freeze makes the view of the finished map.
func (r *Result) freeze(blockSize uint32) {
	slack := newSlackIndex(r.Map)
	r.view = &View{
		dev:       r.dev,
		runs:      newRunIndex(r.Map.all().runs()),
		slack:     slack,
		blockSize: int64(blockSize),
		size:      r.dev.size &^ (sector - 1),
	}
}

func newScanner(rd reading, dev *device, deviceBlocks uint64, out *Map, pr *problems) *scanner {
	s := &scanner{
		dev:          dev,
		sb:           rd.sb,
		geo:          rd.geo,
		deviceBlocks: deviceBlocks,
		groups:       groupsOn(rd.sb, rd.geo, deviceBlocks),
		wide:         rd.sb.HasIncompat(ext.Incompat64bit),
		trustFlags:   rd.group == 0 && rd.believed,
		descGroup:    rd.group,
		out:          out,
		problems:     pr,
		named:        roaring.New(),
		parents:      roaring.New(),
		unlinkedDirs: roaring.New(),
		asked:        make(map[revisit]struct{}),
		quotas:       [5]uint32{ext.UserQuota, ext.GroupQuota},
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
	return s
}

// maxGroups bounds what the group count of a damaged superblock can cost. It
// is enough for the largest filesystem there can be with blocks of 4 KiB.
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

// scan goes through the filesystem as it is, then as journal replay would
// leave it.
func (s *scanner) scan(ctx context.Context, opt Options) error {
	if s.sb.HasIncompat(ext.IncompatJournalDev) {
		s.markJournalDevice()
		return nil
	}
	if s.geo.BlocksCount > s.deviceBlocks {
		s.problems.add(Problem{Kind: SizeMismatch, What: fmt.Sprintf("the filesystem has %d blocks, the device %d", s.geo.BlocksCount, s.deviceBlocks)})
	}
	s.markSuperblock()
	s.markCopies(opt)
	s.markMmp()
	if err := s.run(ctx); err != nil {
		return err
	}
	return s.scanJournal(ctx)
}

func (s *scanner) markMmp() {
	if s.sb.HasIncompat(ext.IncompatMmp) {
		if block := s.sb.MmpBlock(); s.validBlock(block) {
			s.out.add(Mmp, block, 1)
		}
	}
}

// addScaled adds a map that may count in blocks of another size.
func (m *Map) addScaled(from *Map, fromSize, toSize uint32) {
	if fromSize == toSize {
		for k := range from.sets {
			m.sets[k].union(&from.sets[k])
		}
		m.ends = append(m.ends, from.ends...)
		return
	}
	for k := range from.sets {
		for start, end := range from.sets[k].runs() {
			lo := start * uint64(fromSize) / uint64(toSize)
			hi := (end*uint64(fromSize) + uint64(toSize) - 1) / uint64(toSize)
			m.add(Kind(k), lo, hi-lo)
		}
	}
	for _, e := range from.ends {
		m.add(e.kind, e.block*uint64(fromSize)/uint64(toSize), max(1, uint64(fromSize)/uint64(toSize)))
	}
}
