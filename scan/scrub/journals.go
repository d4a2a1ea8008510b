package scrub

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A journalFile is where the blocks of a journal lie, and what is in them.
type journalFile struct {
	blocks scan.FileMap
	places []ext.Extent // the same in the order of their places, none twice
	index  *journalIndex
}

// newJournalFile makes one of a journal that has a block. Of its blocks that
// share a place, the one whose extent begins first there has it; what of an
// extent lies behind the beginning of the next one in the file is no block of it.
func newJournalFile(blocks scan.FileMap, index *journalIndex) journalFile {
	sorted := slices.Clone(blocks)
	for i := range blocks[1:] {
		sorted[i].Len = min(sorted[i].Len, blocks[i+1].Logical-blocks[i].Logical)
	}
	slices.SortStableFunc(sorted, func(a, b ext.Extent) int { return cmp.Compare(a.Start, b.Start) })
	places, end := sorted[:0], uint64(0)
	for _, x := range sorted {
		if twice := min(max(end, x.Start)-x.Start, uint64(x.Len)); twice > 0 {
			x.Logical, x.Start, x.Len = x.Logical+uint32(twice), x.Start+twice, x.Len-uint32(twice)
		}
		if x.Len > 0 {
			places, end = append(places, x), x.Start+uint64(x.Len)
		}
	}
	return journalFile{blocks, places, index}
}

// at returns which block of the journal lies at block n of the filesystem.
func (j *journalFile) at(n uint64) (uint32, bool) {
	if n == j.blocks[0].Start {
		return 0, true // whatever its number is, as on a journal device
	}
	i, found := slices.BinarySearchFunc(j.places, n, func(x ext.Extent, n uint64) int { return cmp.Compare(x.Start, n) })
	if !found {
		i--
	}
	if i < 0 || n-j.places[i].Start >= uint64(j.places[i].Len) {
		return 0, false
	}
	return j.places[i].Logical + uint32(n-j.places[i].Start), true
}

var (
	errHole  = errors.New("the journal has a hole")
	errTwice = errors.New("the block is that of another part of the journal")
)

// readJournals makes the indexes of the journals that the scan found: one,
// unless there are several readings of a damaged filesystem.
func (s *scrubber) readJournals(ctx context.Context, res *scan.Result) error {
	for _, r := range res.Readings() {
		blocks := r.Journal()
		if len(blocks) == 0 || int(r.Geometry.BlockSize) != s.blockSize ||
			slices.ContainsFunc(s.journals, func(j journalFile) bool { return slices.Equal(j.blocks, blocks) }) {
			continue
		}
		file := newJournalFile(blocks, nil)
		read := func(n uint32, buf []byte) error {
			block, ok := blocks.Block(n)
			if !ok {
				return errHole
			}
			if at, _ := file.at(block); at != n {
				return errTwice
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
		length := uint64(res.View().Size()+int64(s.blockSize)-1) / uint64(s.blockSize) // of the device, in blocks
		var err error
		file.index, err = newJournalIndex(ctx, jsb, s.blockSize, min(blocks.Blocks(), length, s.lim.blocks), read, journalScrub{
			keys: s.keys, lim: &s.lim,
			blocks:   length,
			known:    s.loggedBlock,
			metadata: s.journalled,
			uuid:     s.journalUUID,
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
		s.journals = append(s.journals, file)
	}
	return nil
}

// journalled scrubs a copy of block n from a journal. It may be of a time when
// something else stood there: of a directory it is told by itself.
func (s *scrubber) journalled(n uint64, data []byte) {
	d := s.keys.get()
	defer s.keys.put(d)
	d.copied = true
	defer func() { d.copied = false }()
	switch {
	case s.m.Contains(scan.Journal, n):
		s.journalSuperblock(data)
	case !s.m.Contains(scan.Directory, n) && !s.m.Contains(scan.InodeTable, n) && layout{blockSize: s.blockSize}.sound(data):
		s.directoryBlock(d, n, data)
	default:
		s.block(d, n, data)
	}
}

// journalBlock scrubs a block of a journal. Of places where e2fsck looks for
// one there is left a superblock.
func (s *scrubber) journalBlock(n uint64, data []byte) {
	for i := range s.journals {
		if at, ok := s.journals[i].at(n); ok {
			s.journals[i].index.block(at, data)
			return
		}
	}
	s.journalSuperblock(data)
}

// inJournal tells whether a block is one of a journal's.
func (s *scrubber) inJournal(n uint64) bool {
	return slices.ContainsFunc(s.journals, func(j journalFile) bool {
		_, ok := j.at(n)
		return ok
	})
}

// journalSuperblock scrubs a block where the superblock of a journal belongs.
func (s *scrubber) journalSuperblock(block []byte) {
	d := s.keys.get()
	defer s.keys.put(d)
	journalSuperblock(d, &s.lim, block, s.journalUUID)
}

// journalUUID draws a UUID in a journal's superblock, in place, where UUIDs are
// drawn. What is none is drawn always.
func (s *scrubber) journalUUID(u []byte) {
	if !s.seeds.uuid && (isUUID(u) || s.sameUUID(u)) {
		return
	}
	d := s.keys.get()
	defer s.keys.put(d)
	d.uuid(u)
}

// loggedBlock tells whether the number of a block in a journal stays: as that of
// metadata, or of a block in use, or where no text is such a number.
func (s *scrubber) loggedBlock(block uint64) bool {
	if s.lim.blocks <= wordBlocks {
		return true
	}
	for k := range scan.Claimed + 1 {
		if s.m.Contains(k, block) {
			return true
		}
	}
	d := s.keys.get()
	defer s.keys.put(d)
	return s.inUse(d, block)
}
