package scan

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
)

// markJournalDevice takes in a journal device: its superblock, and the journal
// that fills the rest.
func (s *scanner) markJournalDevice() {
	first := ext.SuperblockOffset / uint64(s.geo.BlockSize)
	s.out.add(Superblock, first, 1)
	if start, n, ok := s.validRun(first+1, s.geo.BlocksCount-first-1); ok {
		s.journalFile = fileMap{{Start: start, Len: uint32(min(n, 1<<32-1))}}
		s.markJournal()
	}
}

// seedJournalBackup takes in the journal by the copy of its inode's i_block in
// the superblock, which e2fsck turns to when the inode is bad.
func (s *scanner) seedJournalBackup(b *batch) {
	if iblock, ok := s.journalBackup(); ok {
		s.visitTree(b, s.sb.JournalInode(), iblock, ext.ExtentNode(iblock).Sound(), contentJournal)
	}
}

func (s *scanner) journalBackup() ([]byte, bool) {
	iblock, ok := s.sb.JournalBackup()
	if ext.ExtentNode(iblock[:]).Valid() && !ext.ExtentNode(iblock[:]).Sound() {
		ok = false
	}
	return iblock[:], ok && s.sb.JournalInode() != 0
}

// readJournal finds the journal and decodes its superblock. Where the inode
// does not lead to one, the copy in the filesystem's superblock may.
func (s *scanner) readJournal() (*ext.JournalSuperblock, error) {
	try := func(iblock []byte, extents bool) (*ext.JournalSuperblock, error) {
		s.journalFile = s.mapFile(iblock, extents)
		buf := make([]byte, s.geo.BlockSize)
		if err := s.readJournalBlock(0, buf); err != nil {
			return nil, err
		}
		return ext.DecodeJournalSuperblock(buf)
	}
	ino := s.sb.JournalInode()
	g, index := uint32(0), uint32(0)
	if s.geo.ValidInode(ino) {
		g, index = s.geo.InodePlace(ino)
	}
	err := errNoJournal
	if s.geo.ValidInode(ino) && g < s.groups && s.tables[g] != 0 {
		var jsb *ext.JournalSuperblock
		in := make(ext.Inode, s.geo.InodeSize)
		s.dev.read(in, int64(s.tables[g])*int64(s.geo.BlockSize)+int64(index)*int64(s.geo.InodeSize))
		if jsb, err = try(in.IBlock(), in.Flags()&ext.FlagExtents != 0); err == nil {
			return jsb, nil
		}
	}
	if iblock, ok := s.journalBackup(); ok {
		if jsb, err := try(iblock, ext.ExtentNode(iblock).Sound()); err == nil {
			return jsb, nil
		}
	}
	return nil, err
}

var (
	errNoJournal   = errors.New("no such inode")
	errJournalHole = errors.New("the journal has a hole")
)

func (s *scanner) readJournalBlock(n uint32, buf []byte) error {
	block, ok := s.journalFile.block(n)
	if !ok {
		return errJournalHole
	}
	s.dev.read(buf, int64(block)*int64(s.geo.BlockSize))
	return nil
}

// markJournal takes in what of the journal was asked for and is not taken in
// with its inode: nothing of one taken whole, else its superblock and, of a
// live one, what recovery would read. It returns what recovery would do, nil
// where there is nothing to recover.
func (s *scanner) markJournal() *ext.JournalRecovery {
	buf := make([]byte, s.geo.BlockSize)
	mark := func(n uint32) {
		if block, ok := s.journalFile.block(n); ok {
			s.out.add(Journal, block, 1)
		}
	}
	whole := func(err error) *ext.JournalRecovery {
		// What cannot be walked is not cut down.
		if err != nil {
			s.problems.add(Problem{Kind: BadJournal, What: err.Error(), Inode: s.sb.JournalInode()})
		}
		if s.journal != JournalNone {
			for _, x := range s.journalFile {
				s.out.add(Journal, x.Start, uint64(x.Len))
			}
		}
		return nil
	}
	mark(0)
	if err := s.readJournalBlock(0, buf); err != nil {
		return whole(err)
	}
	jsb, err := ext.DecodeJournalSuperblock(buf)
	if err != nil {
		return whole(err)
	}
	if s.journal == JournalWhole {
		whole(nil)
	}
	if jsb.Start == 0 || s.journal == JournalNone {
		return nil
	}
	recovery, err := ext.WalkJournal(jsb, s.journalFile.blocks(), s.readJournalBlock, func(n uint32, _ ext.JournalBlockKind) { mark(n) })
	if err != nil {
		return whole(err)
	}
	if recovery.Err != nil {
		s.problems.add(Problem{Kind: BadJournal, What: recovery.Err.Error(), Inode: s.sb.JournalInode()})
	}
	return recovery
}

