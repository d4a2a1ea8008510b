package survey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"e2qcow/ext"
	"e2qcow/internal/zero"
	"e2qcow/scan"
)

// log finds out what the journal holds.
func (s *survey) log() {
	file := s.now.Journal()
	first := uint32(0)
	if s.sb.HasIncompat(ext.IncompatJournalDev) && len(file) > 0 {
		first = file[0].Logical
	}
	buf := make([]byte, s.bs)
	if !s.readJournal(file, first, buf) {
		return
	}
	jsb, err := ext.DecodeJournalSuperblock(buf)
	if err != nil {
		return
	}
	state := &Log{Blocks: uint64(jsb.MaxLen)}
	s.d.Log = state
	if jsb.Start == 0 {
		return
	}
	if uint64(jsb.BlockSize) != s.bs {
		state.Err = "its blocks have another size than those of the filesystem"
		return
	}
	blocks := min(file.Blocks(), s.geo.BlocksCount, uint64(s.res.View().Size())/s.bs)
	left := maxLogBytes / s.bs
	recovery, err := ext.WalkJournal(jsb, blocks, func(n uint32, p []byte) error {
		if left == 0 {
			return errLongLog
		}
		left--
		if !s.readJournal(file, n, p) {
			return errNoBlock
		}
		return nil
	}, nil)
	if err != nil {
		state.Err = err.Error()
		return
	}
	if recovery.Err != nil {
		state.Err = recovery.Err.Error()
	}
	state.Transactions, state.FastCommits, state.Replaced = recovery.End-recovery.First, recovery.FastCommits, uint64(recovery.Replay.Len())
	for b := range recovery.Logged(ext.JournalCommit, recovery.End) {
		if t := s.committed(file, b.Block, buf); !t.IsZero() {
			if state.Oldest.IsZero() || t.Before(state.Oldest) {
				state.Oldest = t
			}
			if t.After(state.Newest) {
				state.Newest = t
			}
		}
	}
}

// maxLogBytes is how much of the journal is read.
const maxLogBytes = 1 << 30

var (
	errNoBlock = errors.New("no such block")
	errLongLog = errors.New("the log is longer than what is followed")
)

// readJournal reads a block of the journal; false if there is no such block.
func (s *survey) readJournal(file scan.FileMap, n uint32, p []byte) bool {
	block, ok := file.Block(n)
	if ok && s.geo.ValidBlock(block) {
		s.now.ReadBlock(block, p)
		return true
	}
	return false
}

// committed returns when a transaction was committed, by its commit block.
func (s *survey) committed(file scan.FileMap, n uint32, buf []byte) time.Time {
	const seconds = 0x30 // h_commit_sec
	if !s.readJournal(file, n, buf) {
		return time.Time{}
	}
	t := binary.BigEndian.Uint64(buf[seconds:])
	const latest = 1 << 40
	if t == 0 || t > latest {
		return time.Time{}
	}
	return time.Unix(int64(t), 0).UTC()
}

// maxOrphans is how many orphans are followed.
const maxOrphans = 1 << 16

// orphans counts the inodes that wait for their release.
func (s *survey) orphans() {
	o := &s.d.Orphans
	seen := make(map[uint32]bool)
	for ino := s.sb.LastOrphan(); ino != 0; {
		in, ok := s.rd.ReadInode(ino)
		if !ok || seen[ino] || len(seen) == maxOrphans {
			o.Broken = true
			break
		}
		seen[ino] = true
		o.List++
		ino = in.Dtime()
	}
	if !s.sb.HasCompat(ext.CompatOrphanFile) {
		s.waiting = seen
		return
	}
	in, ok := s.rd.ReadInode(s.sb.OrphanFileInode())
	if !ok {
		s.waiting = seen
		return
	}
	buf := make([]byte, s.bs)
	seed := ext.InodeSeed(s.sb.ChecksumSeed(), s.sb.OrphanFileInode(), in.Generation())
	left := maxOrphanBytes / s.bs
	for _, x := range s.rd.MapFile(in, maxOrphanNodes) {
		for block := x.Start; block < x.Start+uint64(x.Len) && left > 0 && s.geo.ValidBlock(block); block++ {
			left--
			s.rd.ReadBlock(block, buf)
			if s.v.sums {
				s.sums[sumOrphans].add(ext.VerifyOrphanBlock(seed, block, buf), place{ino: s.sb.OrphanFileInode(), block: block})
			}
			for list := buf[:len(buf)-ext.OrphanTailLen]; len(list) >= 4; list = list[4:] {
				if ino := binary.LittleEndian.Uint32(list); ino != 0 {
					o.File++
					if len(seen) < maxOrphans {
						seen[ino] = true
					}
				}
			}
		}
	}
	s.waiting = seen
}

