package scrub

import "e2qcow/ext"

// Where fields of an inode are that scrubbing looks at by itself.
const (
	inodeExtraSizeOffset = 0x80
	inodeFixedEnd        = 0xA0 // behind i_projid
)

// inodeFields is struct ext4_inode.
var inodeFields = newStructure("inode", inodeFixedEnd, []field{
	{0x00, 2, "i_mode", bounded, possibleMode},
	{0x02, 2, "i_uid", number, nil},
	{0x04, 4, "i_size_lo", number, nil},
	{0x08, 4, "i_atime", number, possibleTime},
	{0x0C, 4, "i_ctime", number, possibleTime},
	{0x10, 4, "i_mtime", number, possibleTime},
	{0x14, 4, "i_dtime", number, nil},
	{0x18, 2, "i_gid", number, nil},
	{0x1A, 2, "i_links_count", number, nil},
	{0x1C, 4, "i_blocks_lo", number, nil},
	{0x20, 4, "i_flags", number, nil},
	{0x24, 4, "l_i_version", number, nil},
	{0x28, 60, "i_block", part, nil},
	{0x64, 4, "i_generation", number, nil},
	{0x68, 4, "i_file_acl_lo", bounded, possibleBlock},
	{0x6C, 4, "i_size_high", bounded, func(_ *limits, v uint64) bool { return v < 1<<16 }},
	{0x70, 4, "i_obso_faddr", unset, nil},
	{0x74, 2, "l_i_blocks_high", number, nil},
	{0x76, 2, "l_i_file_acl_high", number, nil},
	{0x78, 2, "l_i_uid_high", number, nil},
	{0x7A, 2, "l_i_gid_high", number, nil},
	{0x7C, 2, "l_i_checksum_lo", checksum, nil},
	{0x7E, 2, "l_i_reserved", unset, nil},
	{0x80, 2, "i_extra_isize", bounded, func(_ *limits, v uint64) bool { return v%4 == 0 && v <= 1024 }},
	{0x82, 2, "i_checksum_hi", checksum, nil},
	{0x84, 4, "i_ctime_extra", number, possibleNanoseconds},
	{0x88, 4, "i_mtime_extra", number, possibleNanoseconds},
	{0x8C, 4, "i_atime_extra", number, possibleNanoseconds},
	{0x90, 4, "i_crtime", number, possibleTime},
	{0x94, 4, "i_crtime_extra", number, possibleNanoseconds},
	{0x98, 4, "i_version_hi", number, below(1 << 16)},
	{0x9C, 4, "i_projid", number, below(1 << 24)},
})

// keptInDoubt are the numbers of an inode by which e2fsck goes on, so that they
// stay even where the checksum is wrong, if the inode passes otherwise.
var keptInDoubt = [...]struct{ off, size int }{
	{0x04, 4}, {0x14, 4}, {0x1A, 2}, {0x1C, 4}, {0x20, 4}, {0x64, 4}, {0x74, 2}, {0x76, 2},
}

func possibleMode(_ *limits, v uint64) bool {
	switch v & ext.ModeType {
	case ext.ModeFIFO, ext.ModeChar, ext.ModeDir, ext.ModeBlock, ext.ModeRegular, ext.ModeSymlink, ext.ModeSocket:
		return true
	}
	return v == 0
}

// possibleTime bounds times by that of the last write, and a day.
func possibleTime(l *limits, v uint64) bool { return l.lastWrite == 0 || v <= l.lastWrite+86400 }

// possibleNanoseconds bounds the field beside a time: two bits that go on with
// the time after 2038, and nanoseconds.
func possibleNanoseconds(_ *limits, v uint64) bool { return v&3 == 0 && v>>2 < 1e9 }

func possibleBlock(l *limits, v uint64) bool { return v < l.blocks }

func possibleInode(l *limits, v uint64) bool { return v <= l.inodes }

// unlikelyFlags are the flags of an inode that no kernel sets, or none that
// there is today.
const unlikelyFlags = 0x8D400000 | 0x00002704

// manyLinks is more links than most inodes have.
const manyLinks = 2000

