package diff

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/scan"
)

// A Source is one of the two images: Size bytes, with a filesystem that begins
// at byte 0. A Reader that is an image.Image says where it has holes.
type Source struct {
	Reader io.ReaderAt
	Size   int64
}

// Changes says where the second image may differ from the first. It is what a
// list of written blocks over a base knows.
type Changes interface {
	// NextChange returns the bounds in bytes [start, end) of the first run at or
	// after off that may differ; io.EOF where there is none.
	NextChange(off int64) (start, end int64, err error)
}

// Options are the choices of a comparison.
type Options struct {
	// Changes, unless nil, lists all that can differ; nothing else is compared.
	Changes Changes

	// Contents compares the contents of files too, as bytes. With Changes they
	// always are.
	Contents bool

	// Limit is how many changes are kept, in units of about 100 bytes of memory;
	// 0 stands for 300,000. All are counted.
	Limit int

	// Scan is how both images are scanned. Its Visit and its Progress are not
	// used.
	Scan scan.Options

	// Scanned are told of the progress of the two scans, as scan.Options.Progress
	// is. Both may be nil.
	Scanned [2]func(done, total int64)

	// Progress is told after the scans how many bytes of those that may differ
	// have been compared; the total is an estimate. It is called from one goroutine
	// at a time, and may be nil.
	Progress func(done, total int64)
}

const defaultLimit = 300_000

// ErrBlockSize says that the two filesystems have blocks of different sizes.
var ErrBlockSize = errors.New("the filesystems have blocks of different sizes")

// ErrUnusable says that a superblock is there but nothing can be found by it.
var ErrUnusable = errors.New("the superblock and its copies cannot be used")

// A SideError says that one of the two images cannot be compared.
type SideError struct {
	Second bool // which of the two
	Err    error
}

func (e *SideError) Error() string {
	if e.Second {
		return fmt.Sprintf("second image: %v", e.Err)
	}
	return fmt.Sprintf("first image: %v", e.Err)
}

func (e *SideError) Unwrap() error { return e.Err }

// Compare compares two images. It fails with a *SideError where one of them
// holds no filesystem (scan.ErrNotExt, ErrUnusable) or cannot be read, with
// ErrBlockSize, and when ctx ends. Damage does not make it fail.
func Compare(ctx context.Context, first, second Source, opt Options) (*Diff, error) {
	c := &comparison{
		ctx: ctx, opt: opt,
		d:            &Diff{Kinds: make(map[string]uint64), Omitted: make(map[string]uint64)},
		inodes:       make(map[uint32]*Inode),
		trees:        make(map[uint32]bool),
		lostNodes:    make(map[uint64]bool),
		dirs:         make(map[uint32]dirDelta),
		bitmapBlocks: make(map[uint64]bool),
		suspects:     make(map[uint32]bool),
		clusters:     make(map[uint32]int64),
		bits:         make(map[uint32]int64),
		nodesLeft:    maxAllNodes,
	}
	c.left = opt.Limit
	if c.left <= 0 {
		c.left = defaultLimit
	}
	if err := c.scanBoth(first, second); err != nil {
		return nil, err
	}
	if err := c.findBlocks(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.parseBlocks, c.finishInodes, c.finishDirectories, c.compareBitmaps, c.finishRest} {
		if err := step(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("comparing the filesystems: %w", err)
		}
	}
	c.name()
	c.fold()
	c.d.fill()
	return c.d, nil
}

// A comparison is one under way.
type comparison struct {
	ctx  context.Context
	opt  Options
	d    *Diff
	side [2]*side
	left int // changes that may still be kept

	runs []blockRun // that differ, ascending

	inodes    map[uint32]*Inode   // those in Diff.Inodes
	trees     map[uint32]bool     // inodes that own nodes that differ
	lostNodes map[uint64]bool     // nodes that differ, of files that are not known
	dirs      map[uint32]dirDelta // entries that came and went, by directory

	bitmapBlocks map[uint64]bool  // blocks of bitmaps that differ
	suspects     map[uint32]bool  // groups whose bitmaps mean something else, or lie elsewhere
	movedTables  []uint32         // groups whose inode table lies elsewhere
	clusters     map[uint32]int64 // by group: how many clusters became used, less those that became free
	bits         map[uint32]int64 // the same of inodes
	owned        [2]ranges        // blocks that changed hands: whose they were, whose they are

	nodesLeft   int // nodes of trees that may still be read
	entriesHeld int // in dirs

	quota   bool // a block of a quota file differs
	orphans bool // a block of the orphan file differs
}

// room tells whether a change of a kind, as large as n units, may be kept. It
// counts those that may not.
func (c *comparison) room(kind string, n int) bool {
	if c.left < n {
		c.d.Omitted[kind]++
		return false
	}
	c.left -= n
	return true
}

// scanBoth scans both images.
func (c *comparison) scanBoth(first, second Source) error {
	unit := blockSizeOf(first)
	seed := newSums(unit)
	for i, src := range []Source{first, second} {
		var s *sums
		if c.opt.Changes == nil {
			s = seed.fork()
		}
		scanning := c.opt.Scan
		scanning.Progress = c.opt.Scanned[i]
		sd, err := newSide(c.ctx, src, s, scanning)
		if err != nil {
			if c.ctx.Err() != nil {
				return err
			}
			return &SideError{i == 1, err}
		}
		c.side[i] = sd
	}
	if !agree(c.side[0], c.side[1]) {
		return fmt.Errorf("%w: %d and %d bytes", ErrBlockSize, c.side[0].readings[0].Geometry.BlockSize, c.side[1].readings[0].Geometry.BlockSize)
	}
	c.d.BlockSize = c.side[0].geo.BlockSize
	for i, s := range c.side {
		c.d.Sizes[i], c.d.SuperGroups[i] = s.size, s.res.SuperGroup()
	}
	return nil
}

// agree chooses readings of both sides that have blocks of one size, and tells
// whether there are any.
func agree(a, b *side) bool {
	for i := range a.readings {
		for j := range b.readings {
			if a.readings[i].Geometry.BlockSize == b.readings[j].Geometry.BlockSize {
				a.choose(i)
				b.choose(j)
				return true
			}
		}
	}
	return false
}
