package scrub

import (
	"bytes"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// block scrubs block n of the filesystem, in place, as all that it is taken
// for: what one reading of it keeps, the next may not.
func (s *scrubber) block(d *drawer, n uint64, data []byte) {
	claimed := true
	for k := range scan.Claimed {
		if s.m.Contains(k, n) {
			claimed = false
			s.blockAs(d, k, n, data)
		}
	}
	if !claimed {
		return
	}
	if s.m.Contains(scan.Claimed, n) && s.index.ownerOf(n) != 0 {
		s.directoryBlock(d, n, data)
		return
	}
	clear(data)
}

// blockAs scrubs a block of a kind.
func (s *scrubber) blockAs(d *drawer, k scan.Kind, n uint64, data []byte) {
	switch k {
	case scan.Superblock:
		s.superblockBlock(d, n, data)
	case scan.InodeTable:
		s.tableBlock(d, n, data)
	case scan.Journal:
		if j, err := ext.DecodeJournalSuperblock(data); err != nil || j.Start != 0 {
			clear(data)
		} else {
			clear(data[1024:])
		}
	case scan.Mmp:
		s.mmp(d, data)
	case scan.ExtentNode:
		s.extentBlock(data)
	case scan.Directory:
		s.directoryBlock(d, n, data)
	case scan.Symlink:
		s.text(d, data, s.path)
	case scan.EncryptedSymlink:
		s.encryptedTarget(d, data)
	case scan.Xattr:
		s.xattrBlock(d, data, s.values)
	case scan.XattrValue:
		s.value(d, data)
	}
}

// encryptedTarget scrubs the target of an encrypted symlink, struct
// fscrypt_symlink_data: a length of two bytes, and ciphertext.
func (s *scrubber) encryptedTarget(d *drawer, b []byte) {
	const head = 2
	end := min(head+int(le.Uint16(b)), len(b))
	if s.strict {
		s.value(d, b[head:end])
	}
	clear(b[end:])
}

// tableBlock scrubs a block of an inode table.
func (s *scrubber) tableBlock(d *drawer, n uint64, data []byte) {
	i, found := slices.BinarySearchFunc(s.tables, n, func(t scan.TableRun, n uint64) int {
		switch {
		case t.Start > n:
			return 1
		case t.Start+t.Count <= n:
			return -1
		}
		return 0
	})
	if !found {
		clear(data)
		return
	}
	t := &s.tables[i]
	size := int(t.InodeSize)
	ino := t.First + uint32(n-t.Start)*uint32(len(data)/size)
	for ; len(data) >= size; ino++ {
		s.inode(d, ino, data[:size:size])
		data = data[size:]
	}
	clear(data)
}

// allZero tells whether all bytes of b are zero.
func allZero(b []byte) bool {
	for len(b) >= 8 {
		if le.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	return len(bytes.TrimLeft(b, "\x00")) == 0
}
