package scan

import (
	"fmt"

	"e2qcow/ext"
)

// A reading is one way to understand the filesystem: a superblock and the
// descriptor table beside it.
type reading struct {
	sb       *ext.Superblock
	geo      *ext.Geometry
	group    uint32 // whose copy it is
	believed bool   // e2fsck would use it without turning to a backup
}

// owned reports whether the superblock says that it is the copy of its group.
// One of group 0 is no copy but the primary of a filesystem that begins beside
// it, as on a partition. Revision 0 does not number its copies.
func (rd reading) owned() bool {
	return rd.sb.Group() == rd.group&0xffff || rd.sb.Revision() == 0
}

// readPrimary reads the primary superblock as far as it can be read.
func readPrimary(dev *device) []byte {
	buf := make([]byte, ext.SuperblockSize)
	if dev.size >= ext.SuperblockOffset+ext.SuperblockSize {
		dev.read(buf, ext.SuperblockOffset)
	}
	return buf
}

// readCopy decodes the copy of the superblock that may stand at a byte offset.
// A place that cannot be read holds none: it need not be metadata at all.
func readCopy(dev *device, off int64) (*ext.Superblock, error) {
	var buf [ext.SuperblockSize]byte
	if !dev.tryRead(buf[:], off) {
		return nil, ErrNotExt
	}
	return ext.DecodeSuperblock(buf[:])
}

// findReadings returns the ways in which e2fsck may understand the filesystem,
// the likeliest first: the primary superblock if it is usable, and a backup if
// the primary is bad. It returns no reading if the only superblock is unusable,
// and ErrNotExt if there is none.
func findReadings(dev *device, opt Options, pr *problems) ([]reading, error) {
	if opt.Superblock != 0 {
		return chosenReading(dev, opt)
	}
	primary := readPrimary(dev)
	// What a superblock lacks that was read in part only is not known to be damage.
	damage := func(what string) {
		if len(dev.lostIn(ext.SuperblockOffset, ext.SuperblockOffset+ext.SuperblockSize)) == 0 {
			pr.add(Problem{Kind: BadSuperblock, What: what})
		}
	}
	sb, err := ext.DecodeSuperblock(primary)
	var readings []reading
	if err == nil {
		geo, gerr := sb.Geometry()
		if gerr == nil && opt.BlockSize != 0 && geo.BlockSize != opt.BlockSize {
			gerr = fmt.Errorf("blocks of %d bytes, not of %d as requested; request a block size only if the superblock is damaged", geo.BlockSize, opt.BlockSize)
		}
		if gerr == nil {
			rd := reading{sb: sb, geo: geo}
			switch verr := sb.Verify(geo); {
			case verr != nil:
				damage(verr.Error())
			case !sb.ChecksumOK():
				damage("wrong checksum")
			default:
				rd.believed = true
				return []reading{rd}, nil
			}
			readings = append(readings, rd)
		} else {
			damage(gerr.Error())
		}
	}
	// A bad primary superblock still identifies the copies. Without a primary,
	// a copy must identify itself.
	backups := backupReadings(dev, opt, ext.GeometryHint(primary), sb == nil)
	if len(backups) == 0 && len(readings) == 0 {
		backups = searchBackup(dev, opt)
	}
	if sb == nil {
		if len(backups) > 0 && opt.BelieveBackup != nil {
			rd := backups[0]
			if err := opt.BelieveBackup(rd.geo.SuperBlock(rd.group), rd.geo.BlockSize); err != nil {
				return nil, err
			}
		}
		if rd, ok := unmarkedReading(dev, opt, primary); ok {
			readings = append(readings, rd)
		}
		if len(backups) == 0 && len(readings) == 0 && !hasRootDirectory(dev) {
			return nil, ErrNotExt
		}
		damage("the primary has no magic number")
	}
	// If a backup is usable, only tools that ignore checksums read the primary.
	for _, rd := range readings {
		if len(backups) == 0 || *rd.geo == *backups[0].geo {
			backups = append(backups, rd)
		}
	}
	return backups, nil
}

