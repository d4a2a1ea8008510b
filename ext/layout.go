package ext

// A Form says how the value of a field is written for people.
type Form uint8

// The forms.
const (
	Decimal Form = iota // a number
	Hex                 // flags, and checksums
	Time                // seconds since 1970
	Text                // padded with NULs
	Raw                 // bytes
)

// A Field is a field of a structure on the disk. Numbers are little endian.
type Field struct {
	Offset, Size int    // bytes
	Name         string // the kernel's
	Form         Form
}

// SuperblockFields are the fields of struct ext4_super_block, ascending. What
// lies between them is padding.
var SuperblockFields = []Field{
	{0x000, 4, "s_inodes_count", Decimal},
	{0x004, 4, "s_blocks_count_lo", Decimal},
	{0x008, 4, "s_r_blocks_count_lo", Decimal},
	{0x00C, 4, "s_free_blocks_count_lo", Decimal},
	{0x010, 4, "s_free_inodes_count", Decimal},
	{0x014, 4, "s_first_data_block", Decimal},
	{0x018, 4, "s_log_block_size", Decimal},
	{0x01C, 4, "s_log_cluster_size", Decimal},
	{0x020, 4, "s_blocks_per_group", Decimal},
	{0x024, 4, "s_clusters_per_group", Decimal},
	{0x028, 4, "s_inodes_per_group", Decimal},
	{0x02C, 4, "s_mtime", Time},
	{0x030, 4, "s_wtime", Time},
	{0x034, 2, "s_mnt_count", Decimal},
	{0x036, 2, "s_max_mnt_count", Decimal},
	{0x038, 2, "s_magic", Hex},
	{0x03A, 2, "s_state", Hex},
	{0x03C, 2, "s_errors", Decimal},
	{0x03E, 2, "s_minor_rev_level", Decimal},
	{0x040, 4, "s_lastcheck", Time},
	{0x044, 4, "s_checkinterval", Decimal},
	{0x048, 4, "s_creator_os", Decimal},
	{0x04C, 4, "s_rev_level", Decimal},
	{0x050, 2, "s_def_resuid", Decimal},
	{0x052, 2, "s_def_resgid", Decimal},
	{0x054, 4, "s_first_ino", Decimal},
	{0x058, 2, "s_inode_size", Decimal},
	{0x05A, 2, "s_block_group_nr", Decimal},
	{0x05C, 4, "s_feature_compat", Hex},
	{0x060, 4, "s_feature_incompat", Hex},
	{0x064, 4, "s_feature_ro_compat", Hex},
	{0x068, 16, "s_uuid", Raw},
	{0x078, 16, "s_volume_name", Text},
	{0x088, 64, "s_last_mounted", Text},
	{0x0C8, 4, "s_algorithm_usage_bitmap", Decimal},
	{0x0CC, 1, "s_prealloc_blocks", Decimal},
	{0x0CD, 1, "s_prealloc_dir_blocks", Decimal},
	{0x0CE, 2, "s_reserved_gdt_blocks", Decimal},
	{0x0D0, 16, "s_journal_uuid", Raw},
	{0x0E0, 4, "s_journal_inum", Decimal},
	{0x0E4, 4, "s_journal_dev", Decimal},
	{0x0E8, 4, "s_last_orphan", Decimal},
	{0x0EC, 16, "s_hash_seed", Raw},
	{0x0FC, 1, "s_def_hash_version", Decimal},
	{0x0FD, 1, "s_jnl_backup_type", Decimal},
	{0x0FE, 2, "s_desc_size", Decimal},
	{0x100, 4, "s_default_mount_opts", Hex},
	{0x104, 4, "s_first_meta_bg", Decimal},
	{0x108, 4, "s_mkfs_time", Time},
	{0x10C, 68, "s_jnl_blocks", Raw},
	{0x150, 4, "s_blocks_count_hi", Decimal},
	{0x154, 4, "s_r_blocks_count_hi", Decimal},
	{0x158, 4, "s_free_blocks_count_hi", Decimal},
	{0x15C, 2, "s_min_extra_isize", Decimal},
	{0x15E, 2, "s_want_extra_isize", Decimal},
	{0x160, 4, "s_flags", Hex},
	{0x164, 2, "s_raid_stride", Decimal},
	{0x166, 2, "s_mmp_update_interval", Decimal},
	{0x168, 8, "s_mmp_block", Decimal},
	{0x170, 4, "s_raid_stripe_width", Decimal},
	{0x174, 1, "s_log_groups_per_flex", Decimal},
	{0x175, 1, "s_checksum_type", Decimal},
	{0x176, 1, "s_encryption_level", Decimal},
	{0x177, 1, "s_reserved_pad", Decimal},
	{0x178, 8, "s_kbytes_written", Decimal},
	{0x180, 4, "s_snapshot_inum", Decimal},
	{0x184, 4, "s_snapshot_id", Decimal},
	{0x188, 8, "s_snapshot_r_blocks_count", Decimal},
	{0x190, 4, "s_snapshot_list", Decimal},
	{0x194, 4, "s_error_count", Decimal},
	{0x198, 4, "s_first_error_time", Time},
	{0x19C, 4, "s_first_error_ino", Decimal},
	{0x1A0, 8, "s_first_error_block", Decimal},
	{0x1A8, 32, "s_first_error_func", Text},
	{0x1C8, 4, "s_first_error_line", Decimal},
	{0x1CC, 4, "s_last_error_time", Time},
	{0x1D0, 4, "s_last_error_ino", Decimal},
	{0x1D4, 4, "s_last_error_line", Decimal},
	{0x1D8, 8, "s_last_error_block", Decimal},
	{0x1E0, 32, "s_last_error_func", Text},
	{0x200, 64, "s_mount_opts", Text},
	{0x240, 4, "s_usr_quota_inum", Decimal},
	{0x244, 4, "s_grp_quota_inum", Decimal},
	{0x248, 4, "s_overhead_clusters", Decimal},
	{0x24C, 8, "s_backup_bgs", Raw},
	{0x254, 4, "s_encrypt_algos", Raw},
	{0x258, 16, "s_encrypt_pw_salt", Raw},
	{0x268, 4, "s_lpf_ino", Decimal},
	{0x26C, 4, "s_prj_quota_inum", Decimal},
	{0x270, 4, "s_checksum_seed", Hex},
	{0x274, 1, "s_wtime_hi", Decimal},
	{0x275, 1, "s_mtime_hi", Decimal},
	{0x276, 1, "s_mkfs_time_hi", Decimal},
	{0x277, 1, "s_lastcheck_hi", Decimal},
	{0x278, 1, "s_first_error_time_hi", Decimal},
	{0x279, 1, "s_last_error_time_hi", Decimal},
	{0x27A, 1, "s_first_error_errcode", Decimal},
	{0x27B, 1, "s_last_error_errcode", Decimal},
	{0x27C, 2, "s_encoding", Decimal},
	{0x27E, 2, "s_encoding_flags", Hex},
	{0x280, 4, "s_orphan_file_inum", Decimal},
	{0x284, 2, "s_def_resuid_hi", Decimal},
	{0x286, 2, "s_def_resgid_hi", Decimal},
	{0x3FC, 4, "s_checksum", Hex},
}

