package ext

import "encoding/binary"

// The magic numbers of quota files of version 2, for users, groups and
// projects (V2_INITQMAGICS of the kernel's fs/quota/quotaio_v2.h).
var quotaMagics = [...]uint32{0xD9C01F11, 0xD9C01927, 0xD9C03F14}

// IsQuotaHeader reports whether a block begins with the header of a quota file.
func IsQuotaHeader(block []byte) bool {
	if len(block) < 8 {
		return false
	}
	for _, m := range quotaMagics {
		if binary.LittleEndian.Uint32(block) == m {
			return true
		}
	}
	return false
}
