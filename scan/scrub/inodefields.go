package scrub

import (
	"e2qcow/ext"
	"e2qcow/scan"
)

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

// checkedFlags are the flags by which e2fsck goes on, and counts how bad an inode
// is: those of immutable and append-only files, of encryption, an index, AFS,
// huge files, extents, values of attributes, inline data and case folding.
// Each is a bit of its own, so all of them are less than two letters of a text.
const checkedFlags = 0x502C3830

// manyLinks is more links than most inodes have.
const manyLinks = 2000

// How many fields of an inode have to be odd for it to be taken for something
// else: damage makes some of them so, contents most. Where there are checksums
// and it is wrong, one fewer will do, and where fewTextual words of it may be
// pieces of a text, too.
const (
	tooUnlikely        = 4
	tooUnlikelyInDoubt = 3
	fewTextual         = 2
)

// textualFields counts the words of the fixed part of an inode that may be
// pieces of a text, i_block left out.
func textualFields(in ext.Inode) (n int) {
	for at := 0; at+4 <= goodOldInodeSize; at += 4 {
		if at < ext.IBlockOffset || at >= ext.IBlockOffset+ext.IBlockSize {
			if textual(in[at : at+4]) {
				n++
			}
		}
	}
	return n
}

// holdsValue tells whether an inode holds the value of an attribute. Then its
// times are none: i_atime is the hash of the value, and i_ctime and i_version
// count what refers to it.
func holdsValue(in ext.Inode) bool {
	return in.Flags()&ext.FlagEaInode != 0 && in.Type() == ext.ModeRegular
}

// ofValue tells whether a field of such an inode is another than its name says.
func (f *field) ofValue() bool {
	switch f.off {
	case 0x08, 0x0C, 0x10, 0x24:
		return true
	}
	return false
}

// epochOffsets is where the fields are whose two lowest bits go on with a time
// after 2038. By these and the sign of the time e2fsck tells what is too late.
var epochOffsets = [...]int{0x84, 0x88, 0x8C, 0x94}

const epochBits = 3

// judgeInode tells how far an inode is one.
func (s *scrubber) judgeInode(in ext.Inode, right bool) standing {
	if right && s.sums {
		return genuine
	}
	odd := 0
	// count counts a field, of size bytes at an offset. What was erased is no
	// sign of contents.
	count := func(is bool, off, size int) {
		if is && !plainBytes(in[off:off+size]) {
			odd++
		}
	}
	sectors := uint64(in.BlocksLo()) | uint64(le.Uint16(in[0x74:]))<<32
	blockMap := in.Flags()&(ext.FlagExtents|ext.FlagInlineData) == 0
	count(in.IsUnknown(), 0x00, 2)
	count(in.LinksCount() > manyLinks && in.Type() != ext.ModeDir, 0x1A, 2)
	count(in.Size() > 1<<44 || in.Type() == ext.ModeDir && in.Size() > 1<<34, 0x6C, 4)
	if sectors > s.lim.blocks*s.lim.blockSize/512 {
		count(sectors>>32 != 0, 0x74, 2)
		count(sectors>>32 == 0, 0x1C, 4)
	}
	count(in.Flags()&unlikelyFlags != 0, 0x20, 4)
	count(in.LinksCount() > 0 && in.Dtime() > s.inodes, 0x14, 4) // else it is on the list of orphans
	count(true, 0x70, 4)
	count(uint64(le.Uint32(in[0x68:])) >= s.lim.blocks, 0x68, 4)
	count(true, 0x7E, 2)
	count(len(in) > goodOldInodeSize && in.ExtraSize() == 0, min(inodeExtraSizeOffset, len(in)-2), 2)
	count(in.Flags()&ext.FlagExtents != 0 && !ext.ExtentNode(in.IBlock()).Valid(), ext.IBlockOffset, 2)
	if blockMap && in.Type() != ext.ModeSymlink {
		illegal := 0
		for n := range ext.IBlockCount {
			if uint64(in.BlockNr(n)) >= s.lim.blocks && !plainBytes(in.IBlock()[4*n:4*n+4]) {
				illegal++
			}
		}
		count(illegal > 2, ext.IBlockOffset, ext.IBlockSize)
	}
	count(in.LinksCount() == 0 && in.Dtime() <= s.inodes && !s.unlinked, 0x00, 2)
	unlinked := in.LinksCount() == 0 && odd > 0 && in.Flags()&ext.FlagEaInode == 0
	late := 0
	for _, i := range inodeFields.judged {
		f := &inodeFields.fields[i]
		if f.rule == number && !(holdsValue(in) && f.ofValue()) && f.off+f.size <= min(len(in), goodOldInodeSize+in.ExtraSize()) &&
			!f.possible(&s.lim, uintOf(le, in[f.off:f.off+f.size])) {
			late++
		}
	}
	// Files may be from the future, but not many times of one.
	odd += late / 2
	whole := len(in) >= s.inodeSize // else it is cut short, in a fast commit
	most := tooUnlikely
	if s.sums && whole {
		most = tooUnlikelyInDoubt
	}
	if odd == most-1 && textualFields(in) >= fewTextual {
		most--
	}
	switch {
	case odd >= most, unlinked:
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
			if b := old[f.off : f.off+f.size]; !textual(b) {
				copy(in[f.off:], b)
			}
		}
		if old.LinksCount() > 0 && old.Dtime() > s.inodes {
			d.drawAgain(in, old, 0x14, 4)
		}
		if old.LinksCount() > manyLinks && old.Flags()&unlikelyFlags != 0 {
			d.drawAgain(in, old, 0x1A, 2)
			d.drawAgain(in, old, 0x1C, 4)
		}
	}
	if holdsValue(old) && how != garbage {
		for _, f := range inodeFields.fields {
			if f.ofValue() && !textual(old[f.off:f.off+f.size]) {
				copy(in[f.off:f.off+f.size], old[f.off:])
			}
		}
	}
	if how == plausible || how == doubtful {
		s.drawText(d, in[:n], old)
	}
	for _, at := range epochOffsets {
		if at < n && in[at]|old[at] != 0 {
			in[at] = in[at]&^epochBits | old[at]&epochBits
		}
	}
	if how == garbage {
		le.PutUint32(in[0x20:], le.Uint32(in[0x20:])&^checkedFlags|old.Flags()&checkedFlags)
	}
	if how == garbage && in.Mode() != 0 && possibleMode(&s.lim, uint64(old.Mode())) {
		le.PutUint16(in, in.Mode()&^ext.ModeType|old.Type())
	}
}

