package ext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
)

// A directory block is a chain of entries (struct ext4_dir_entry_2), each
// leading to the next by its record length; the last one ends where the
// block ends.
//
//	 0        4         6    7    8
//	+--------+---------+----+----+------------------+-----+
//	| inode  | rec_len |nlen|type| name (nlen bytes)| pad |
//	+--------+---------+----+----+------------------+-----+
//	|<------------------ rec_len ------------------------>|
//
// An unused entry has inode 0. With metadata_csum a leaf ends in an unused
// entry of 12 bytes with the type 0xDE, whose "name" is the checksum. The
// blocks of a hash tree are hidden from linear readers the same way: the
// root behind a long "..", each node behind one unused entry that spans the
// block.
//
// A directory held in its inode (inline_data) has two such chains: i_block
// without its first four bytes, which are the parent's inode number, and the
// value of the attribute system.data.
const (
	direntHeaderLen = 8  // up to the name
	direntMinLen    = 12 // the shortest record: a name of one to four bytes
	direntTailLen   = 12 // struct ext4_dir_entry_tail
	direntTailType  = 0xDE

	// A directory both encrypted and casefolded keeps eight bytes of hash
	// after each name.
	direntHashLen = 8

	// inlineDataSize is the part of inline data that lies in i_block,
	// inlineParentLen the part of that before the entries of a directory.
	inlineDataSize  = 60
	inlineParentLen = 4
)

// DirentError tells where a chain of directory entries stops making sense.
// Both lengths are 0 where the entry's header does not fit.
type DirentError struct {
	Offset  int // of the entry, from the start of the chain
	RecLen  int
	NameLen int
}

func (e *DirentError) Error() string {
	return fmt.Sprintf("directory entry at offset %d: impossible length %d with a name of %d bytes",
		e.Offset, e.RecLen, e.NameLen)
}

// A Dirent is one directory entry. Name aliases the block it was read from;
// it is shorter than NameLen only in an entry that salvaging found.
type Dirent struct {
	Offset  int // from the start of the chain
	Inode   uint32
	RecLen  int // up to 65536
	NameLen uint8
	Type    uint8 // EXT4_FT_*, or the high byte of the name length without the filetype feature
	Name    []byte
}

// IsTail reports whether the entry is the one that holds the checksum of a
// leaf. It says nothing of whether the entry lies at the end of its block.
func (d *Dirent) IsTail() bool {
	return d.Inode == 0 && d.RecLen == direntTailLen && d.NameLen == 0 && d.Type == direntTailType
}

// RecLen decodes a record length. Blocks of 64 KiB need 17 bits for it: there
// 0 and 65535 mean the whole block, and the two low bits, always zero in a
// length, are its bits 16 and 17.
func RecLen(raw uint16, blockSize int) int {
	switch {
	case blockSize < 1<<16:
		return int(raw)
	case raw == 0 || raw == 0xFFFF:
		return blockSize
	default:
		return int(raw)&^3 | int(raw)&3<<16
	}
}

// DirReader walks a chain of directory entries in order, and checks each entry
// by the rules of e2fsck and the kernel.
//
//	r := NewDirReader(block, blockSize)
//	for r.Next() {
//		use(r.Entry())
//	}
//	if err := r.Err(); err != nil { ... }
type DirReader struct {
	chain     []byte
	blockSize int
	next      int
	entry     Dirent
	err       *DirentError
}

// NewDirReader reads the entries of chain: a directory block, or a part of an
// inline directory. blockSize is the filesystem's and decides how record
// lengths are encoded.
func NewDirReader(chain []byte, blockSize int) DirReader {
	return DirReader{chain: chain, blockSize: blockSize}
}