// unmarkedReading reads a primary superblock that has lost only its magic
// number. Its checksum proves that or, without a checksum, the root directory
// to which it leads.
func unmarkedReading(dev *device, opt Options, primary []byte) (reading, bool) {
	sb, err := ext.DecodeUnmarkedSuperblock(primary)
	if err != nil {
		return reading{}, false
	}
	geo, err := sb.Geometry()
	if err != nil || sb.Verify(geo) != nil || !sb.ChecksumOK() || opt.BlockSize != 0 && geo.BlockSize != opt.BlockSize {
		return reading{}, false
	}
	if !sb.HasRoCompat(ext.RoCompatMetadataCsum) && !leadsToRoot(dev, geo.BlockSize, geo.DescBlock(0, 0), geo.DescSize, geo.InodeSize) {
		return reading{}, false
	}
	return reading{sb: sb, geo: geo}, true
}

// hasRootDirectory reports whether there is a filesystem that has lost its
// superblock: the descriptor of group 0, where it would stand for some block
// size, leads to a root directory.
func hasRootDirectory(dev *device) bool {
	for bs := uint32(ext.MinBlockSize); bs <= ext.MaxBlockSize; bs *= 2 {
		for _, descBlock := range [...]uint64{1, 2} {
			for _, inodeSize := range [...]uint32{128, 256, 512, 1024} {
				for _, descSize := range [...]uint32{32, 64} {
					if leadsToRoot(dev, bs, descBlock, descSize, inodeSize) {
						return true
					}
				}
			}
		}
	}
	return false
}

// leadsToRoot reports whether the first descriptor in a block leads to an inode
// table whose second inode is a root directory.
func leadsToRoot(dev *device, blockSize uint32, descBlock uint64, descSize, inodeSize uint32) bool {
	blocks := uint64(dev.size) / uint64(blockSize)
	desc := make(ext.GroupDesc, descSize)
	if descBlock >= blocks || !dev.tryRead(desc, int64(descBlock)*int64(blockSize)) {
		return false
	}
	table := desc.InodeTable()
	if table == 0 || table >= blocks {
		return false
	}
	in := make(ext.Inode, inodeSize)
	if !dev.tryRead(in, int64(table)*int64(blockSize)+int64(inodeSize)*int64(ext.RootInode-1)) || in.Type() != ext.ModeDir {
		return false
	}
	first := uint64(in.BlockNr(0))
	if node := ext.ExtentNode(in.IBlock()); node.Sound() {
		if first = node.Extent(0).Start; node.Depth() > 0 {
			first, _ = node.Index(0)
			leaf := make(ext.ExtentNode, blockSize)
			if first >= blocks || !dev.tryRead(leaf, int64(first)*int64(blockSize)) || !leaf.Sound() {
				return false
			}
			first = leaf.Extent(0).Start
		}
	}
	block := make([]byte, blockSize)
	return first != 0 && first < blocks && dev.tryRead(block, int64(first)*int64(blockSize)) && ext.LooksLikeDirectory(block, ext.RootInode)
}

// chosenReading uses the superblock that the caller names.
func chosenReading(dev *device, opt Options) ([]reading, error) {
	for bs := uint32(ext.MinBlockSize); bs <= ext.MaxBlockSize; bs *= 2 {
		if opt.BlockSize != 0 && opt.BlockSize != bs {
			continue
		}
		if opt.Superblock > uint64(dev.size)/uint64(bs) {
			continue
		}
		if rd, ok := backupAt(dev, opt.Superblock, bs); ok {
			rd.believed = true
			return []reading{rd}, nil
		}
	}
	return nil, fmt.Errorf("%w at block %d", ErrNotExt, opt.Superblock)
}