// fileACLOffset is where an inode has the number of its attribute block.
const fileACLOffset = 0x68

// valueHashOffset is where the inode of a value has its hash, in place of i_atime.
const valueHashOffset = 0x08

// looseFields is where the fields of an inode are that may be other numbers of
// the same size: e2fsck looks at most at whether they are possible.
var looseFields = [...]struct {
	off, size int
	possible  func(*limits, uint64) bool // nil if any number is
}{
	{0x02, 2, nil}, {0x08, 4, possibleTime}, {0x0C, 4, possibleTime}, {0x10, 4, possibleTime}, {0x18, 2, nil}, {0x24, 4, nil},
	{0x64, 4, nil}, {fileACLOffset, 4, possibleBlock}, {0x70, 4, nil}, {0x74, 2, nil}, {0x76, 2, nil}, {0x78, 2, nil}, {0x7A, 2, nil},
	{0x84, 4, possibleNanoseconds}, {0x88, 4, possibleNanoseconds}, {0x8C, 4, possibleNanoseconds}, {0x90, 4, possibleTime},
	{0x94, 4, possibleNanoseconds}, {0x98, 4, nil}, {0x9C, 4, nil},
}

// firstTime and lastTime are where i_atime and i_mtime are, and i_ctime between
// them.
const (
	firstTime = 0x08
	lastTime  = 0x10
)

// nearTimes tells whether a time of an inode is within a day and a half of another
// one: in a text the upper halves of two words in a row are hardly ever alike.
func nearTimes(in ext.Inode, off int) bool {
	const near, early = 1 << 17, 1 << 28 // seconds
	v := int64(le.Uint32(in[off:]))
	if v < early {
		return false // it may be two letters of UTF-16
	}
	for at := firstTime; at <= lastTime; at += 4 {
		if w := int64(le.Uint32(in[at:])); at != off && w-v < near && v-w < near {
			return true
		}
	}
	return false
}

// drawText draws those of looseFields that a text of more than four bytes may run
// over, where no checksum tells: any letter up to i is the last byte of a time.
// Equal ones stay equal. The number of an attribute block that there is stays: the
// four random bytes of i_generation before it are letters often enough.
func (s *scrubber) drawText(d *drawer, in, old ext.Inode) {
	for start, end := range texts(old[:len(in)]) {
		for _, f := range looseFields {
			if f.off >= end || f.off+f.size <= start || f.off+f.size > len(in) || f.off == valueHashOffset && holdsValue(old) {
				continue
			}
			v := uintOf(le, old[f.off:f.off+f.size])
			if start >= firstTime && f.off >= firstTime && f.off <= lastTime && nearTimes(old, f.off) {
				continue
			}
			if f.off == fileACLOffset && s.m != nil && s.m.Contains(scan.Xattr, v) {
				continue
			}
			if f.size == 2 {
				v |= 1 << 7 // so that another letter of UTF-16 is none
			}
			fits := func(x uint64) bool { return f.possible == nil || f.possible(&s.lim, x) == f.possible(&s.lim, v) }
			putUint(le, in[f.off:f.off+f.size], d.noise(v, f.size, fits))
		}
	}
}

// drawAgain draws a number of an inode, unless all bits of each byte are alike.
func (d *drawer) drawAgain(in, old ext.Inode, off, size int) {
	if b := old[off : off+size]; !plainBytes(b) {
		putUint(le, in[off:off+size], d.noise(uintOf(le, b), size, nil))
	}
}