// Next goes to the next entry, used or not. It returns false at the end of the
// chain and at the first entry that cannot be one.
func (r *DirReader) Next() bool {
	if r.err != nil || r.next >= len(r.chain) {
		return false
	}
	b := r.chain[r.next:]
	if len(b) < direntHeaderLen {
		r.err = &DirentError{Offset: r.next}
		return false
	}
	recLen := RecLen(binary.LittleEndian.Uint16(b[4:]), r.blockSize)
	nameLen := int(b[6])
	if recLen < direntMinLen || recLen&3 != 0 || recLen > len(b) || direntHeaderLen+nameLen > recLen {
		r.err = &DirentError{Offset: r.next, RecLen: recLen, NameLen: nameLen}
		return false
	}
	r.entry = Dirent{
		Offset:  r.next,
		Inode:   binary.LittleEndian.Uint32(b),
		RecLen:  recLen,
		NameLen: b[6],
		Type:    b[7],
		Name:    b[direntHeaderLen : direntHeaderLen+nameLen],
	}
	r.next += recLen
	return true
}

// Entry is the entry Next went to, valid until the next call of Next.
func (r *DirReader) Entry() *Dirent { return &r.entry }

// Err is a *DirentError where the chain broke off, nil where it reached its end.
func (r *DirReader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Suspect reports, once Next has returned false, whether e2fsck could find
// entries in the chain that Next did not, so that [SalvageDirents] is worth
// its time: the chain broke off, or its first entry is so long that it may
// hide the "..", which breaks no rule.
func (r *DirReader) Suspect() bool {
	return r.err != nil || len(r.chain) >= direntHeaderLen && hidesDotDot(r.chain) &&
		RecLen(binary.LittleEndian.Uint16(r.chain[4:]), r.blockSize) > 2*direntMinLen
}

// SalvageDirents calls yield for every entry with an inode number that any
// repair by e2fsck could keep in a chain that DirReader finds suspect. It
// yields every entry before the damage. It may yield entries that no single
// repair keeps together, and may yield an entry twice. Offsets are those after
// the repair: if e2fsck closes a hole of eight bytes, later entries move.
//
// inodes is s_inodes_count: one of the repairs looks at it. hashed says that
// the directory is both encrypted and casefolded. header, unless nil, is called
// for the eight bytes of each header that some repair looks at, used or not;
// fewer where the chain ends.
//
// The rules are those of salvage_directory and check_dir_block in e2fsck's
// pass 2. The *Dirent is valid during the call of yield only.
func SalvageDirents(chain []byte, blockSize int, inodes uint32, hashed bool, header func([]byte), yield func(*Dirent)) {
	limits := [2]int{len(chain)}
	n := 1
	if len(chain) >= 2*direntTailLen {
		// Where e2fsck takes the block for a leaf with a checksum, the tail is
		// not part of the chain.
		limits[1] = len(chain) - direntTailLen
		n++
	}
	for _, limit := range limits[:n] {
		s := salvager{chain[:limit], blockSize, inodes, 0, header, yield}
		s.walk(0, 0)
		if hashed {
			s.extra = direntHashLen
			s.walk(0, 0)
		}
	}
}

type salvager struct {
	chain     []byte
	blockSize int
	inodes    uint32
	extra     int // bytes that each record has beyond its name
	header    func([]byte)
	yield     func(*Dirent)
}

// walk goes through the chain from off on as e2fsck does if all its questions
// are answered with yes. To close a hole of eight bytes, e2fsck moves the rest
// of the chain down and fills the end with zeros; walk only counts these bytes.
// Offset off of the repaired chain is at off+moved, and the last moved bytes of
// the repaired chain are zeros. Each turn of the loop raises off or moved.
func (s *salvager) walk(off, moved int) {
	var (
		d    Dirent
		prev = off > 0
	)
	for len(s.chain)-off >= direntHeaderLen {
		room := len(s.chain) - off
		b := s.chain[min(off+moved, len(s.chain)):]
		var h [direntHeaderLen]byte
		copy(h[:], b)
		if s.header != nil {
			s.header(b[:min(direntHeaderLen, len(b))])
		}
		recLen := RecLen(binary.LittleEndian.Uint16(h[4:]), s.blockSize)
		nameEnd := direntHeaderLen + int(h[6])
		need := (nameEnd+3)&^3 + s.extra
		inode := binary.LittleEndian.Uint32(h[:])
		name := b[min(direntHeaderLen, len(b)):min(nameEnd, len(b))]
		if recLen > room && room > direntHeaderLen && nameEnd <= room && (h[6] == 0 || nameEnd <= len(b)) &&
			inode <= s.inodes && bytes.IndexByte(name, 0) < 0 {
			recLen = room // cut to what is left
		}
		left := room - recLen
		switch {
		case recLen >= direntMinLen+s.extra && recLen&3 == 0 && left >= 0 && need <= recLen:
			if inode != 0 {
				d = Dirent{Offset: off, Inode: inode, RecLen: recLen, NameLen: h[6], Type: h[7], Name: name}
				s.yield(&d)
			}
			if off == 0 && recLen > 2*direntMinLen && hidesDotDot(b) {
				s.walk(direntMinLen, moved)
			}
			prev = true
			off += recLen
		case recLen == direntHeaderLen && left >= direntMinLen+s.extra:
			moved += direntHeaderLen
		case prev && recLen != 0 && recLen&3 == 0 && left >= 0:
			off += recLen // the entry before absorbs this one
		default:
			// The rest of the chain is given up; but where all of it is, it
			// becomes a "." that may hide a "..".
			if off == 0 && room > 2*direntMinLen && hidesDotDot(b) {
				s.walk(direntMinLen, moved)
			}
			return
		}
	}
}

// hidesDotDot reports whether a first entry that is too long has a ".." where
// one of proper length would end: then e2fsck cuts it to that.
func hidesDotDot(b []byte) bool {
	const name = direntMinLen + direntHeaderLen
	return len(b) >= name+2 && b[name] == '.' && b[name+1] == '.'
}

// LooksLikeDirectory reports whether block could be the first one of the
// directory ino, by the rules with which e2fsck's pass 1 recognises a
// directory whose mode is wrong (check_is_really_dir).
func LooksLikeDirectory(block []byte, ino uint32) bool {
	if len(block) < 2*direntMinLen {
		return false
	}
	recLen := RecLen(binary.LittleEndian.Uint16(block[4:]), len(block))
	if binary.LittleEndian.Uint32(block) != ino || block[6] != 1 || block[8] != '.' ||
		recLen < direntMinLen || recLen&3 != 0 || recLen >= len(block)-direntMinLen {
		return false
	}
	b := block[recLen:]
	recLen = RecLen(binary.LittleEndian.Uint16(b[4:]), len(block))
	return b[6] == 2 && b[8] == '.' && b[9] == '.' && recLen >= direntMinLen && recLen&3 == 0
}

// InlineDirectory splits the i_block of an inline directory: the parent's
// inode number, and the first chain of entries, which aliases iblock. The
// second chain is the value of the attribute system.data, if there is one.
// iblock must hold 60 bytes, else ok is false.
func InlineDirectory(iblock []byte) (parent uint32, chain []byte, ok bool) {
	if len(iblock) < inlineDataSize {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint32(iblock), iblock[inlineParentLen:inlineDataSize], true
}

// InlineChains yields the chains of entries of a directory that is held in its
// inode.
func (i Inode) InlineChains() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if _, chain, ok := InlineDirectory(i.IBlock()); ok && !yield(chain) {
			return
		}
		for r := NewInodeXattrReader(i); r.Next(); {
			if value, ok := r.Value(); r.Entry().IsInlineData() && ok && !yield(value) {
				return
			}
		}
	}
}

// LooksLikeInlineDirectory reports whether inline data of size bytes, the
// first 60 of them in iblock, could be a directory, by the rules with which
// e2fsck's pass 1 recognises one whose mode is wrong. inodes and firstInode
// are s_inodes_count and s_first_ino.
func LooksLikeInlineDirectory(iblock []byte, size uint64, blockSize int, inodes, firstInode uint32) bool {
	parent, chain, ok := InlineDirectory(iblock)
	if !ok || size&3 != 0 {
		return false
	}
	first := binary.LittleEndian.Uint32(chain)
	recLen := RecLen(binary.LittleEndian.Uint16(chain[4:]), blockSize)
	return parent < inodes && (parent >= firstInode || parent == RootInode) &&
		first < inodes && (first >= firstInode || first == 0) &&
		recLen <= len(chain)
}
