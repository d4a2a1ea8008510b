package scrub

import "e2qcow/ext"

// The blocks of a quota file have 1024 bytes, whatever those of the filesystem
// have.
const quotaBlockSize = 1024

// quotaHeaderFields is struct v2_disk_dqheader and struct v2_disk_dqinfo.
var quotaHeaderFields = newStructure("quota header", 32, []field{
	{0, 4, "dqh_magic", number, nil},
	{4, 4, "dqh_version", number, nil},
	{8, 4, "dqi_bgrace", number, nil},
	{12, 4, "dqi_igrace", number, nil},
	{16, 4, "dqi_flags", number, nil},
	{20, 4, "dqi_blocks", number, nil},
	{24, 4, "dqi_free_blk", number, nil},
	{28, 4, "dqi_free_entry", number, nil},
})

// quotaLeafFields is struct qt_disk_dqdbheader, quotaEntryFields struct
// v2r1_disk_dqblk.
var (
	quotaLeafFields = newStructure("quota leaf", 16, []field{
		{0, 4, "dqdh_next_free", bounded, possibleQuotaBlock},
		{4, 4, "dqdh_prev_free", bounded, possibleQuotaBlock},
		{8, 2, "dqdh_entries", bounded, func(_ *limits, v uint64) bool { return v <= quotaEntries }},
		{10, 2, "dqdh_pad1", unset, nil},
		{12, 4, "dqdh_pad2", unset, nil},
	})
	quotaEntryFields = newStructure("quota entry", 72, []field{
		{0, 4, "dqb_id", number, nil},
		{8, 8, "dqb_ihardlimit", bounded, below(1 << 48)},
		{16, 8, "dqb_isoftlimit", bounded, below(1 << 48)},
		{24, 8, "dqb_curinodes", bounded, below(1 << 32)},
		{32, 8, "dqb_bhardlimit", bounded, below(1 << 56)},
		{40, 8, "dqb_bsoftlimit", bounded, below(1 << 56)},
		{48, 8, "dqb_curspace", bounded, below(1 << 56)},
		{56, 8, "dqb_btime", bounded, below(1 << 34)},
		{64, 8, "dqb_itime", bounded, below(1 << 34)},
	})
)

const quotaEntries = (quotaBlockSize - 16) / 72

func below(end uint64) func(*limits, uint64) bool {
	return func(_ *limits, v uint64) bool { return v < end }
}

// possibleQuotaBlock bounds the numbers of the blocks of a quota file, which
// holds one entry for each user.
func possibleQuotaBlock(_ *limits, v uint64) bool { return v < 1<<20 }

// quota scrubs a block of a quota file: each part of it that is a header, a
// leaf, or a node of the tree. Of others the words become noise.
func (s *scrubber) quota(d *drawer, block []byte) {
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	for len(old) > 0 {
		n := min(quotaBlockSize, len(old))
		s.quotaBlock(d, block[:n], old[:n])
		block, old = block[n:], old[n:]
	}
}

func (s *scrubber) quotaBlock(d *drawer, block, old []byte) {
	switch {
	case allZero(old):
	case ext.IsQuotaHeader(old):
		quotaHeaderFields.write(d, &s.lim, block, old, genuine)
	case isQuotaLeaf(&s.lim, old):
		quotaLeafFields.write(d, &s.lim, block, old, genuine)
		const head, size = 16, 72
		for at := head; at+size <= len(old); at += size {
			quotaEntryFields.write(d, &s.lim, block[at:at+size], old[at:at+size], genuine)
		}
	default:
		possible := func(v uint64) bool { return possibleQuotaBlock(nil, v) }
		wrong := 0
		for at := 0; at+4 <= len(old); at += 4 {
			if !possible(uint64(le.Uint32(old[at:]))) {
				wrong++
			}
		}
		for at := 0; at+4 <= len(old); at += 4 {
			v := uint64(le.Uint32(old[at:]))
			switch {
			case !possible(v):
				v = d.noise(v, 4, func(v uint64) bool { return !possible(v) })
			case wrong > 2:
				v = d.noise(v, 4, possible)
			}
			le.PutUint32(block[at:], uint32(v))
		}
	}
}

// isQuotaLeaf tells whether a block of a quota file holds entries, none of them
// impossible.
func isQuotaLeaf(l *limits, b []byte) bool {
	const head, size = 16, 72
	if len(b) < head || quotaLeafFields.flaws(l, b[:head]) > 0 {
		return false
	}
	for at := head; at+size <= len(b); at += size {
		if quotaEntryFields.flaws(l, b[at:at+size]) > 0 {
			return false
		}
	}
	return true
}

// orphans scrubs block n of the orphan file: the numbers of inodes, and a tail.
func (s *scrubber) orphans(d *drawer, n uint64, block []byte) {
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	if len(old) < ext.OrphanTailLen {
		return
	}
	end := len(old) - ext.OrphanTailLen
	illegal := 0
	for at := 0; at+4 <= end; at += 4 {
		if !possibleInode(&s.lim, uint64(le.Uint32(old[at:]))) {
			illegal++
		}
	}
	copy(block[:end], old)
	for at := 0; at+4 <= end; at += 4 {
		s.inodeNumber(d, block[at:at+4], true, illegal)
	}
	switch tail := uint64(le.Uint32(old[end:])); {
	case ext.IsOrphanBlock(old):
		le.PutUint32(block[end:], uint32(tail))
	default:
		le.PutUint32(block[end:], uint32(d.noise(tail, 4, nil)))
	}
	right, is := false, uint32(0)
	stored := le.Uint32(old[end+4:])
	for i := range s.readings {
		r := &s.readings[i]
		in, ok := r.ReadInode(r.Super.OrphanFileInode())
		if !ok {
			continue
		}
		ino, generation, seed := r.Super.OrphanFileInode(), in.Generation(), r.Super.ChecksumSeed()
		right = ext.VerifyOrphanBlock(ext.InodeSeed(seed, ino, generation), n, old)
		is = ext.OrphanBlockChecksum(ext.InodeSeed(seed^s.seeds.block, ino, generation), n, block)
		if right {
			break
		}
	}
	le.PutUint32(block[end+4:], d.sumOf(stored, is, right))
}
