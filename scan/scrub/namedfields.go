package scrub

// The fields that have code of their own.
var (
	superUUID         = superblockFields.field("s_uuid")
	superVolumeName   = superblockFields.field("s_volume_name")
	superLastMounted  = superblockFields.field("s_last_mounted")
	superJournalUUID  = superblockFields.field("s_journal_uuid")
	superHashSeed     = superblockFields.field("s_hash_seed")
	superFirstError   = superblockFields.field("s_first_error_func")
	superLastError    = superblockFields.field("s_last_error_func")
	superPasswordSalt = superblockFields.field("s_encrypt_pw_salt")
	superChecksumSeed = superblockFields.field("s_checksum_seed")
	superChecksum     = superblockFields.field("s_checksum")

	// superMountOptions is in no table: nothing of the field is kept. Its words
	// are searched for all the same.
	superMountOptions = field{off: 0x200, size: 64, name: "s_mount_opts"}

	descChecksum = descFields.field("bg_checksum")

	mmpNodeName = mmpFields.field("mmp_nodename")
	mmpDevice   = mmpFields.field("mmp_bdevname")
	mmpChecksum = mmpFields.field("mmp_checksum")
)

// field returns the field of that name, which there must be.
func (st *structure) field(name string) field {
	for _, f := range st.fields {
		if f.name == name {
			return f
		}
	}
	panic(st.name + " has no field " + name) // when the program starts
}

// in returns the bytes of the field in a structure.
func (f field) in(b []byte) []byte { return b[f.off : f.off+f.size : f.off+f.size] }
