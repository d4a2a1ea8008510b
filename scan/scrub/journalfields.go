package scrub

// journalHeaderFields is struct journal_header_s, which each block of a log
// begins with that is no copy.
var journalHeaderFields = newBigEndian("journal header", 12, []field{
	{0x00, 4, "h_magic", number, nil},
	{0x04, 4, "h_blocktype", bounded, func(_ *limits, v uint64) bool { return v <= 5 }},
	{0x08, 4, "h_sequence", number, nil},
})

// journalSuperblockFields is struct journal_superblock_s. The sequence in its
// header says nothing.
var journalSuperblockFields = newBigEndian("journal superblock", 1024, []field{
	{0x000, 4, "h_magic", number, nil},
	{0x004, 4, "h_blocktype", number, nil},
	{0x00C, 4, "s_blocksize", bounded, func(l *limits, v uint64) bool { return v == l.blockSize }},
	{0x010, 4, "s_maxlen", bounded, possibleJournalBlock},
	{0x014, 4, "s_first", bounded, possibleJournalBlock},
	{0x018, 4, "s_sequence", number, nil},
	{0x01C, 4, "s_start", bounded, possibleJournalBlock},
	{0x020, 4, "s_errno", bounded, possibleErrno},
	{0x024, 4, "s_feature_compat", bounded, below(1 << 1)},
	{0x028, 4, "s_feature_incompat", bounded, below(1 << 6)},
	{0x02C, 4, "s_feature_ro_compat", bounded, below(1)},
	{0x030, 16, "s_uuid", part, nil},
	{0x040, 4, "s_nr_users", bounded, below(journalMaxUsers + 1)},
	{0x044, 4, "s_dynsuper", unset, nil},
	{0x048, 4, "s_max_transaction", unset, nil},
	{0x04C, 4, "s_max_trans_data", unset, nil},
	{0x050, 1, "s_checksum_type", bounded, below(5)},
	{0x054, 4, "s_num_fc_blks", bounded, possibleJournalBlock},
	{0x058, 4, "s_head", bounded, possibleJournalBlock},
	{0x0FC, 4, "s_checksum", checksum, nil},
	{0x100, 768, "s_users", part, nil},
})

// journalSuperblockV1Fields is what counts of the superblock of a journal of
// version 1: e2fsck complains if it has features or users.
var journalSuperblockV1Fields = newBigEndian("journal superblock, version 1", 68, []field{
	{0x00, 4, "h_magic", number, nil},
	{0x04, 4, "h_blocktype", number, nil},
	{0x0C, 4, "s_blocksize", bounded, func(l *limits, v uint64) bool { return v == l.blockSize }},
	{0x10, 4, "s_maxlen", bounded, possibleJournalBlock},
	{0x14, 4, "s_first", bounded, possibleJournalBlock},
	{0x18, 4, "s_sequence", number, nil},
	{0x1C, 4, "s_start", bounded, possibleJournalBlock},
	{0x20, 4, "s_errno", bounded, possibleErrno},
	{0x24, 4, "s_feature_compat", unset, nil},
	{0x28, 4, "s_feature_incompat", unset, nil},
	{0x2C, 4, "s_feature_ro_compat", unset, nil},
	{0x40, 4, "s_nr_users", unset, nil},
})

// journalMaxUsers is how many filesystems may share a journal.
const journalMaxUsers = 48

// possibleJournalBlock bounds the numbers of the blocks of a journal. The
// largest that mke2fs makes has ten million, and no four letters are so small.
func possibleJournalBlock(l *limits, v uint64) bool { return v < 1<<28 && v <= l.blocks }

// possibleErrno bounds the errors that a kernel notes, with either sign.
func possibleErrno(_ *limits, v uint64) bool {
	const most = 4096
	return v < most || v > 1<<32-most
}

