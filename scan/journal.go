package scan

import (
	"context"

	"e2qcow/ext"
)

// markJournalDevice takes in a journal device: its superblock, and the journal
// that fills the rest.
func (s *scanner) markJournalDevice() {
	s.out.add(Superblock, ext.SuperblockOffset/uint64(s.geo.BlockSize), 1)
	first := ext.SuperblockOffset/uint64(s.geo.BlockSize) + 1
	if start, n, ok := s.validRun(first, s.geo.BlocksCount-first); ok {
		s.out.add(Journal, start, n)
	}
}

// seedJournalBackup takes in the journal by the copy of its inode's i_block in
// the superblock, which e2fsck turns to when the inode is bad.
func (s *scanner) seedJournalBackup(b *batch) {
	iblock, ok := s.sb.JournalBackup()
	if !ok || s.sb.JournalInode() == 0 {
		return
	}
	node := ext.ExtentNode(iblock[:])
	s.visitTree(b, s.sb.JournalInode(), iblock[:], node.Sound(), contentJournal)
}

func (s *scanner) scanJournal(ctx context.Context) error { return ctx.Err() }