const (
	maxOrphanBytes = 8 << 20 // EXT4_MAX_ORPHAN_FILE_SIZE of e2fsprogs
	maxOrphanNodes = 64
)

// claimOrphans takes in the blocks of orphans, which no directory names, and
// which have no links.
func (s *survey) claimOrphans() {
	for ino := range s.waiting {
		if in, ok := s.rd.ReadInode(ino); ok && in.LinksCount() == 0 {
			g, index := s.geo.InodePlace(ino)
			s.v.seen.set(g, uint64(index), uint64(index)+1)
			s.v.claimInode(ino, in)
		}
	}
}

// maxBackups is how many copies of the superblock are compared.
const maxBackups = 512

// sameFields are the fields that all copies of a superblock have in common.
var sameFields = fieldsNamed("s_inodes_count", "s_blocks_count_lo", "s_r_blocks_count_lo", "s_first_data_block", "s_log_block_size", "s_log_cluster_size",
	"s_blocks_per_group", "s_clusters_per_group", "s_inodes_per_group", "s_magic", "s_first_ino", "s_inode_size",
	"s_uuid", "s_volume_name", "s_reserved_gdt_blocks", "s_journal_inum", "s_hash_seed", "s_desc_size", "s_first_meta_bg", "s_mkfs_time",
	"s_blocks_count_hi", "s_r_blocks_count_hi", "s_log_groups_per_flex", "s_checksum_type", "s_checksum_seed",
	"s_feature_compat", "s_feature_incompat", "s_feature_ro_compat")

func fieldsNamed(names ...string) []ext.Field {
	var list []ext.Field
	for _, f := range ext.SuperblockFields {
		if slices.Contains(names, f.Name) {
			list = append(list, f)
		}
	}
	return list
}

// passing are the features that the kernel sets in the primary superblock only.
// e2fsck does not compare them either (check_backup_super_block).
var passing = map[string]uint32{
	"s_feature_compat":    ext.CompatExtAttr,
	"s_feature_incompat":  ext.IncompatRecover | ext.IncompatExtents,
	"s_feature_ro_compat": ext.RoCompatOrphanPresent | largeFile | dirNlink,
}

const (
	largeFile = 0x2
	dirNlink  = 0x20
)

// backups compares the copies of the superblock with the one that was used.
func (s *survey) backups() {
	if s.sb.HasRoCompat(ext.RoCompatMetadataCsum) {
		s.sums[sumSuper].add(s.sb.ChecksumOK(), place{block: s.geo.SuperBlock(s.res.SuperGroup()), group: s.res.SuperGroup(), hasGroup: true})
	}
	blocks := uint64(s.res.View().Size()) / s.bs
	buf := make([]byte, s.bs)
	for g, ok := s.geo.NextSuper(1); ok && len(s.d.Backups) < maxBackups; g, ok = s.geo.NextSuper(g + 1) {
		block := s.geo.SuperBlock(g)
		if block >= blocks {
			break
		}
		b := Backup{Group: g, Block: block}
		s.read(block, buf)
		sb, err := ext.DecodeSuperblock(buf)
		switch {
		case s.lost(block*s.bs, ext.SuperblockSize):
			b.State = "unreadable"
		case zero.IsZero(buf[:ext.SuperblockSize]):
			b.State = "empty"
		case err != nil:
			b.State = "no superblock"
		default:
			b.State = agrees
			if b.Fields = s.differing(sb); len(b.Fields) > 0 {
				b.State = "differs"
			}
			if s.sb.HasRoCompat(ext.RoCompatMetadataCsum) {
				right := ext.VerifySuperblock(buf)
				s.sums[sumSuper].add(right, place{group: g, hasGroup: true, block: block})
				if !right {
					b.State = "wrong checksum"
				}
			}
		}
		s.d.Backups = append(s.d.Backups, b)
		if !b.Agrees() && b.State != "empty" && b.State != "unreadable" {
			s.found.add(KindBackup, place{group: g, hasGroup: true, block: block}, 1, b.State)
			s.mark(KindBackup, place{block: block}, 1, b.State)
		}
	}
}

// differing returns the names of the fields in which a copy differs.
func (s *survey) differing(sb *ext.Superblock) (names []string) {
	a, b := s.sb.Bytes(), sb.Bytes()
	for _, f := range sameFields {
		x, y := a[f.Offset:f.Offset+f.Size], b[f.Offset:f.Offset+f.Size]
		if bits := passing[f.Name]; bits != 0 {
			if (binary.LittleEndian.Uint32(x)^binary.LittleEndian.Uint32(y))&^bits != 0 {
				names = append(names, f.Name)
			}
			continue
		}
		if !bytes.Equal(x, y) {
			names = append(names, f.Name)
		}
	}
	return names
}
