package scrub

import (
	"context"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A journalFile is where the blocks of a journal lie, and what is in them.
type journalFile struct {
	extents []ext.Extent
	index   *journalIndex
}

var errHole = errors.New("the journal has a hole")

// readJournals makes the indexes of the journals that the scan found: one,
// unless there are several readings of a damaged filesystem.
func (s *scrubber) readJournals(ctx context.Context, res *scan.Result) error {
	for _, r := range res.Readings() {
		extents := r.Journal()
		if len(extents) == 0 || int(r.Geometry.BlockSize) != s.blockSize ||
			slices.ContainsFunc(s.journals, func(j journalFile) bool { return slices.Equal(j.extents, extents) }) {
			continue
		}
		read := func(n uint32, buf []byte) error {
			block, ok := blockOf(extents, n)
			if !ok {
				return errHole
			}
			if _, err := res.View().ReadAt(buf, int64(block)*int64(s.blockSize)); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		first := make([]byte, s.blockSize)
		var jsb *ext.JournalSuperblock
		if err := read(0, first); err == nil && !r.Super.HasIncompat(ext.IncompatJournalDev) {
			jsb, _ = ext.DecodeJournalSuperblock(first)
		}
		last := extents[len(extents)-1]
		index, err := newJournalIndex(ctx, jsb, s.blockSize, uint64(last.Logical)+uint64(last.Len), read, journalScrub{
			blocks:   uint64(res.View().Size()+int64(s.blockSize)-1) / uint64(s.blockSize),
			metadata: s.journalled,
			uuid:     s.journalUUID(),
			name: func(parent uint32, name []byte) {
				d := s.keys.get()
				defer s.keys.put(d)
				s.replacer(d, parent).entry(name, 0)
			},
			inode: func(ino uint32, in ext.Inode) {
				d := s.keys.get()
				defer s.keys.put(d)
				s.inode(d, ino, in)
			},
		})
		if err != nil {
			return err
		}
		s.journals = append(s.journals, journalFile{extents, index})
	}
	return nil
}

// journalled scrubs a copy of block n from a journal. It may be of a time when
// something else stood there: of a directory it is told by itself.
func (s *scrubber) journalled(n uint64, data []byte) {
	d := s.keys.get()
	defer s.keys.put(d)
	switch {
	case s.m.Contains(scan.Journal, n):
		scrubJournalSuperblock(data, s.journalUUID())
	case !s.m.Contains(scan.Directory, n) && !s.m.Contains(scan.InodeTable, n) && layout{blockSize: s.blockSize}.sound(data):
		s.directoryBlock(d, n, data)
	default:
		s.block(d, n, data)
	}
}

// journalBlock scrubs a block of a journal. Of places where e2fsck looks for
// one there is left a superblock.
func (s *scrubber) journalBlock(n uint64, data []byte) {
	for _, j := range s.journals {
		for _, x := range j.extents {
			switch {
			case n == j.extents[0].Start:
				j.index.block(0, data) // whatever its number is, as on a journal device
				return
			case n >= x.Start && n-x.Start < uint64(x.Len):
				j.index.block(x.Logical+uint32(n-x.Start), data)
				return
			}
		}
	}
	scrubJournalSuperblock(data, s.journalUUID())
}

// inJournal tells whether a block is one of a journal's.
func (s *scrubber) inJournal(n uint64) bool {
	for _, j := range s.journals {
		for _, x := range j.extents {
			if n >= x.Start && n-x.Start < uint64(x.Len) {
				return true
			}
		}
	}
	return false
}

// blockOf returns where block n of a file lies.
func blockOf(extents []ext.Extent, n uint32) (uint64, bool) {
	for _, x := range extents {
		if n >= x.Logical && n-x.Logical < x.Len {
			return x.Start + uint64(n-x.Logical), true
		}
	}
	return 0, false
}

// journalUUID returns what draws UUIDs in a journal's superblock; nil where they
// stay.
func (s *scrubber) journalUUID() func([]byte) {
	if !s.seeds.uuid {
		return nil
	}
	return func(u []byte) {
		d := s.keys.get()
		defer s.keys.put(d)
		d.uuid(u)
	}
}
