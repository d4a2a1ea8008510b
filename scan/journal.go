package scan

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"e2qcow/ext"
	"e2qcow/image"
)

// markJournalDevice marks a journal device: its superblock, and the journal
// that fills the rest.
func (s *scanner) markJournalDevice() {
	first := ext.SuperblockOffset / uint64(s.geo.BlockSize)
	s.out.add(Superblock, first, 1)
	if start, n, ok := s.validRun(first+1, s.geo.BlocksCount-first-1); ok {
		// The log counts in blocks of the device: its superblock is not number 0.
		s.journalFile = FileMap{{Logical: uint32(start), Start: start, Len: uint32(min(n, 1<<32-1-start))}}
		s.markJournalBlock(uint32(start))
		buf := make([]byte, s.geo.BlockSize)
		s.dev.read(buf, int64(start)*int64(s.geo.BlockSize))
		jsb, err := ext.DecodeJournalSuperblock(buf)
		if err != nil {
			if !s.journalUnread(start + 1) {
				s.problems.add(Problem{Kind: BadJournal, What: err.Error(), Block: start})
			}
			return
		}
		s.markJournal(jsb)
	}
}

// journalBackup returns the copy of the journal inode's i_block that the
// superblock holds, which e2fsck turns to when the inode is bad.
func (s *scanner) journalBackup() ([]byte, bool) {
	iblock, ok := s.sb.JournalBackup()
	if ext.ExtentNode(iblock[:]).Valid() && !ext.ExtentNode(iblock[:]).Sound() {
		ok = false
	}
	return iblock[:], ok && s.sb.JournalInode() != 0
}

// A treeRoot is an i_block, and how it is read.
type treeRoot struct {
	iblock  []byte
	extents bool
}

func rootOf(in ext.Inode) treeRoot {
	return treeRoot{in.IBlock(), in.Flags()&ext.FlagExtents != 0}
}

// journalRoots returns the journal inode's i_block and its copy in the
// superblock, as far as there are any.
func (s *scanner) journalRoots() []treeRoot {
	var roots []treeRoot
	if ino := s.sb.JournalInode(); s.geo.ValidInode(ino) {
		if in := make(ext.Inode, s.geo.InodeSize); s.readInode(in, ino) {
			roots = append(roots, rootOf(in))
		}
	}
	if iblock, ok := s.journalBackup(); ok {
		roots = append(roots, treeRoot{iblock, ext.ExtentNode(iblock).Sound()})
	}
	return roots
}

// findJournal makes journalFile the first of the places for a journal where
// one is found, and decodes its superblock. The trees of all are taken in, and
// the first block of each: e2fsck looks there too.
func (s *scanner) findJournal() (*ext.JournalSuperblock, error) {
	var found *ext.JournalSuperblock
	var firstErr error
	var file FileMap
	b := new(batch)
	buf := make([]byte, s.geo.BlockSize)
	for _, root := range s.journalRoots() {
		s.visitTree(b, s.sb.JournalInode(), root.iblock, root.extents, contentData)
		if found != nil {
			continue
		}
		var cost mapCost
		if s.journalFile, cost = s.mapFile(root.iblock, root.extents, maxJournalNodes); cost.cut {
			s.problems.add(Problem{Kind: Unbounded, What: "the tree of the journal has more nodes or extents than are followed", Inode: s.sb.JournalInode()})
		}
		s.markJournalBlock(0)
		err := s.readJournalBlock(0, buf)
		if err == nil {
			found, err = ext.DecodeJournalSuperblock(buf)
		}
		if err != nil && firstErr == nil {
			firstErr, file = err, s.journalFile
		}
	}
	s.merge(b)
	if found == nil {
		s.journalFile = file
		if firstErr == nil {
			firstErr = errors.New("there is no such inode")
		}
		return nil, firstErr
	}
	return found, nil
}

func (s *scanner) markJournalBlock(n uint32) {
	if block, ok := s.journalFile.Block(n); ok {
		s.out.add(Journal, block, 1)
	}
}

// markWholeJournal marks the journal's file up to the length in its superblock.
func (s *scanner) markWholeJournal(jsb *ext.JournalSuperblock) {
	for _, x := range s.journalFile {
		if x.Logical >= jsb.MaxLen {
			break
		}
		if start, n, ok := s.validRun(x.Start, uint64(min(x.Len, jsb.MaxLen-x.Logical))); ok {
			s.out.add(Journal, start, n)
		}
	}
}

// journalUnread reports whether one of the first blocks of the journal could
// not be read, which may explain an invalid journal.
func (s *scanner) journalUnread(blocks uint64) bool {
	bs, lost := int64(s.geo.BlockSize), s.dev.unreadable()
	for _, x := range s.journalFile {
		if uint64(x.Logical) >= blocks {
			break
		}
		start := int64(x.Start) * bs
		end := start + int64(min(uint64(x.Len), blocks-uint64(x.Logical)))*bs
		if i := sort.Search(len(lost), func(i int) bool { return lost[i].End > start }); i < len(lost) && lost[i].Start < end {
			return true
		}
	}
	return false
}

