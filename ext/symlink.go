package ext

import (
	"bytes"
	"encoding/binary"
)

// A TargetPlace says where the target of a symlink may stand. It is a set of
// bits, because programs decide by different rules.
type TargetPlace uint8

// The places.
const (
	TargetInInode TargetPlace = 1 << iota // in i_block: a fast symlink
	TargetInBlock                         // in the first block of the inode
)

// SymlinkTarget returns where programs look for the target of a symlink. Both
// bits are set where the rules of programs differ:
//
//   - Linux since 2025, with the feature ea_inode: the target is in the inode
//     if 0 < i_size < 60.
//   - Linux else: it is there if i_blocks counts the attribute block at most.
//   - e2fsprogs without an attribute block: if i_blocks is 0 or 0 < i_size < 60.
//   - e2fsprogs with one: if i_size < 60, unless i_size > 4 and i_block[1] is 0.
//
// wide says whether block numbers have high halves (the 64bit feature).
// clusterSize is the number of bytes that i_blocks counts for an attribute
// block. Inline data is always in the inode.
func (i Inode) SymlinkTarget(wide bool, clusterSize uint32) TargetPlace {
	if i.Flags()&FlagInlineData != 0 {
		return TargetInInode
	}
	var place TargetPlace
	add := func(fast bool) {
		if fast {
			place |= TargetInInode
		} else {
			place |= TargetInBlock
		}
	}
	size := i.Size()
	short := size > 0 && size < IBlockSize
	add(short)
	if i.FileACL(wide) == 0 {
		add(i.BlocksLo() == 0)
		add(i.BlocksLo() == 0 || short)
		return place
	}
	add(i.BlocksLo() == clusterSize/sectorSize)
	add(size < IBlockSize && (size <= 4 || i.BlockNr(1) != 0))
	return place
}

// sectorSize is the unit of i_blocks in bytes.
const sectorSize = 512

// HasSoundTarget reports whether i_block is a valid target of a symlink: i_size
// bytes without a NUL and a NUL behind them, or an encrypted target of that
// length.
func (i Inode) HasSoundTarget() bool {
	size, data := i.Size(), i.IBlock()
	if size == 0 || size >= IBlockSize {
		return false
	}
	if i.Flags()&FlagEncrypt != 0 {
		// struct fscrypt_symlink_data; early kernels counted one byte more.
		n := uint64(binary.LittleEndian.Uint16(data)) + 2
		return n == size || n+1 == size
	}
	return uint64(bytes.IndexByte(data, 0)) == size
}
