package scrub

// direntFields is struct ext4_dir_entry_2, up to the name.
var direntFields = newStructure("directory entry", direntHeader, []field{
	{0, 4, "inode", bounded, possibleInode},
	{4, 2, "rec_len", number, nil},
	{6, 1, "name_len", number, nil},
	{7, 1, "file_type", number, nil},
})

// direntTailFields is struct ext4_dir_entry_tail, behind an entry without a name.
var direntTailFields = newStructure("directory tail", direntTail, []field{
	{4, 2, "det_rec_len", number, nil},
	{7, 1, "det_reserved_ft", number, nil},
	{8, 4, "det_checksum", checksum, nil},
})

// dirent scrubs what stands before a name, at an offset of a block whose entries
// are sound or not; in it are so many numbers of inodes that there are not. Of a
// length that cannot be there stays what e2fsck decides by: whether it is a
// multiple of four, and runs over the end.
func (s *scrubber) dirent(d *drawer, l layout, block []byte, at int, sound bool, illegal int) {
	b := block[at : at+direntHeader]
	s.inodeNumber(d, b[:4], sound, illegal)
	const types = 8 // EXT4_FT_MAX
	if sound {
		return
	}
	if b[7] >= types && b[7] != direntTailType {
		b[7] = byte(d.noise(uint64(b[7]), 1, func(v uint64) bool { return v >= types && v != direntTailType }))
	}
	recLen, left := uint64(le.Uint16(b[4:])), uint64(len(block)-at)
	if recLen%4 == 0 && recLen <= left {
		return
	}
	le.PutUint16(b[4:], uint16(d.noise(recLen, 2, func(v uint64) bool {
		return v%4 == recLen%4 && v > left == (recLen > left)
	})))
}

const direntTailType = 0xDE

// inodeNumber scrubs the number of an inode. One that there is not stays if it is
// one of so few that staysAlone, in what is sound.
func (s *scrubber) inodeNumber(d *drawer, b []byte, sound bool, illegal int) {
	impossible := func(v uint64) bool { return !possibleInode(&s.lim, v) }
	if v := uint64(le.Uint32(b)); impossible(v) && !plainBytes(b) && !(sound && staysAlone(v, b, illegal)) {
		le.PutUint32(b, uint32(d.noise(v, 4, impossible)))
	}
}
