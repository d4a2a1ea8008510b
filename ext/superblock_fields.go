package ext

import (
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

// The texts of a superblock, as they stand in b, SuperblockSize bytes of it.
// They are padded with NULs, and end in one only where they are shorter than
// their field.

// VolumeName returns s_volume_name, the label.
func VolumeName(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SVolumeName), unsafe.Sizeof(superblock.SVolumeName))
}

// LastMounted returns s_last_mounted, the folder it was last mounted on.
func LastMounted(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SLastMounted), unsafe.Sizeof(superblock.SLastMounted))
}

// MountOptions returns s_mount_opts.
func MountOptions(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SMountOpts), unsafe.Sizeof(superblock.SMountOpts))
}

// ErrorFunctions returns s_first_error_func and s_last_error_func, the
// functions of the kernel that met the first and the last error.
func ErrorFunctions(b []byte) [2][]byte {
	return [2][]byte{
		field(b, unsafe.Offsetof(superblock.SFirstErrorFunc), unsafe.Sizeof(superblock.SFirstErrorFunc)),
		field(b, unsafe.Offsetof(superblock.SLastErrorFunc), unsafe.Sizeof(superblock.SLastErrorFunc)),
	}
}

// PasswordSalt returns s_encrypt_pw_salt.
func PasswordSalt(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SEncryptPwSalt), unsafe.Sizeof(superblock.SEncryptPwSalt))
}

// UUIDs returns s_uuid and s_journal_uuid.
func UUIDs(b []byte) [2][]byte {
	return [2][]byte{
		field(b, unsafe.Offsetof(superblock.SUuid), unsafe.Sizeof(superblock.SUuid)),
		field(b, unsafe.Offsetof(superblock.SJournalUuid), unsafe.Sizeof(superblock.SJournalUuid)),
	}
}

// HashSeedField returns s_hash_seed.
func HashSeedField(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SHashSeed), unsafe.Sizeof(superblock.SHashSeed))
}

// ChecksumSeedField returns s_checksum_seed.
func ChecksumSeedField(b []byte) []byte {
	return field(b, unsafe.Offsetof(superblock.SChecksumSeed), unsafe.Sizeof(superblock.SChecksumSeed))
}

// SuperblockChecksumField returns s_checksum.
func SuperblockChecksumField(b []byte) []byte {
	return b[superblockChecksumOffset:SuperblockSize:SuperblockSize]
}

var superblock ext4.SuperblockData

func field(b []byte, off, size uintptr) []byte { return b[off : off+size : off+size] }
