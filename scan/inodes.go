package scan

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
)

// visitInode processes the blocks to which an inode points.
func (s *scanner) visitInode(b *batch, ino uint32, in ext.Inode) {
	s.visitor.Inode(ino, in)
	if next := in.Dtime(); next != 0 && s.sb.LastOrphan() != 0 && s.geo.ValidInode(next) {
		b.links = append(b.links, orphanLink{ino, next})
	}
	if in.LinksCount() == 0 && (!s.reserved(ino) || !in.Used()) {
		if in.Type() == ext.ModeDir {
			b.unlinkedDirs = append(b.unlinkedDirs, ino)
		}
		return
	}
	s.visitXattrs(b, ino, in)
	s.visitContent(b, ino, in, s.contentOf(ino, in))
	s.visitSpecial(b, ino, in)
	if s.opt.Files && in.IsUnknown() && ino != ext.BadInode && in.Flags()&ext.FlagInlineData == 0 {
		s.visitTree(b, ino, in.IBlock(), in.Flags()&ext.FlagExtents != 0, contentFile)
	}
	if f := in.Flags(); f&ext.FlagIndex != 0 && in.Type() != ext.ModeDir && f&(ext.FlagInlineData|ext.FlagExtents) != ext.FlagInlineData {
		s.visitTree(b, ino, in.IBlock(), f&ext.FlagExtents != 0, contentIndex)
	}
}

// reserved reports whether e2fsck looks at an inode whatever its links count.
func (s *scanner) reserved(ino uint32) bool {
	return ino < s.geo.FirstInode || ino == s.sb.JournalInode() || ino == s.orphanFile || slices.Contains(s.quotas[:], ino)
}

// contentOf returns the kind of contents of an inode, by its mode.
func (s *scanner) contentOf(ino uint32, in ext.Inode) content {
	file := contentData
	if s.opt.Files && in.LinksCount() > 0 && ino != ext.BadInode && ino != s.sb.JournalInode() {
		file = contentFile
	}
	if ino == ext.BadInode || ino == ext.ResizeInode {
		return file
	}
	switch in.Type() {
	case ext.ModeDir:
		return contentDir
	case ext.ModeRegular:
		return file
	case ext.ModeSymlink:
		if in.Flags()&ext.FlagEncrypt != 0 {
			return contentEncrypted
		}
		return contentSymlink
	}
	return contentProbe
}

// visitContent processes the blocks of an inode whose contents are known.
func (s *scanner) visitContent(b *batch, ino uint32, in ext.Inode, c content) {
	flags := in.Flags()
	if flags&ext.FlagInlineData != 0 {
		s.visitInlineData(b, ino, in, c)
		if flags&ext.FlagExtents == 0 {
			return
		}
		// The flags contradict each other: e2fsck follows both.
	}
	switch {
	case c == contentProbe && !mayBeDir(in):
		return
	case c == contentSymlink || c == contentEncrypted:
		s.visitSymlink(b, ino, in, c)
		return
	}
	s.visitTree(b, ino, in.IBlock(), flags&ext.FlagExtents != 0, c)
}

// visitSymlink processes the block of a symlink's target. If programs disagree
// whether there is such a block, and the target in the inode is sound, that is
// not damage. With ea_inode the block is then left out: kernels that read it
// misread sound symlinks. Without ea_inode all kernels decide by i_blocks, so
// the block that they read is marked.
func (s *scanner) visitSymlink(b *batch, ino uint32, in ext.Inode, c content) {
	place := in.SymlinkTarget(s.wide, s.geo.ClusterSize)
	if place&ext.TargetInBlock == 0 {
		return
	}
	extents := in.Flags()&ext.FlagExtents != 0
	if place&ext.TargetInInode != 0 && in.HasSoundTarget() && !(extents && ext.ExtentNode(in.IBlock()).Valid()) {
		if block := uint64(in.BlockNr(0)); s.validBlock(block) && !s.sb.HasIncompat(ext.IncompatEaInode) {
			b.mark(Claimed, block, 1)
		}
		return
	}
	s.visitTree(b, ino, in.IBlock(), extents, c)
}

// Files that the superblock names are marked up to a size that no sound one
// has, so that a wrong inode number does not mark a large file.
const (
	maxQuotaFile  = 256 << 20
	maxOrphanFile = 8 << 20 // EXT4_MAX_ORPHAN_FILE_SIZE of e2fsprogs
)