// How many fields of an inode have to be odd for it to be taken for something
// else: damage makes some of them so, contents most. Where there are checksums
// and it is wrong, fewer will do.
const (
	tooUnlikely        = 3
	tooUnlikelyInDoubt = 2
)

// judgeInode tells how far an inode is one.
func (s *scrubber) judgeInode(in ext.Inode, right bool) standing {
	if right && s.sums {
		return genuine
	}
	odd := 0
	count := func(is bool) {
		if is {
			odd++
		}
	}
	sectors := uint64(in.BlocksLo()) | uint64(le.Uint16(in[0x74:]))<<32
	blockMap := in.Flags()&(ext.FlagExtents|ext.FlagInlineData) == 0
	count(in.IsUnknown() && in.Mode() != 0)
	count(in.LinksCount() > manyLinks && in.Type() != ext.ModeDir)
	count(in.Size() > 1<<44 || in.Type() == ext.ModeDir && in.Size() > 1<<34)
	count(sectors > s.lim.blocks*s.lim.blockSize/512)
	count(in.Flags()&unlikelyFlags != 0)
	count(in.LinksCount() > 0 && in.Dtime() != 0)
	count(le.Uint32(in[0x70:]) != 0)
	count(uint64(le.Uint32(in[0x68:])) >= s.lim.blocks)
	count(le.Uint16(in[0x7E:]) != 0)
	count(len(in) > goodOldInodeSize && in.ExtraSize() == 0 && le.Uint16(in[inodeExtraSizeOffset:]) != 0)
	count(in.Flags()&ext.FlagExtents != 0 && !ext.ExtentNode(in.IBlock()).Valid())
	if blockMap && in.Type() != ext.ModeSymlink {
		illegal := 0
		for n := range ext.IBlockCount {
			if uint64(in.BlockNr(n)) >= s.lim.blocks {
				illegal++
			}
		}
		count(illegal > 2)
	}
	count(in.LinksCount() == 0 && in.Mode() != 0 && in.Dtime() <= s.inodes && !s.unlinked)
	unlinked := in.LinksCount() == 0 && odd > 0 && in.Flags()&ext.FlagEaInode == 0
	late := 0
	for _, f := range inodeFields.fields {
		if f.rule == number && f.possible != nil && f.off+f.size <= min(len(in), goodOldInodeSize+in.ExtraSize()) &&
			!f.possible(&s.lim, uintOf(le, in[f.off:f.off+f.size])) {
			late++
		}
	}
	// Files may be from the future, but not many times of one.
	odd += late / 2
	whole := len(in) >= s.inodeSize // else it is cut short, in a fast commit
	switch {
	case odd >= tooUnlikely, s.sums && whole && odd >= tooUnlikelyInDoubt, unlinked:
		return garbage
	case s.sums && whole, odd > 0:
		return doubtful
	}
	return plausible
}

// writeInode writes the fields of an inode that are numbers.
func (s *scrubber) writeInode(d *drawer, in, old ext.Inode, how standing) {
	n := min(len(in), goodOldInodeSize)
	if len(old) >= goodOldInodeSize+4 {
		n = min(goodOldInodeSize+max(old.ExtraSize(), 4), len(old), inodeFixedEnd)
	}
	inodeFields.write(d, &s.lim, in[:n], old[:n], how)
	if how == doubtful {
		for _, f := range keptInDoubt {
			copy(in[f.off:f.off+f.size], old[f.off:])
		}
		if old.LinksCount() > 0 && old.Dtime() != 0 {
			le.PutUint32(in[0x14:], uint32(d.noise(uint64(old.Dtime()), 4, nil)))
		}
		if old.LinksCount() > manyLinks && old.Flags()&unlikelyFlags != 0 {
			le.PutUint16(in[0x1A:], uint16(d.noise(uint64(old.LinksCount()), 2, nil)))
			le.PutUint32(in[0x1C:], uint32(d.noise(uint64(old.BlocksLo()), 4, nil)))
		}
	}
	if how == garbage && in.Mode() != 0 && possibleMode(&s.lim, uint64(old.Mode())) {
		le.PutUint16(in, in.Mode()&^ext.ModeType|old.Type())
	}
}