// backupAt reads the superblock copy at a block, if a usable one with that
// block size stands there.
func backupAt(dev *device, block uint64, blockSize uint32) (reading, bool) {
	sb, err := readCopy(dev, int64(block)*int64(blockSize))
	if err != nil || sb.BlockSize() != blockSize {
		return reading{}, false
	}
	geo, err := sb.Geometry()
	if err != nil {
		return reading{}, false
	}
	group := geo.GroupOf(block)
	if geo.SuperBlock(group) != block {
		return reading{}, false
	}
	return reading{sb: sb, geo: geo, group: group}, true
}

// backupReadings looks for a copy of the superblock where e2fsck would: for
// each block size at the start of groups 1, 3, 5, 7, 9 and so on of the size
// that mke2fs gives them, and where a primary, bad as it may be, hints that
// groups begin. It returns the first valid copy of either kind. With own, a copy
// has to say that it is one of this filesystem.
func backupReadings(dev *device, opt Options, hint ext.Hint, own bool) []reading {
	var found []reading
	try := func(bs uint32, first, perGroup uint64) bool {
		for _, g := range backupGroups {
			block := first + uint64(g)*perGroup
			if block > uint64(dev.size)/uint64(bs) {
				return false
			}
			rd, ok := backupAt(dev, block, bs)
			if !ok || !rd.sb.ChecksumOK() || rd.sb.Verify(rd.geo) != nil || own && !rd.owned() {
				continue
			}
			for _, old := range found {
				if old.group == rd.group && *old.geo == *rd.geo {
					return true
				}
			}
			found = append(found, rd)
			return true
		}
		return false
	}
	if hint.BlockSize != 0 {
		try(hint.BlockSize, uint64(hint.FirstDataBlock), uint64(hint.BlocksPerGroup))
	}
	for bs := uint32(ext.MinBlockSize); bs <= ext.MaxBlockSize; bs *= 2 {
		if opt.BlockSize != 0 && opt.BlockSize != bs {
			continue
		}
		first := uint64(0)
		if bs == ext.MinBlockSize {
			first = 1
		}
		if try(bs, first, 8*uint64(bs)) {
			break
		}
	}
	return found
}

// searchedBytes bounds the search for a copy of the superblock outside the
// usual places. Group 1 begins before that bound, unless blocks are larger than
// 4 KiB.
const searchedBytes = 128<<20 + 4<<10

// searchBackup looks for a copy of the superblock in every block of the first
// groups: they may be of any size (mke2fs -g).
func searchBackup(dev *device, opt Options) []reading {
	const searchPiece = 1 << 20
	buf := make([]byte, searchPiece)
	for off := int64(0); off < min(dev.size, searchedBytes) && !dev.dead(); off += searchPiece {
		data := buf[:min(searchPiece, dev.size-off)]
		if !dev.tryRead(data, off) {
			continue
		}
		for at := int64(0); at+ext.SuperblockSize <= int64(len(data)); at += ext.MinBlockSize {
			if off+at <= ext.SuperblockOffset || !ext.IsSuperblock(data[at:]) {
				continue
			}
			sb, err := ext.DecodeSuperblock(data[at:])
			if err != nil || sb.BlockSize() == 0 || opt.BlockSize != 0 && sb.BlockSize() != opt.BlockSize || (off+at)%int64(sb.BlockSize()) != 0 {
				continue
			}
			rd, ok := backupAt(dev, uint64(off+at)/uint64(sb.BlockSize()), sb.BlockSize())
			if ok && rd.owned() && rd.sb.ChecksumOK() && rd.sb.Verify(rd.geo) == nil {
				return []reading{rd}
			}
		}
	}
	return nil
}

// backupGroups are the groups with a copy under sparse_super that are searched.
var backupGroups = [...]uint32{1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729, 2187, 2401, 3125, 6561, 15625, 16807, 19683}

// maxLooked is how many copies of the superblock are looked at to find two
// that are valid.
const maxLooked = 256

