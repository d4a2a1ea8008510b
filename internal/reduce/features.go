package reduce

import "context"

// dropFeatures switches features off, one after the other, with what they keep on
// the disk: first those with inodes of their own, then each bit.
func dropFeatures(ctx context.Context, r *reducer) error {
	for _, drop := range []func(*filesystem, *tree) *change{dropJournal, dropResizeInode, dropQuota, dropOrphanFile, dropMMP} {
		f, t, err := r.look()
		if err != nil {
			return ignore(err)
		}
		if _, err := r.try(ctx, drop(f, t)); err != nil {
			return err
		}
	}
	for _, set := range []int{sbCompat, sbRoCompat, sbIncompat} {
		for bit := uint32(1); bit != 0; bit <<= 1 {
			f, err := r.disk.open()
			if err != nil {
				return ignore(err)
			}
			e := f.edit()
			if sb := e.super(); le.Uint32(sb[set:])&bit != 0 {
				off(sb, set, bit)
				if _, err := r.try(ctx, e.change()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// off switches a feature off.
func off(sb []byte, set int, bits uint32) { le.PutUint32(sb[set:], le.Uint32(sb[set:])&^bits) }

// dropReserved frees the blocks of a reserved inode and clears the inode; its bit
// stays set.
func (e *edit) dropReserved(t *tree, ino uint32) {
	n := t.byIno[ino]
	if n == nil {
		return
	}
	for _, r := range n.runs {
		e.free(r.start, r.count, t.shared)
	}
	if ino >= t.first {
		e.freeInode(n)
	}
	clear(e.inode(ino))
}

func dropJournal(f *filesystem, t *tree) *change {
	if !f.sb.HasCompat(compatJournal) || f.sb.JournalInode() == 0 {
		return nil
	}
	e := f.edit()
	sb := e.super()
	e.dropReserved(t, f.sb.JournalInode())
	off(sb, sbCompat, compatJournal|compatFastCommit)
	off(sb, sbIncompat, incompatRecover)
	clear(sb[sbJournalInode : sbJournalInode+4])
	clear(sb[sbJournalBlocks : sbJournalBlocks+68])
	sb[sbJournalBackup] = 0
	return e.change()
}

func dropResizeInode(f *filesystem, t *tree) *change {
	if !f.sb.HasCompat(compatResizeInode) {
		return nil
	}
	e := f.edit()
	sb := e.super()
	e.dropReserved(t, resizeInode)
	off(sb, sbCompat, compatResizeInode)
	le.PutUint16(sb[sbReservedGDT:], 0)
	return e.change()
}

func dropQuota(f *filesystem, t *tree) *change {
	if !f.sb.HasRoCompat(roCompatQuota) {
		return nil
	}
	e := f.edit()
	sb := e.super()
	for _, field := range []int{sbUserQuota, sbGroupQuota, sbProjectQuota} {
		if ino := le.Uint32(sb[field:]); ino != 0 {
			e.dropReserved(t, ino)
			clear(sb[field : field+4])
		}
	}
	off(sb, sbRoCompat, roCompatQuota|roCompatProject)
	return e.change()
}

func dropOrphanFile(f *filesystem, t *tree) *change {
	if !f.sb.HasCompat(compatOrphanFile) || f.sb.OrphanFileInode() == 0 {
		return nil
	}
	e := f.edit()
	sb := e.super()
	e.dropReserved(t, f.sb.OrphanFileInode())
	clear(sb[sbOrphanFile : sbOrphanFile+4])
	off(sb, sbCompat, compatOrphanFile)
	off(sb, sbRoCompat, roCompatOrphans)
	return e.change()
}

func dropMMP(f *filesystem, t *tree) *change {
	if !f.sb.HasIncompat(incompatMMP) {
		return nil
	}
	e := f.edit()
	sb := e.super()
	e.free(f.sb.MmpBlock(), 1, t.shared)
	clear(sb[sbMMPBlock : sbMMPBlock+8])
	off(sb, sbIncompat, incompatMMP)
	return e.change()
}

// isSpecial returns the inodes that the superblock names.
func (f *filesystem) isSpecial() map[uint32]bool {
	special := map[uint32]bool{f.sb.JournalInode(): true, f.sb.OrphanFileInode(): true}
	for _, ino := range f.sb.QuotaInodes() {
		special[ino] = true
	}
	delete(special, 0)
	return special
}

// firstInode returns the first inode that a user may have made.
func (f *filesystem) firstInode() uint32 { return max(f.geo.FirstInode, 11) }