// journalTagFields is struct journal_block_tag_s, which ends before
// t_blocknr_high where block numbers have 32 bits. With the checksums of version
// 2 it has two bytes more, which nobody uses. The UUID that may follow a tag is
// not looked at either.
var journalTagFields = newBigEndian("journal tag", 12, []field{
	{0x0, 4, "t_blocknr", place, nil},
	{0x4, 2, "t_checksum", checksum, nil},
	{0x6, 2, "t_flags", part, nil},
	{0x8, 4, "t_blocknr_high", place, nil},
})

// journalTag3Fields is struct journal_block_tag3_s. No flag is in the upper half
// of its flags.
var journalTag3Fields = newBigEndian("journal tag, version 3", 16, []field{
	{0x0, 4, "t_blocknr", place, nil},
	{0x6, 2, "t_flags", part, nil},
	{0x8, 4, "t_blocknr_high", place, nil},
	{0xC, 4, "t_checksum", checksum, nil},
})

// journalRevokeFields is struct jbd2_journal_revoke_header_s, behind which the
// numbers of blocks stand.
var journalRevokeFields = newBigEndian("journal revoke block", 16, []field{
	{0x00, 12, "r_header", part, nil},
	{0x0C, 4, "r_count", bounded, func(l *limits, v uint64) bool { return v <= l.blockSize }},
})

// journalCommitFields is struct commit_header. Of h_chksum the first of eight
// words is in use.
var journalCommitFields = newBigEndian("journal commit block", 60, []field{
	{0x00, 12, "h_header", part, nil},
	{0x0C, 1, "h_chksum_type", bounded, below(5)},
	{0x0D, 1, "h_chksum_size", bounded, below(33)},
	{0x10, 4, "h_chksum", checksum, nil},
	{0x30, 8, "h_commit_sec", bounded, possibleCommitTime},
	{0x38, 4, "h_commit_nsec", bounded, below(1e9)},
})

// possibleCommitTime bounds the time of a commit: the kernel writes it to the
// lower half, debugfs to the upper one. A filesystem may have been in use for
// years since its superblock was written.
func possibleCommitTime(l *limits, v uint64) bool {
	const years = 10 * 366 * 86400
	if uint32(v) == 0 {
		v >>= 32
	}
	return v < 1<<34 && (l.lastWrite == 0 || v <= l.lastWrite+years)
}

// fastCommitFields is struct ext4_fc_tl, which each tag of a fast commit begins
// with. The others are what is behind it.
var (
	fastCommitFields = newStructure("fast commit tag", 4, []field{
		{0, 2, "fc_tag", bounded, possibleFastCommit},
		{2, 2, "fc_len", number, nil},
	})
	fastCommitHeadFields = newStructure("fast commit head", 8, []field{
		{0, 4, "fc_features", unset, nil},
		{4, 4, "fc_tid", part, nil},
	})
	fastCommitTailFields = newStructure("fast commit tail", 8, []field{
		{0, 4, "fc_tid", part, nil},
		{4, 4, "fc_crc", checksum, nil},
	})
	fastCommitAddRangeFields = newStructure("fast commit add range", 16, []field{
		{0x0, 4, "fc_ino", bounded, possibleInode},
		{0x4, 4, "ee_block", number, nil},
		{0x8, 2, "ee_len", number, nil},
		{0xA, 2, "ee_start_hi", bounded, func(l *limits, v uint64) bool { return v <= l.blocks>>32 }},
		{0xC, 4, "ee_start_lo", bounded, possibleBlock},
	})
	fastCommitDelRangeFields = newStructure("fast commit delete range", 12, []field{
		{0, 4, "fc_ino", bounded, possibleInode},
		{4, 4, "fc_lblk", number, nil},
		{8, 4, "fc_len", number, nil},
	})
	fastCommitNameFields = newStructure("fast commit name", 8, []field{
		{0, 4, "fc_parent_ino", bounded, possibleInode},
		{4, 4, "fc_ino", bounded, possibleInode},
	})
	fastCommitInodeFields = newStructure("fast commit inode", 4, []field{
		{0, 4, "fc_ino", bounded, possibleInode},
	})
)

func possibleFastCommit(_ *limits, v uint64) bool { return 1 <= v && v <= 9 }