// GroupDescFields are the fields of struct ext4_group_desc, ascending. A
// descriptor of 32 bytes has those of the first half.
var GroupDescFields = []Field{
	{0x00, 4, "bg_block_bitmap_lo", Decimal},
	{0x04, 4, "bg_inode_bitmap_lo", Decimal},
	{0x08, 4, "bg_inode_table_lo", Decimal},
	{0x0C, 2, "bg_free_blocks_count_lo", Decimal},
	{0x0E, 2, "bg_free_inodes_count_lo", Decimal},
	{0x10, 2, "bg_used_dirs_count_lo", Decimal},
	{0x12, 2, "bg_flags", Hex},
	{0x14, 4, "bg_exclude_bitmap_lo", Decimal},
	{0x18, 2, "bg_block_bitmap_csum_lo", Hex},
	{0x1A, 2, "bg_inode_bitmap_csum_lo", Hex},
	{0x1C, 2, "bg_itable_unused_lo", Decimal},
	{0x1E, 2, "bg_checksum", Hex},
	{0x20, 4, "bg_block_bitmap_hi", Decimal},
	{0x24, 4, "bg_inode_bitmap_hi", Decimal},
	{0x28, 4, "bg_inode_table_hi", Decimal},
	{0x2C, 2, "bg_free_blocks_count_hi", Decimal},
	{0x2E, 2, "bg_free_inodes_count_hi", Decimal},
	{0x30, 2, "bg_used_dirs_count_hi", Decimal},
	{0x32, 2, "bg_itable_unused_hi", Decimal},
	{0x34, 4, "bg_exclude_bitmap_hi", Decimal},
	{0x38, 2, "bg_block_bitmap_csum_hi", Hex},
	{0x3A, 2, "bg_inode_bitmap_csum_hi", Hex},
}

