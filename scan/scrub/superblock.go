package scrub

import (
	"bytes"
	"strings"

	"e2qcow/ext"
)

// superblockBlock scrubs a block that holds a superblock, or where a copy of
// one may stand.
func (s *scrubber) superblockBlock(d *drawer, n uint64, block []byte) {
	at := 0
	if n == 0 && len(block) > ext.SuperblockOffset {
		at = ext.SuperblockOffset
	}
	clear(block[:at]) // what a boot loader has there
	if len(block)-at < ext.SuperblockSize {
		clear(block)
		return
	}
	s.superblock(d, block[at:at+ext.SuperblockSize])
	clear(block[at+ext.SuperblockSize:])
}

// superblock scrubs a superblock. Where none stands all is zero.
func (s *scrubber) superblock(d *drawer, b []byte) {
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		clear(b)
		return
	}
	old := sb.Bytes()
	clear(b)
	superblockFields.write(d, &s.lim, b, old, genuine)
	for _, f := range superblockFields.fields {
		if f.rule == part && f.size <= 16 {
			copy(b[f.off:f.off+f.size], old[f.off:])
		}
	}
	copy(superVolumeName.in(b), superVolumeName.in(old))
	s.text(d, superVolumeName.in(b), s.name)
	copy(superLastMounted.in(b), superLastMounted.in(old))
	s.text(d, superLastMounted.in(b), s.path)
	for _, f := range [...]field{superFirstError, superLastError} {
		if kernelFunction(f.in(old)) {
			copy(f.in(b), f.in(old))
		}
	}
	s.journalBackup(d, b, sb)
	s.hashSeedField(d, sb, b)
	switch {
	case s.seeds.uuid:
		drawIdentity(d, b)
	case s.strict:
		s.text(d, superPasswordSalt.in(b), s.value)
	}
	stored := le.Uint32(superChecksum.in(old))
	right := sb.HasRoCompat(ext.RoCompatMetadataCsum) && ext.VerifySuperblock(old)
	le.PutUint32(superChecksum.in(b), d.sumOf(stored, ext.SuperblockChecksum(b), right))
}

// journalBackup scrubs the copy of the i_block of the journal's inode, and of
// the two halves of its size, as that inode is scrubbed.
func (s *scrubber) journalBackup(d *drawer, b []byte, sb *ext.Superblock) {
	const off, sizes = 0x10C, 8
	iblock, ok := sb.JournalBackup()
	if !ok {
		return
	}
	copy(b[off+ext.IBlockSize:off+ext.IBlockSize+sizes], sb.Bytes()[off+ext.IBlockSize:])
	block := b[off : off+ext.IBlockSize]
	copy(block, iblock[:])
	if node := ext.ExtentNode(block); node.Valid() {
		s.extentNode(d, node)
	} else {
		s.pointers(d, block, true)
	}
}

// superblockWords gives add the words in a superblock.
func superblockWords(b []byte, add func([]byte)) {
	add(untilNUL(superVolumeName.in(b)))
	pathWords(untilNUL(superLastMounted.in(b)), add)
	add(untilNUL(superMountOptions.in(b)))
}

// text replaces a text by what draw makes of it, and clears what is behind its
// first NUL.
func (s *scrubber) text(d *drawer, field []byte, draw func(*drawer, []byte)) {
	t := untilNUL(field)
	draw(d, t)
	clear(field[len(t):])
}

func untilNUL(b []byte) []byte {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		return b[:n]
	}
	return b
}

// kernelFunction tells whether a field holds the name of a function of ext4 or
// jbd2, and nothing behind it.
func kernelFunction(field []byte) bool {
	t := untilNUL(field)
	if len(bytes.TrimLeft(field[len(t):], "\x00")) > 0 {
		return false
	}
	name := strings.TrimLeft(string(t), "_")
	known := false
	for _, prefix := range [...]string{"ext4_", "ext3_", "ext2_", "jbd2_", "journal_", "htree_", "dx_", "add_dirent_", "check_block_", "mb_", "e2fsck_"} {
		known = known || strings.HasPrefix(name, prefix)
	}
	return known && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_0123456789") == ""
}

// mmpFields is struct mmp_struct.
var mmpFields = newStructure("mmp", ext.MMPSize, []field{
	{0x000, 4, "mmp_magic", number, nil},
	{0x004, 4, "mmp_seq", number, nil},
	{0x008, 8, "mmp_time", bounded, below(1 << 34)},
	{0x010, 64, "mmp_nodename", drawn, nil},
	{0x050, 32, "mmp_bdevname", drawn, nil},
	{0x070, 2, "mmp_check_interval", number, nil},
	{0x3FC, 4, "mmp_checksum", checksum, nil},
})

// mmp scrubs the block of multi-mount protection: the names of the node and of
// the device that had it mounted.
func (s *scrubber) mmp(d *drawer, block []byte) {
	if len(block) < ext.MMPSize || !ext.IsMMP(block) {
		clear(block)
		return
	}
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	how := plausible
	seed := uint32(0)
	for _, x := range s.sumSeeds {
		if seed = x.fresh; ext.VerifyMMP(x.old, old) && s.sums {
			how = genuine
			break
		}
	}
	mmpFields.write(d, &s.lim, block[:ext.MMPSize], old[:ext.MMPSize], how)
	copy(mmpNodeName.in(block), mmpNodeName.in(old))
	s.text(d, mmpNodeName.in(block), s.name)
	copy(mmpDevice.in(block), mmpDevice.in(old))
	s.text(d, mmpDevice.in(block), s.path)
	le.PutUint32(mmpChecksum.in(block), d.sumOf(le.Uint32(mmpChecksum.in(old)), ext.MMPChecksum(seed, block), how == genuine))
}