// markSuperblock marks the primary superblock and the one that the scan uses,
// with the descriptors beside them.
func (s *scanner) markSuperblock() {
	first := uint64(ext.SuperblockOffset) / uint64(s.geo.BlockSize)
	s.out.add(Superblock, first, 1)
	if block := s.geo.SuperBlock(s.descGroup); s.validBlock(block) {
		s.out.add(Superblock, block, 1)
	}
	s.markDescs(0)
	s.markDescs(s.descGroup)
}

// markCopies marks the requested copies of superblock and descriptors.
func (s *scanner) markCopies() {
	if s.opt.Backups == BackupsNone {
		return
	}
	valid, looked := 0, 0
	for g, ok := s.geo.NextSuper(1); ok && g < s.groups; g, ok = s.geo.NextSuper(g + 1) {
		block := s.geo.SuperBlock(g)
		if !s.validBlock(block) {
			continue
		}
		s.out.add(Superblock, block, 1)
		take := s.opt.Backups == BackupsAll
		if !take && valid < 2 && looked < maxLooked {
			looked++
			if rd, ok := backupAt(s.dev, block, s.geo.BlockSize); ok && rd.sb.ChecksumOK() && rd.sb.Verify(rd.geo) == nil {
				valid++
				take = true
			}
		}
		if take {
			s.markLinearDescs(g)
		}
	}
	// The backups of metablock groups belong to all copies of the superblock.
	for i := s.geo.LinearDescBlocks(); i < s.descBlocks(); i++ {
		for n, block := range s.geo.MetaDescCopies(i) {
			if n < 2 || s.opt.Backups == BackupsAll {
				s.markDesc(block, 1)
			}
		}
	}
}

// descBlocks returns how many blocks the descriptors of all groups fill that
// can be on the device.
func (s *scanner) descBlocks() uint32 {
	per := s.geo.DescsPerBlock()
	return uint32((uint64(s.groups) + uint64(per) - 1) / uint64(per))
}

// maxClaimedDescs is how many blocks of a descriptor table are taken behind
// those of groups that can be on the device.
const maxClaimedDescs = 256

// markDescs processes the descriptor blocks that belong to a superblock copy.
func (s *scanner) markDescs(group uint32) {
	s.markLinearDescs(group)
	for i := s.geo.LinearDescBlocks(); i < s.descBlocks(); i++ {
		s.markDesc(s.geo.DescBlock(group, i), 1)
	}
}

// markLinearDescs processes the descriptor blocks behind a superblock copy.
// e2fsck reads a linear table as long as the superblock says that it is; the
// first blocks too many are enough for it to turn to a backup.
func (s *scanner) markLinearDescs(group uint32) {
	linear, n := s.geo.LinearDescBlocks(), s.descBlocks()
	if linear == 0 {
		return
	}
	start := s.geo.DescBlock(group, 0)
	s.markDesc(start, uint64(min(n, linear)))
	if linear > n {
		if start, count, ok := s.validRun(start+uint64(n), uint64(min(linear-n, maxClaimedDescs))); ok {
			s.out.add(Claimed, start, count)
		}
	}
}

func (s *scanner) markDesc(block, n uint64) {
	if block, n, ok := s.validRun(block, n); ok {
		s.out.add(GroupDescs, block, n)
	}
}

// markProbes makes the result for an unusable superblock: the places with a
// superblock that e2fsck reads.
func (r *Result) markProbes() {
	const blockSize = ext.MinBlockSize
	r.Map.add(Superblock, ext.SuperblockOffset/blockSize, 1)
	for bs := int64(ext.MinBlockSize); bs <= ext.MaxBlockSize; bs *= 2 {
		for _, g := range backupGroups {
			off := 8 * bs * bs * int64(g)
			if bs == ext.MinBlockSize {
				off += bs
			}
			if _, err := readCopy(r.dev, off); err == nil {
				r.Map.add(Superblock, uint64(off/blockSize), ext.SuperblockSize/blockSize)
			}
		}
	}
	r.freeze(blockSize)
}
