package scrub

import (
	"bytes"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// block scrubs block n of the filesystem, in place, as what it is. Of one that
// is taken for several kinds of structure, all scrub it in turn if none is
// certain: what one of them keeps, the next may not.
func (s *scrubber) block(d *drawer, n uint64, data []byte) {
	if allZero(data) {
		return // nothing to take out; View.NextData leaves such blocks out
	}
	var kinds [scan.Claimed + 1]scan.Kind
	list := kinds[:0]
	for k := range scan.Claimed {
		if s.m.Contains(k, n) {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		list = append(list, s.claimed(n))
	}
	if len(list) > 1 {
		for _, k := range list {
			if s.certain(k, n, data) {
				list = append(list[:0], k)
				break
			}
		}
	}
	if len(list) > 1 && list[0] == scan.Superblock {
		list = list[1:] // there is none: what else it may be decides
	}
	for _, k := range list {
		s.blockAs(d, k, n, data)
	}
}

// claimed tells what damage passes a block off as.
func (s *scrubber) claimed(n uint64) scan.Kind {
	switch k, ok := s.index.claims[n]; {
	case !s.m.Contains(scan.Claimed, n):
	case s.index.ownerOf(n) != 0:
		return scan.Directory
	case ok:
		return k
	}
	return scan.Claimed
}

// certain tells whether a block is what it is taken for, whatever else it is
// taken for.
func (s *scrubber) certain(k scan.Kind, n uint64, data []byte) bool {
	switch k {
	case scan.Superblock:
		at := 0
		if n == 0 && len(data) > ext.SuperblockOffset {
			at = ext.SuperblockOffset
		}
		return ext.IsSuperblock(data[min(at, len(data)):])
	case scan.GroupDescs:
		return s.trueDescs(n, data)
	case scan.BlockBitmap, scan.InodeBitmap:
		_, ok := s.trueBitmap(n, data)
		return ok
	case scan.InodeTable:
		return s.trueTable(n, data)
	case scan.IndirectBlock:
		return s.onlyPointers(data)
	case scan.Symlink:
		t := untilNUL(data)
		return len(t) > 0 && allZero(data[len(t):])
	case scan.Directory:
		h := indexHead{}
		if s.inIndexed(n) {
			h = headOf(data)
		}
		return h.root || h.node || layout{blockSize: s.blockSize}.sound(data)
	case scan.Journal:
		return s.inJournal(n)
	case scan.Xattr:
		h, ok := ext.DecodeXattrHeader(data)
		return ok && h.Valid()
	case scan.ExtentNode:
		return ext.ExtentNode(data).Sound()
	}
	return false
}

// inIndexed tells whether a block belongs to a directory with an index.
func (s *scrubber) inIndexed(n uint64) bool {
	indexed := func(ino uint32) bool {
		dir := s.index.dirs[ino]
		return dir != nil && dir.indexed
	}
	return indexed(s.index.ownerOf(n)) || slices.ContainsFunc(s.index.shared[n], indexed)
}

// blockAs scrubs a block of a kind.
func (s *scrubber) blockAs(d *drawer, k scan.Kind, n uint64, data []byte) {
	switch k {
	case scan.Superblock:
		s.superblockBlock(d, n, data)
	case scan.GroupDescs:
		s.descriptors(d, n, data)
	case scan.BlockBitmap, scan.InodeBitmap:
		s.bitmap(d, n, data)
	case scan.Quota:
		s.quota(d, data)
	case scan.OrphanFile:
		s.orphans(d, n, data)
	case scan.InodeTable:
		s.tableBlock(d, n, data)
	case scan.Journal:
		s.journalBlock(n, data)
	case scan.Mmp:
		s.mmp(d, data)
	case scan.ExtentNode:
		s.extentBlock(d, n, data)
	case scan.IndirectBlock:
		s.pointers(d, data, false)
	case scan.Directory:
		s.directoryBlock(d, n, data)
	case scan.Symlink:
		s.text(d, data, s.path)
	case scan.EncryptedSymlink:
		s.encryptedTarget(d, data, 0)
	case scan.Xattr:
		s.xattrBlock(d, n, data, s.values)
	case scan.XattrValue:
		s.value(d, data)
	case scan.Claimed:
		clear(data)
	}
}

// encryptedTarget scrubs the target of an encrypted symlink, struct
// fscrypt_symlink_data, in b or in the part of it that is as long as the inode
// says: a length of two bytes, and ciphertext. e2fsck compares the two lengths,
// and reads no further. Damage can pass any target off as an encrypted one, so
// none stays, and a length that cannot be becomes another that cannot be.
func (s *scrubber) encryptedTarget(d *drawer, b []byte, size uint64) {
	const head = 2
	if len(b) < head {
		clear(b)
		return
	}
	stored := uint64(le.Uint16(b))
	fits := func(n uint64) bool {
		if size > 0 {
			return head+n == size
		}
		return head+n <= uint64(len(b))
	}
	end := len(b)
	if fits(stored) {
		end = min(head+int(stored), len(b))
	} else {
		le.PutUint16(b, uint16(d.noise(stored, head, func(n uint64) bool { return !fits(n) })))
	}
	target := b[head:end]
	if size > 0 || !allZero(target) {
		d.draw(target, ciphertext, domainValue, d.sum(domainValue, target), 0)
	}
	clear(b[end:])
}

// table returns the inode table that a block belongs to.
func (s *scrubber) table(n uint64) (*scan.TableRun, bool) {
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
		return nil, false
	}
	return &s.tables[i], true
}

// trueTable tells whether a block of an inode table holds an inode that is in
// use, and nothing that is none.
func (s *scrubber) trueTable(n uint64, data []byte) bool {
	t, ok := s.table(n)
	if !ok {
		return false
	}
	size, used := int(t.InodeSize), false
	for ino := t.First + uint32(n-t.Start)*uint32(len(data)/size); len(data) >= size; ino++ {
		in := ext.Inode(data[:size])
		data = data[size:]
		if allZero(in) {
			continue
		}
		_, right := s.inodeSum(ino, in)
		if s.judgeInode(in, right) > plausible {
			return false
		}
		used = used || in.LinksCount() > 0
	}
	return used
}

// tableBlock scrubs a block of an inode table.
func (s *scrubber) tableBlock(d *drawer, n uint64, data []byte) {
	t, ok := s.table(n)
	if !ok {
		clear(data)
		return
	}
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