// markLostJournal marks the file of a journal that has no superblock. That may
// be any file, so its blocks count as claimed, and are bounded.
func (s *scanner) markLostJournal() {
	b := new(batch)
	for _, x := range s.journalFile {
		start, n := x.Start, uint64(x.Len)
		if x.Logical == 0 && n > 0 {
			start, n = start+1, n-1 // is taken, whatever it holds
		}
		if start, n, ok := s.validRun(start, n); ok {
			b.mark(Claimed, start, n)
		}
		if b.full() {
			s.merge(b)
		}
	}
	s.merge(b)
}

// markJournal marks the requested part of the journal, and returns what
// recovery would do; nil if there is nothing to recover.
func (s *scanner) markJournal(jsb *ext.JournalSuperblock) *ext.JournalRecovery {
	if s.opt.Journal == JournalWhole {
		s.markWholeJournal(jsb)
	}
	if jsb.Start == 0 || s.opt.Journal == JournalNone {
		return nil
	}
	if jsb.BlockSize != s.geo.BlockSize {
		s.problems.add(Problem{Kind: BadJournal, What: fmt.Sprintf("block size %d, the filesystem has %d", jsb.BlockSize, s.geo.BlockSize), Inode: s.sb.JournalInode()})
		return nil
	}
	s.out.walked = true
	// A journal that is longer than the filesystem has holes, or a block twice.
	live := func(n uint32, _ ext.JournalBlockKind) { s.markJournalBlock(n) }
	if s.opt.Journal == JournalWhole {
		live = nil // they are taken already
	}
	reader := s.logReader()
	recovery, err := ext.WalkJournal(jsb, min(s.journalFile.Blocks(), s.end), reader.read, live)
	whole := err != nil // what cannot be walked is not cut down
	if err == nil {
		err = recovery.Err
	}
	if err != nil {
		kind := BadJournal
		if errors.Is(err, errLongLog) || errors.Is(err, ext.ErrJournalTags) {
			kind, whole = Unbounded, true
		}
		if kind != BadJournal || !s.journalUnread(s.journalFile.Blocks()) {
			s.problems.add(Problem{Kind: kind, What: err.Error(), Inode: s.sb.JournalInode()})
		}
	}
	if whole {
		s.markWholeJournal(jsb)
	}
	return recovery
}

// scanJournal marks the journal. If there is something to recover, it scans the
// filesystem once more in the state after recovery. It returns the last
// scanner.
func (s *scanner) scanJournal(ctx context.Context) (*scanner, error) {
	ino := s.sb.JournalInode()
	if ino == 0 {
		return s, nil
	}
	jsb, err := s.findJournal()
	if err != nil {
		if !s.journalUnread(1) {
			s.problems.add(Problem{Kind: BadJournal, What: err.Error(), Inode: ino})
		}
		if s.opt.Journal == JournalWhole {
			s.markLostJournal()
		}
		return s, s.scanAll(ctx)
	}
	recovery := s.markJournal(jsb)
	if err := s.scanAll(ctx); err != nil {
		return s, err
	}
	if recovery == nil || recovery.Replay.Len() == 0 && recovery.FastCommits == 0 {
		return s, nil
	}
	after := s.replayed(recovery)
	s.after = after
	s.retire()
	defer after.ahead.free()
	if err := after.run(ctx); err != nil {
		return after, err
	}
	return after, after.scanFastCommits(ctx, jsb, recovery)
}

// replayed returns a scanner of the filesystem as recovery would leave it.
func (s *scanner) replayed(recovery *ext.JournalRecovery) *scanner {
	over := &overlay{base: s.dev, blockSize: int64(s.geo.BlockSize), replay: &recovery.Replay, journal: s.journalFile, end: s.end}
	dev := &device{r: over, size: s.dev.size, retries: s.dev.retries, bad: s.dev.bad, done: s.dev.done}
	rd := reading{sb: s.sb, geo: s.geo, group: s.descGroup, believed: s.trustFlags}
	// Recovery may also replace the superblock.
	if sb, err := ext.DecodeSuperblock(readPrimary(dev)); err == nil && s.descGroup == 0 {
		if geo, err := sb.Geometry(); err == nil && geo.BlockSize == s.geo.BlockSize {
			rd.sb, rd.geo = sb, geo
		}
	}
	after := newScanner(rd, dev, s.deviceBlocks, s.opt, s.out, s.problems)
	after.work = s.work
	after.work.beginScanner(after.groups, image.AdviceOf(s.dev.r).Bridge, false)
	after.journalFile = s.journalFile
	after.held = s.held
	return after
}

// scanFastCommits processes the inodes and extents in fast commits. Recovery
// writes them after everything else.
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
				if c := contents[t.Inode]; c != contentFile || !t.Unwritten {
					s.visitLeaf(b, t.Inode, c, uint64(t.Logical), t.Physical, uint64(t.Count))
				}
			}
		})
		if b.full() {
			s.merge(b)
		}
		if len(s.pending) >= s.maxPending {
			if err := s.drain(ctx); err != nil {
				return err
			}
		}
	}
	s.merge(b)
	return s.scanAll(ctx)
}
