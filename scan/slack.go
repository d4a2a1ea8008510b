package scan

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"e2qcow/ext"
)

// A slackIndex finds the blocks whose end is unused and may contain old data:
// blocks of superblocks, of symlink targets, and the last blocks of attribute
// values and of the used parts of inode tables. A block that has another kind
// too is left whole.
type slackIndex struct {
	blocks      *runIndex
	superblocks *blockSet
	encrypted   *blockSet // those of encrypted symlinks
	ends        []partial // ascending
}

// compactEnds sorts ends and leaves the longest for each block.
func compactEnds(ends []partial) []partial {
	slices.SortFunc(ends, func(a, b partial) int {
		return cmp.Or(cmp.Compare(a.block, b.block), -cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.kind, b.kind))
	})
	return slices.CompactFunc(ends, func(a, b partial) bool { return a.block == b.block })
}

// newSlackIndex finishes the map: the partial blocks join their kinds.
func newSlackIndex(m *Map) *slackIndex {
	ends := compactEnds(m.ends)
	var last, slack blockSet
	for _, e := range ends {
		last.add(e.block, 1)
	}
	others := []*blockSet{&last}
	for k := range m.sets {
		others = append(others, &m.sets[k])
	}
	for _, set := range []*blockSet{&m.sets[Superblock], &m.sets[Symlink], &m.sets[EncryptedSymlink], &last} {
		var only blockSet
		only.union(set)
		for _, o := range others {
			if o != set {
				only.remove(o)
			}
		}
		slack.union(&only)
	}
	for _, e := range ends {
		m.add(e.kind, e.block, 1)
	}
	return &slackIndex{newRunIndex(slack.runs()), &m.sets[Superblock], &m.sets[EncryptedSymlink], ends}
}

// used returns how many bytes of a block are somebody's.
func (x *slackIndex) used(block uint64, data []byte) int {
	i, ok := slices.BinarySearchFunc(x.ends, block, func(e partial, b uint64) int { return cmp.Compare(e.block, b) })
	switch {
	case ok:
		return min(int(x.ends[i].bytes), len(data))
	case x.superblocks.contains(block):
		if block == 0 {
			return min(ext.SuperblockOffset+ext.SuperblockSize, len(data)) // behind the boot sector
		}
		return min(ext.SuperblockSize, len(data))
	case x.encrypted.contains(block):
		// struct fscrypt_symlink_data
		return min(2+int(binary.LittleEndian.Uint16(data)), len(data))
	}
	if n := bytes.IndexByte(data, 0); n >= 0 {
		return n
	}
	return len(data)
}

// terminated reports whether the used part of a block with slack is the target
// of a symlink, which ends before a NUL.
func (x *slackIndex) terminated(block uint64) bool {
	_, end := slices.BinarySearchFunc(x.ends, block, func(e partial, b uint64) int { return cmp.Compare(e.block, b) })
	return !end && !x.superblocks.contains(block) && !x.encrypted.contains(block)
}

// clearSlack zeroes the slack in p, the bytes of the view from off.
func (v *View) clearSlack(p []byte, off int64) {
	end := off + int64(len(p))
	for at := off; at < end; {
		first, stop, ok := v.slack.blocks.next(uint64(at / v.blockSize))
		if !ok || int64(first)*v.blockSize >= end {
			return
		}
		for block := max(first, uint64(at/v.blockSize)); block < stop && int64(block)*v.blockSize < end; block++ {
			v.clearBlockSlack(p, off, block)
		}
		at = int64(stop) * v.blockSize
	}
}

// clearBlockSlack zeroes the slack of one block as far as it lies in p.
func (v *View) clearBlockSlack(p []byte, off int64, block uint64) {
	start := int64(block) * v.blockSize
	from, to := max(start-off, 0), min(start+v.blockSize-off, int64(len(p)))
	data := p[from:to]
	if int64(len(data)) < v.blockSize {
		data = make([]byte, v.blockSize)
		v.dev.read(data, start)
	}
	if used := start + int64(v.slack.used(block, data)) - off; used < to {
		clear(p[max(used, from):to])
	}
}