// InodeFields are the fields of struct ext4_inode, ascending. i_extra_isize
// says which fields behind byte 128 exist.
var InodeFields = []Field{
	{0x00, 2, "i_mode", Hex},
	{0x02, 2, "i_uid", Decimal},
	{0x04, 4, "i_size_lo", Decimal},
	{0x08, 4, "i_atime", Time},
	{0x0C, 4, "i_ctime", Time},
	{0x10, 4, "i_mtime", Time},
	{0x14, 4, "i_dtime", Decimal},
	{0x18, 2, "i_gid", Decimal},
	{0x1A, 2, "i_links_count", Decimal},
	{0x1C, 4, "i_blocks_lo", Decimal},
	{0x20, 4, "i_flags", Hex},
	{0x24, 4, "l_i_version", Decimal},
	{0x28, 60, "i_block", Raw},
	{0x64, 4, "i_generation", Decimal},
	{0x68, 4, "i_file_acl_lo", Decimal},
	{0x6C, 4, "i_size_high", Decimal},
	{0x70, 4, "i_obso_faddr", Decimal},
	{0x74, 2, "l_i_blocks_high", Decimal},
	{0x76, 2, "l_i_file_acl_high", Decimal},
	{0x78, 2, "l_i_uid_high", Decimal},
	{0x7A, 2, "l_i_gid_high", Decimal},
	{0x7C, 2, "l_i_checksum_lo", Hex},
	{0x7E, 2, "l_i_reserved", Hex},
	{0x80, 2, "i_extra_isize", Decimal},
	{0x82, 2, "i_checksum_hi", Hex},
	{0x84, 4, "i_ctime_extra", Decimal},
	{0x88, 4, "i_mtime_extra", Decimal},
	{0x8C, 4, "i_atime_extra", Decimal},
	{0x90, 4, "i_crtime", Time},
	{0x94, 4, "i_crtime_extra", Decimal},
	{0x98, 4, "i_version_hi", Decimal},
	{0x9C, 4, "i_projid", Decimal},
}

// MMPFields are the fields of struct mmp_struct, ascending.
var MMPFields = []Field{
	{0, 4, "mmp_magic", Hex},
	{4, 4, "mmp_seq", Hex},
	{8, 8, "mmp_time", Time},
	{mmpNodeName, mmpDevice - mmpNodeName, "mmp_nodename", Text},
	{mmpDevice, mmpInterval - mmpDevice, "mmp_bdevname", Text},
	{mmpInterval, 2, "mmp_check_interval", Decimal},
	{mmpChecksumOffset, 4, "mmp_checksum", Hex},
}

// JournalSuperblockSize is the size of a journal's superblock in bytes.
const JournalSuperblockSize = journalSuperblockLen

// JournalFields are the fields of struct journal_superblock_s behind its header,
// ascending. Numbers are big endian.
var JournalFields = []Field{
	{0x00, 4, "h_magic", Hex},
	{0x04, 4, "h_blocktype", Decimal},
	{0x08, 4, "h_sequence", Decimal},
	{0x0C, 4, "s_blocksize", Decimal},
	{0x10, 4, "s_maxlen", Decimal},
	{0x14, 4, "s_first", Decimal},
	{0x18, 4, "s_sequence", Decimal},
	{0x1C, 4, "s_start", Decimal},
	{0x20, 4, "s_errno", Decimal},
	{0x24, 4, "s_feature_compat", Hex},
	{0x28, 4, "s_feature_incompat", Hex},
	{0x2C, 4, "s_feature_ro_compat", Hex},
	{0x30, 16, "s_uuid", Raw},
	{0x40, 4, "s_nr_users", Decimal},
	{0x44, 4, "s_dynsuper", Decimal},
	{0x48, 4, "s_max_transaction", Decimal},
	{0x4C, 4, "s_max_trans_data", Decimal},
	{0x50, 1, "s_checksum_type", Decimal},
	{0x54, 4, "s_num_fc_blks", Decimal},
	{0x58, 4, "s_head", Decimal},
	{0xFC, 4, "s_checksum", Hex},
	{0x100, 768, "s_users", Raw},
}