// visitSpecial processes the blocks of an inode that the superblock names.
// scanJournal processes those of the journal.
func (s *scanner) visitSpecial(b *batch, ino uint32, in ext.Inode) {
	switch {
	case ino == s.sb.JournalInode():
		s.visitTree(b, ino, in.IBlock(), in.Flags()&ext.FlagExtents != 0, contentData)
	case slices.Contains(s.quotas[:], ino):
		s.visitTree(b, ino, in.IBlock(), in.Flags()&ext.FlagExtents != 0, contentData)
		limit := uint64(maxQuotaFile)
		if ino >= s.geo.FirstInode && !s.begins(in, 1, ext.IsQuotaHeader) {
			limit = 1 // e2fsck reads no more of what is no quota file
		}
		s.specialLeaves(b, ino, in, limit, func(start, n uint64, _ uint32) { b.mark(Quota, start, n) })
	case ino == s.orphanFile:
		s.visitTree(b, ino, in.IBlock(), in.Flags()&ext.FlagExtents != 0, contentData)
		limit := uint64(maxOrphanFile)
		if !s.begins(in, 2, ext.IsOrphanBlock) {
			limit = 1
		}
		s.specialLeaves(b, ino, in, limit, func(start, n uint64, _ uint32) {
			b.mark(OrphanFile, start, n)
			b.items = appendRun(b.items, ino, start, n, roleOrphan)
		})
	}
}

// specialLeaves calls leaf as leaves does, and tells what is left out.
func (s *scanner) specialLeaves(b *batch, ino uint32, in ext.Inode, limit uint64, leaf func(start, n uint64, logical uint32)) {
	if s.leaves(rootOf(in), limit, leaf).cut {
		b.problem(Unbounded, ino, 0, "the tree of the file has more nodes or extents than are followed")
	}
}

// begins reports whether one of the first n blocks of a file is such a block.
func (s *scanner) begins(in ext.Inode, n uint32, such func(block []byte) bool) bool {
	file, _ := s.mapFile(in.IBlock(), in.Flags()&ext.FlagExtents != 0, maxSmallNodes)
	data := make([]byte, s.geo.BlockSize)
	for logical := range n {
		if block, ok := file.Block(logical); ok && s.validBlock(block) {
			if s.dev.read(data, int64(block)*int64(s.geo.BlockSize)); such(data) {
				return true
			}
		}
	}
	return false
}

// maxSmallNodes bounds the nodes that are read of a tree if only its first
// blocks are needed.
const maxSmallNodes = 64

// leaves calls leaf for each run of blocks in the first limit bytes of a file,
// with the logical block at its beginning. Damaged trees may have several
// blocks for one place in the file: leaves takes at most twice as many blocks
// as a sound file has. It returns the cost.
func (s *scanner) leaves(root treeRoot, limit uint64, leaf func(start, n uint64, logical uint32)) mapCost {
	end := (limit + uint64(s.geo.BlockSize) - 1) / uint64(s.geo.BlockSize)
	most := 8 + int(end/32) // a node leads to more blocks than that, unless damaged
	file, cost := s.mapFile(root.iblock, root.extents, most)
	left := 2*end + 64
	for _, x := range file {
		if uint64(x.Logical) >= end {
			break
		}
		if start, n, ok := s.validRun(x.Start, min(uint64(x.Len), end-uint64(x.Logical))); ok {
			if n > left {
				cost.cut = true
				break
			}
			left -= n
			leaf(start, n, x.Logical)
		}
	}
	return cost
}

// mayBeDir reports whether e2fsck tests if an inode that is neither a directory
// nor a regular file nor a symlink is really a directory. e2fsck does not test
// a device whose i_block contains only a device number.
func mayBeDir(in ext.Inode) bool {
	if in.BlockNr(0) == 0 {
		return false
	}
	t := in.Type()
	if (t != ext.ModeChar && t != ext.ModeBlock) || in.LinksCount() != 1 || in.Flags()&ext.FlagExtents != 0 {
		return true
	}
	for n := 4; n < ext.IBlockCount; n++ {
		if in.BlockNr(n) != 0 {
			return true
		}
	}
	return false
}