// scanJournal takes in the journal and, where there is something to recover,
// goes through the filesystem once more as it would be after that.
func (s *scanner) scanJournal(ctx context.Context) error {
	if s.sb.JournalInode() == 0 {
		return nil
	}
	jsb, err := s.readJournal()
	if err != nil {
		s.problems.add(Problem{Kind: BadJournal, What: err.Error(), Inode: s.sb.JournalInode()})
		return nil
	}
	recovery := s.markJournal()
	if recovery == nil || len(recovery.Replay) == 0 && recovery.FastCommits == 0 {
		return nil
	}
	after := s.replayed(recovery)
	if err := after.run(ctx); err != nil {
		return err
	}
	return after.scanFastCommits(ctx, jsb, recovery)
}

// replayed returns a scanner of the filesystem as recovery would leave it.
func (s *scanner) replayed(recovery *ext.JournalRecovery) *scanner {
	over := &overlay{base: s.dev, blockSize: int64(s.geo.BlockSize)}
	for block, c := range recovery.Replay {
		if from, ok := s.journalFile.block(c.Block); ok && s.validBlock(block) {
			over.blocks = append(over.blocks, replacement{block, from, c.Escaped})
		}
	}
	slices.SortFunc(over.blocks, func(a, b replacement) int { return cmp.Compare(a.block, b.block) })
	dev := &device{r: over, size: s.dev.size}
	rd := reading{sb: s.sb, geo: s.geo, group: s.descGroup, believed: s.trustFlags}
	// The superblock itself may be among what is replaced.
	if sb, err := readSuperblock(dev, ext.SuperblockOffset); err == nil && s.descGroup == 0 {
		if geo, err := sb.Geometry(); err == nil && geo.BlockSize == s.geo.BlockSize {
			rd.sb, rd.geo = sb, geo
		}
	}
	after := newScanner(rd, dev, s.deviceBlocks, s.out, s.problems)
	after.threads, after.journal, after.journalFile = s.threads, s.journal, s.journalFile
	return after
}

// scanFastCommits takes in what the fast commits, replayed after all else,
// would put into inodes: they bring inodes and extents of their own.
func (s *scanner) scanFastCommits(ctx context.Context, jsb *ext.JournalSuperblock, recovery *ext.JournalRecovery) error {
	if recovery.FastCommits == 0 {
		return nil
	}
	b := new(batch)
	contents := make(map[uint32]content)
	first, end := jsb.FastCommitArea()
	area := ext.NewFastCommitScan(recovery.End)
	buf := make([]byte, s.geo.BlockSize)
	for n := first; n < min(end, first+recovery.FastCommits); n++ {
		if s.readJournalBlock(n, buf) != nil {
			break
		}
		area.Block(buf, func(t *ext.FastCommitTag) {
			if !s.geo.ValidInode(t.Inode) {
				return
			}
			s.name(b, t.Inode)
			switch t.Type {
			case ext.FastCommitInode:
				in := ext.Inode(append(make([]byte, 0, s.geo.InodeSize), t.Raw...))
				in = in[:cap(in)]
				contents[t.Inode] = s.contentOf(t.Inode, in)
				s.visitInode(b, t.Inode, in)
			case ext.FastCommitAddRange:
				s.visitLeaf(b, t.Inode, contents[t.Inode], uint64(t.Logical), t.Physical, uint64(t.Count))
			}
		})
	}
	s.merge(b)
	return s.scanAll(ctx)
}

// A replacement says that a block of the filesystem is to be read from another
// place: its copy in the journal.
type replacement struct {
	block, from uint64
	escaped     bool
}

// An overlay reads a filesystem as journal recovery would leave it.
type overlay struct {
	base      *device
	blockSize int64
	blocks    []replacement // ascending by block
}

func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.base.r.ReadAt(p, off)
	end := off + int64(n)
	i, _ := slices.BinarySearchFunc(o.blocks, uint64(off/o.blockSize), func(r replacement, b uint64) int {
		return cmp.Compare(r.block, b)
	})
	for ; i < len(o.blocks); i++ {
		r := o.blocks[i]
		at := int64(r.block) * o.blockSize
		if at >= end {
			break
		}
		if cerr := o.copyBlock(p[:n], off, r); cerr != nil && !errors.Is(cerr, io.EOF) {
			return int(max(at-off, 0)), cerr
		}
	}
	return n, err
}

// copyBlock puts the part of a replaced block that lies in p, which begins at
// off, in its place.
func (o *overlay) copyBlock(p []byte, off int64, r replacement) error {
	at := int64(r.block) * o.blockSize
	var block []byte
	inside := at >= off && at+o.blockSize <= off+int64(len(p))
	if inside {
		block = p[at-off:][:o.blockSize]
	} else {
		block = make([]byte, o.blockSize)
	}
	if _, err := o.base.r.ReadAt(block, int64(r.from)*o.blockSize); err != nil {
		return err
	}
	if r.escaped {
		ext.Unescape(block)
	}
	switch {
	case inside:
	case at < off:
		copy(p, block[off-at:])
	default:
		copy(p[at-off:], block)
	}
	return nil
}
