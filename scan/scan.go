package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"e2qcow/ext"
	"e2qcow/image"
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
	// JournalLive takes its superblock and the part that recovery would replay.
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

	// BelieveBackup is called before a backup superblock is used because there
	// is no primary one. block is its block number and blockSize the size of a
	// block in bytes. The contents of the disk may have a better explanation:
	// then an error ends the scan. BelieveBackup may be nil.
	BelieveBackup func(block uint64, blockSize uint32) error

	Backups Backups
	Journal JournalMode

	// TablesOnly takes superblock, descriptors, all bitmaps and whole inode
	// tables, and does not follow the pointers in inodes.
	TablesOnly bool
	// Files takes the contents of files too: the written blocks of their
	// extents, and blocks that only a valid block bitmap marks as in use.
	// BackupsAuto then means BackupsAll.
	Files bool
	// XattrValues takes the values of attributes that have inodes of their own
	// (the feature ea_inode). Without it those inodes and the trees of their
	// blocks are taken, but not the values: they are contents. Files implies it.
	XattrValues bool
	// ZeroedTables takes the unused parts of inode tables that are known to be
	// zero. Set it if the image is written over old data.
	ZeroedTables bool

	// Threads is how many workers there are; 0 is runtime.GOMAXPROCS.
	Threads int

	// Retries is how often a sector that cannot be read is tried again.
	Retries int

	// Bad lists ranges that are known to be unreadable, ascending and disjoint.
	// They are not read. Where they contain metadata, they are listed as
	// unreadable.
	Bad []Range

	// Visit returns the visitor for one reading of the filesystem: a
	// superblock, before or after journal replay. It may be nil.
	Visit func(sb *ext.Superblock, geo *ext.Geometry) Visitor

	// Reread keeps what is necessary to read inodes again after the scan, by
	// Readings. A Visitor implies it.
	Reread bool

	// Progress is told how much of the scan is done, in bytes to be read, a
	// request counted as the bytes that take as long. The total is an estimate
	// that changes. It is called from one goroutine at a time, and may be nil.
	Progress func(done, total int64)
}

// A Result contains the findings of a scan.
type Result struct {
	Map      *Map
	dev      *device
	super    *ext.Superblock
	group    uint32 // whose copy super is
	view     *View
	metadata uint64 // blocks of the map that are not only file data
	used     uint64 // blocks of the map
	last     uint64 // end of the last
	problems *problems
	readings []Reading
	work     *work
}

// View returns the image of the metadata.
func (r *Result) View() *View { return r.view }

// Super returns the superblock that the scan used, nil if none was usable.
func (r *Result) Super() *ext.Superblock { return r.super }

// SuperGroup returns the group of Super: 0 for the primary superblock. The scan
// used the descriptors beside it.
func (r *Result) SuperGroup() uint32 { return r.group }

// BlockSize returns the size in bytes of the blocks that the map counts.
func (r *Result) BlockSize() uint32 { return uint32(r.view.blockSize) }

// MetadataBytes returns the size of the blocks in the map that hold more than
// the contents of files.
func (r *Result) MetadataBytes() int64 { return int64(r.metadata) * r.view.blockSize }

// UsedBytes returns the size of all blocks in the map.
func (r *Result) UsedBytes() int64 { return int64(r.used) * r.view.blockSize }

// ReadBytes returns how many bytes of the source a reader of the view reads, and
// how many of these the scan had no need to read, such as bitmaps and a journal
// that is not replayed. Holes of the source are not read.
func (r *Result) ReadBytes() (all, unread int64) {
	for off := int64(0); ; {
		start, end, err := r.view.NextData(off)
		if err != nil {
			return all, unread
		}
		all += end - start
		unread += end - start - r.view.covered(r.view.scanned, start, end)
		off = end
	}
}

// FilesystemSize returns how many bytes the filesystem says that it has, of
// those that the view has, and at least up to the last block in the map.
func (r *Result) FilesystemSize() int64 {
	size := r.last * uint64(r.view.blockSize)
	if r.super != nil {
		size = max(size, min(r.super.BlocksCount(), uint64(r.view.size)/uint64(r.super.BlockSize()))*uint64(r.super.BlockSize()))
	}
	return int64(min(size, uint64(r.view.size)))
}