// visitInlineData processes the names of a directory that is stored in its
// inode.
func (s *scanner) visitInlineData(b *batch, ino uint32, in ext.Inode, c content) {
	if c != contentDir && c != contentProbe {
		return
	}
	if parent, chain, ok := ext.InlineDirectory(in.IBlock()); ok {
		b.parents = append(b.parents, parent)
		s.visitDirents(b, ino, 0, chain)
	}
	for r := ext.NewInodeXattrReader(in); r.Next(); {
		if !r.Entry().IsInlineData() {
			continue
		}
		if value, ok := r.Value(); ok {
			s.visitDirents(b, ino, 0, value)
		}
	}
}

// visitXattrs processes the extended attributes of an inode.
func (s *scanner) visitXattrs(b *batch, ino uint32, in ext.Inode) {
	if block := in.FileACL(s.wide); block != 0 {
		if s.validBlock(block) {
			b.items = append(b.items, item{block: block, ino: ino, count: 1, role: roleXattr})
		} else {
			b.problem(BadBlockPointer, ino, block, "i_file_acl points outside the filesystem")
		}
	}
	r := ext.NewInodeXattrReader(in)
	s.visitXattrEntries(b, &r)
	if err := r.Err(); err != nil {
		b.problem(BadXattr, ino, 0, err.Error())
	}
}

func (s *scanner) visitXattrBlock(b *batch, ino uint32, block uint64, data []byte) {
	s.tellLost(b, block)
	s.visitor.Attributes(block, data)
	off := int64(block) * int64(s.geo.BlockSize)
	if h, ok := ext.DecodeXattrHeader(data); (!ok || !h.Valid()) && !b.unread(off, ext.XattrHeaderLen) {
		b.mark(Claimed, block, 1)
		b.problem(BadXattr, ino, block, "no header")
		return
	}
	b.mark(Xattr, block, 1)
	r := ext.NewXattrBlockReader(data)
	s.visitXattrEntries(b, &r)
	bad := (*ext.XattrError)(nil)
	if err := r.Err(); err != nil && (!errors.As(err, &bad) || !b.unread(off+int64(bad.Offset), ext.XattrEntryLen)) {
		b.problem(BadXattr, ino, block, err.Error())
	}
}

func (s *scanner) visitXattrEntries(b *batch, r *ext.XattrReader) {
	for r.Next() {
		if x := r.Entry(); x.ValueInode != 0 {
			b.revisits = append(b.revisits, revisit{ino: x.ValueInode, why: asValue, size: x.ValueSize})
		}
	}
}

// seedOrphans requests the inodes on the orphan list. Each names the next in
// its deletion time. They are read one after the other only if the used parts
// of the tables did not contain them, or contained too many others.
func (s *scanner) seedOrphans(ctx context.Context, b *batch) error {
	seen := roaring.New()
	in := make(ext.Inode, s.geo.InodeSize)
	for ino := s.sb.LastOrphan(); ino != 0 && ctx.Err() == nil && seen.CheckedAdd(ino); {
		s.orphan(b, ino)
		if b.full() {
			s.merge(b)
		}
		if !s.geo.ValidInode(ino) || seen.GetCardinality() > uint64(s.maxRevisits) {
			break
		}
		next, known := s.orphanLinks[ino]
		if !known {
			if !s.readInode(in, ino) {
				break
			}
			next = in.Dtime()
		}
		ino = next
	}
	s.orphanLinks = nil
	return ctx.Err()
}

// readInode reads an inode, if some table contains it.
func (s *scanner) readInode(in ext.Inode, ino uint32) bool {
	g, index := s.geo.InodePlace(ino)
	if g >= s.groups || s.tables[g] == 0 {
		return false
	}
	s.dev.read(in, int64(s.tables[g])*int64(s.geo.BlockSize)+int64(index)*int64(s.geo.InodeSize))
	return true
}

// seedReserved asks for the inodes that e2fsck reads by their numbers, where a
// descriptor says that their part of the table was never used.
func (s *scanner) seedReserved(b *batch) {
	ask := func(ino uint32) {
		if s.geo.ValidInode(ino) {
			if g, index := s.geo.InodePlace(ino); g < s.groups && index >= s.limits[g] {
				b.revisits = append(b.revisits, revisit{ino: ino, why: asReserved})
			}
		}
	}
	for ino := ext.BadInode; ino <= lastReserved; ino++ {
		ask(ino)
	}
	ask(s.sb.JournalInode())
	ask(s.orphanFile)
	for _, ino := range s.quotas {
		ask(ino)
	}
}

