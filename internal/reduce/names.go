package reduce

import (
	"context"

	"e2qcow/ext"
)

// shortenNames writes directories anew, without an index: with short names that
// say nothing, and without room between the entries.
func shortenNames(ctx context.Context, r *reducer) error {
	return r.eachNode(ctx, func(_ *tree, n *node) bool {
		return n.inode.Type() == ext.ModeDir && !n.broken && len(n.entries) > 0 && n.inode.Flags()&(ext.FlagEncrypt|ext.FlagInlineData) == 0
	}, func(e *edit, _ *tree, n *node) {
		in := e.inode(n.ino)
		le.PutUint32(in[inFlags:], in.Flags()&^ext.FlagIndex)
		trees := map[uint64]bool{n.xattr: true}
		for _, b := range n.trees {
			trees[b] = true
		}
		named := 0
		for _, r := range n.runs {
			for block := r.start; block < r.start+r.count; block++ {
				if !trees[block] {
					named = e.rebuild(n, block, named)
				}
			}
		}
	})
}

// inFlags is the offset of i_flags in struct ext4_inode.
const inFlags = 0x20

// rebuild writes the entries of a block of a directory anew, of which names were
// named before. It returns how many were named then.
func (e *edit) rebuild(n *node, block uint64, named int) int {
	b := e.dirBlock(n, block)
	end := len(b)
	if _, sum := e.dirs[block]; sum {
		end -= tailLen
	} else if e.f.csum {
		return named // a checksum that is wrong stays wrong
	}
	old := append([]byte(nil), b...)
	clear(b)
	at, last := 0, 0
	for _, d := range n.entries {
		if d.block != block {
			continue
		}
		name := d.name
		if name != "." && name != ".." && name != lostAndFound {
			name = letters(named)
			named++
		}
		need := (direntHeader + len(name) + 3) &^ 3
		if at+need > end {
			copy(b, old)
			return named
		}
		le.PutUint32(b[at:], d.ino)
		le.PutUint16(b[at+4:], uint16(need))
		b[at+6] = byte(len(name))
		b[at+7] = old[d.off+7]
		copy(b[at+direntHeader:], name)
		last, at = at, at+need
	}
	le.PutUint16(b[last+4:], recLen(end-last))
	if end < len(b) {
		le.PutUint16(b[end+4:], tailLen)
		b[end+7] = tailType
	}
	return named
}

// Shapes of entries, as struct ext4_dir_entry_2 and ext4_dir_entry_tail have them.
const (
	direntHeader = 8
	tailLen      = 12
	tailType     = 0xDE
	lostAndFound = "lost+found"
)

// recLen returns rec_len as it is stored: 64 KiB has no room in 16 bits.
func recLen(n int) uint16 {
	if n >= 1<<16 {
		return 0xFFFF
	}
	return uint16(n)
}

// letters returns the name of a number: a, b, … z, ba, bb …
func letters(n int) string {
	name := ""
	for {
		name = string(rune('a'+n%26)) + name
		if n /= 26; n == 0 {
			return name
		}
	}
}

// fixedUUID stands for the UUID of every filesystem.
var fixedUUID = [16]byte{0xE2, 0x9C, 0x0E, 0x2F, 0, 1, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}

// setUUID gives the filesystem a UUID that says nothing, with all checksums that
// depend on the UUID.
func setUUID(ctx context.Context, r *reducer) error {
	f, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	if f.sb.UUID() == fixedUUID {
		return nil
	}
	e := f.edit()
	copy(e.super()[sbUUID:], fixedUUID[:])
	e.uuid = fixedUUID
	if f.csum && !f.sb.HasIncompat(incompatSeed) {
		e.seed = ext.CRC32C(^uint32(0), fixedUUID[:])
	}
	for group := range f.geo.GroupCount {
		e.blockBitmap(group)
		e.inodeBitmap(group)
	}
	for _, n := range t.nodes {
		e.inode(n.ino)
		for _, block := range n.trees {
			e.extentBlock(n, block)
		}
		if n.xattr != 0 {
			e.xattrBlock(n.xattr)
		}
		if n.inode.Type() != ext.ModeDir {
			continue
		}
		for _, r := range n.runs {
			for block := r.start; block < r.start+r.count; block++ {
				e.dirBlock(n, block)
			}
		}
	}
	_, err = r.try(ctx, e.change())
	return err
}