// Problems returns the damage met: the first of each kind, with the count of
// all.
func (r *Result) Problems() []Problem { return r.problems.list() }

// AllProblems returns all damage met, up to 256 of each kind.
func (r *Result) AllProblems() []Problem { return r.problems.all() }

// Unreadable returns the ranges that could not be read, in ascending order.
// Reading the view may add ranges.
func (r *Result) Unreadable() []Range { return r.dev.unreadable() }

// Scan finds the metadata of the filesystem that begins at byte 0 of r, which
// is size bytes long. It returns ErrNotExt if there is no filesystem, a
// *ReadError if a read error may be the reason, and an error when ctx ends. If
// r is an image whose tables contradict each other, it returns the error of
// image.DamageOf, because such an image is not reliable. Damage of the
// filesystem and other read errors are not errors of Scan.
func Scan(ctx context.Context, r io.ReaderAt, size int64, opt Options) (*Result, error) {
	if opt.Threads <= 0 {
		opt.Threads = runtime.GOMAXPROCS(0)
	}
	if opt.Files && opt.Backups == BackupsAuto {
		opt.Backups = BackupsAll
	}
	opt.XattrValues = opt.XattrValues || opt.Files
	res := &Result{Map: new(Map), dev: &device{r: r, size: size, retries: opt.Retries, bad: opt.Bad, done: ctx.Done()}, problems: new(problems), work: &work{told: opt.Progress}}
	err := res.scan(ctx, opt)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("scanning the filesystem: %w", ctx.Err()) // what was read since is nothing
	}
	if damage := image.DamageOf(r); damage != nil {
		return nil, fmt.Errorf("scanning the filesystem: %w", damage)
	}
	if err != nil {
		return nil, err
	}
	res.dev.done = nil // what follows is read in another context
	for i := range res.readings {
		res.readings[i].scanner.dev.done = nil
	}
	return res, nil
}

func (r *Result) scan(ctx context.Context, opt Options) error {
	readings, err := findReadings(r.dev, opt, r.problems)
	if err != nil {
		if failed := r.dev.failure(); failed != nil {
			return failed
		}
		return err
	}
	if len(readings) == 0 {
		r.markProbes()
		return nil
	}
	blockSize, err := r.scanReadings(ctx, readings, opt)
	if err != nil {
		return fmt.Errorf("scanning the filesystem: %w", err)
	}
	if n := r.Map.boundClaimed(maxClaimed / uint64(blockSize)); n > 0 {
		r.problems.add(Problem{Kind: Unbounded, What: fmt.Sprintf("%d blocks that only damage makes structure are left out", n)})
	}
	r.freeze(blockSize)
	if opt.Files {
		r.completeSize()
	}
	return nil
}

// scanReadings fills the map under each reading, and returns the size of the
// blocks that it counts: the smallest that a reading has.
func (r *Result) scanReadings(ctx context.Context, readings []reading, opt Options) (blockSize uint32, err error) {
	if rd := readings[0]; len(readings) == 1 && rd.believed && rd.group == 0 {
		s := r.scanner(rd, opt, new(problems))
		s.picky = true
		err := s.scan(ctx)
		r.keep(s)
		s.retire()
		if err != nil && !errors.Is(err, errBadDescs) {
			return 0, err
		}
		if err == nil {
			r.super, r.Map = rd.sb, s.out
			r.problems.merge(s.problems)
			return rd.geo.BlockSize, nil
		}
		// e2fsck turns to a backup, having read this superblock and table.
		if backups := backupReadings(r.dev, opt, ext.GeometryHint(rd.sb.Bytes()), false); len(backups) > 0 {
			r.problems.merge(s.problems)
			read := r.scanner(rd, opt, r.problems)
			read.markSuperblock()
			blockSize = min(rd.geo.BlockSize, smallestBlock(backups))
			r.Map.addScaled(read.out, rd.geo.BlockSize, blockSize)
			readings = backups
		}
	}
	r.super, r.group = readings[0].sb, readings[0].group
	if blockSize == 0 {
		blockSize = smallestBlock(readings)
	}
	for _, rd := range readings {
		s := r.scanner(rd, opt, r.problems)
		if err := s.scan(ctx); err != nil {
			return 0, err
		}
		r.keep(s)
		s.retire()
		r.Map.addScaled(s.out, rd.geo.BlockSize, blockSize)
	}
	return blockSize, nil
}