// lastReserved is the last inode that has a fixed use.
const lastReserved = 10

// askUnlinkedDirs asks for the directories without links that a directory has
// as its parent: e2fsck looks them up to print a path.
func (s *scanner) askUnlinkedDirs() {
	b := new(batch)
	both := roaring.And(s.parents, s.unlinkedDirs)
	s.unlinkedDirs.AndNot(both)
	for it := both.Iterator(); it.HasNext(); {
		b.revisits = append(b.revisits, revisit{ino: it.Next(), why: asDir})
	}
	s.merge(b)
}

// orphan asks for an inode on the orphan list or in the orphan file.
func (s *scanner) orphan(b *batch, ino uint32) {
	if !s.geo.ValidInode(ino) {
		b.problem(BadOrphan, ino, 0, "no such inode")
		return
	}
	b.revisits = append(b.revisits, revisit{ino: ino, why: asOrphan})
}

// name records that something names an inode. That matters if the inode lies
// behind the visited part of its table.
func (s *scanner) name(b *batch, ino uint32) {
	if g, index := s.geo.InodePlace(ino); g < s.groups && index >= s.limits[g] {
		b.named = append(b.named, ino)
	}
}

// scanRevisits visits single inodes again that later findings have named.
func (s *scanner) scanRevisits(ctx context.Context) error {
	list := s.revisits
	s.revisits = nil
	list = slices.DeleteFunc(list, func(r revisit) bool {
		g, _ := s.geo.InodePlace(r.ino)
		return g >= s.groups || s.tables[g] == 0
	})
	slices.SortFunc(list, func(a, b revisit) int {
		return cmp.Or(cmp.Compare(s.inodeBlock(a.ino), s.inodeBlock(b.ino)), cmp.Compare(a.ino, b.ino), cmp.Compare(a.why, b.why))
	})
	per, size := s.geo.InodesPerBlock(), s.geo.InodeSize
	return s.sweep(ctx, len(list),
		func(i int) (uint64, uint64) { return s.inodeBlock(list[i].ino), 1 },
		func(b *batch, i int, block uint64, data []byte) {
			r := list[i]
			_, index := s.geo.InodePlace(r.ino)
			at := index % per * size
			problems := len(b.problems)
			s.visitAgain(b, r, block, ext.Inode(data[at:at+size:at+size]))
			b.excuse(problems, int64(block)*int64(s.geo.BlockSize)+int64(at), int64(size))
		})
}

func (s *scanner) visitAgain(b *batch, r revisit, block uint64, in ext.Inode) {
	if g, index := s.geo.InodePlace(r.ino); index >= s.limits[g] {
		b.mark(InodeTable, block, 1)
		s.visitor.Inode(r.ino, in)
	}
	switch r.why {
	case asOrphan:
		s.visitXattrs(b, r.ino, in)
		s.visitContent(b, r.ino, in, s.contentOf(r.ino, in))
	case asDir:
		s.visitContent(b, r.ino, in, contentDir)
	case asReserved:
		s.visitInode(b, r.ino, in)
	case asValue:
		if in.Size() == uint64(r.size) && in.Size() <= maxValue {
			s.visitValue(b, r.ino, in)
		}
	}
}

// maxValue is the size in bytes of the largest attribute value that e2fsck
// reads (EXT2_XATTR_SIZE_MAX).
const maxValue = 1 << 24

// visitValue processes the tree of an inode with the value of an extended
// attribute, and the value if it was requested. e2fsck compares the hash in the
// inode, and does not read the value.
func (s *scanner) visitValue(b *batch, ino uint32, in ext.Inode) {
	root := rootOf(in)
	s.visitTree(b, ino, root.iblock, root.extents, contentData)
	if !s.opt.XattrValues {
		return
	}
	root.iblock = slices.Clone(root.iblock)
	b.values = append(b.values, value{ino, in.Size(), root})
}

// inodeBlock returns the block of the inode table that contains an inode.
func (s *scanner) inodeBlock(ino uint32) uint64 {
	g, index := s.geo.InodePlace(ino)
	return s.tables[g] + uint64(index/s.geo.InodesPerBlock())
}