func smallestBlock(readings []reading) uint32 {
	size := uint32(ext.MaxBlockSize)
	for _, rd := range readings {
		size = min(size, rd.geo.BlockSize)
	}
	return size
}

// scanner returns a scanner with a map of its own.
func (r *Result) scanner(rd reading, opt Options, pr *problems) *scanner {
	bs := uint64(rd.geo.BlockSize)
	s := newScanner(rd, r.dev, (uint64(r.dev.size)+bs-1)/bs, opt, new(Map), pr)
	s.work = r.work
	s.work.beginScanner(s.groups, image.AdviceOf(r.dev.r).Bridge, rd.sb.NeedsRecovery() && !opt.TablesOnly)
	return s
}

// freeze makes the view of the finished map.
func (r *Result) freeze(blockSize uint32) {
	slack := newSlackIndex(r.Map)
	r.metadata, r.used = 0, 0
	all := newRunIndex(bounds(r.Map.Runs(), func(run Run) {
		r.used += run.Count
		r.last = run.Start + run.Count
		if run.Kind != FileData {
			r.metadata += run.Count
		}
	}))
	r.view = &View{
		dev:       r.dev,
		runs:      all,
		scanned:   newRunIndex(bounds(r.Map.scanned(), func(Run) {})),
		slack:     slack,
		holes:     holesOf(r.dev),
		blockSize: int64(blockSize),
		size:      r.dev.size &^ (sector - 1),
		unscanned: new(atomic.Int64),
	}
}

// completeSize makes the view of a clone as long as the filesystem, where the
// source ends early: no kernel mounts a shorter one. What is missing is
// unreadable.
func (r *Result) completeSize() {
	if r.super == nil || r.super.BlocksCount() > math.MaxInt64/uint64(r.super.BlockSize()) {
		return
	}
	if size := int64(r.super.BlocksCount()) * int64(r.super.BlockSize()); size > r.dev.size {
		r.view.size = size
		r.dev.lose(r.dev.size, size)
	}
}

// bounds yields where runs start and end, and shows each to see.
func bounds(runs iter.Seq[Run], see func(Run)) iter.Seq2[uint64, uint64] {
	return func(yield func(start, end uint64) bool) {
		for run := range runs {
			see(run)
			if !yield(run.Start, run.Start+run.Count) {
				return
			}
		}
	}
}

// scan goes through the filesystem as it is, then as journal replay would
// leave it.
func (s *scanner) scan(ctx context.Context) error {
	defer s.ahead.free()
	if s.sb.HasIncompat(ext.IncompatJournalDev) {
		s.markJournalDevice()
		return nil
	}
	if s.geo.BlocksCount > s.deviceBlocks {
		s.problems.add(Problem{Kind: SizeMismatch, What: fmt.Sprintf("the filesystem has %d blocks, the device %d", s.geo.BlocksCount, s.deviceBlocks)})
	}
	s.nameFeatures()
	s.markSuperblock()
	if s.opt.TablesOnly {
		return s.scanGroups(ctx)
	}
	s.markCopies()
	s.markMmp()
	if err := s.run(ctx); err != nil {
		return err
	}
	last, err := s.scanJournal(ctx)
	if err != nil {
		return err
	}
	return last.scanInUse(ctx)
}

// nameFeatures reports features that are not decoded: structures may have
// another layout than they are read by.
func (s *scanner) nameFeatures() {
	incompat, roCompat := s.sb.UnknownFeatures()
	for _, name := range slices.Concat(incompat, roCompat) {
		s.problems.add(Problem{Kind: UnknownFeature, What: name})
	}
}

func (s *scanner) markMmp() {
	if s.sb.HasIncompat(ext.IncompatMmp) {
		if block := s.sb.MmpBlock(); s.validBlock(block) {
			s.out.add(Mmp, block, 1)
		}
	}
}
