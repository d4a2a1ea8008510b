package reduce

import (
	"context"

	"e2qcow/ext"
)

// truncateFiles empties files: their maps, sizes and blocks.
func truncateFiles(ctx context.Context, r *reducer) error {
	return r.eachNode(ctx, func(t *tree, n *node) bool {
		return n.inode.Type() == ext.ModeRegular && n.ino >= t.first && !t.special[n.ino] && len(n.runs) > 0 &&
			n.inode.Flags()&(ext.FlagInlineData|ext.FlagEaInode) == 0
	}, func(e *edit, t *tree, n *node) {
		in := e.inode(n.ino)
		for _, r := range n.runs {
			if r.start != n.xattr {
				e.free(r.start, r.count, t.shared)
			}
		}
		block := in.IBlock()
		clear(block)
		if in.Flags()&ext.FlagExtents != 0 {
			copy(block, emptyExtents)
		}
		sectors := uint32(0)
		if n.xattr != 0 {
			sectors = e.f.geo.ClusterSize / 512
		}
		le.PutUint32(in[inBlocksLo:], sectors)
		le.PutUint16(in[inBlocksHi:], 0)
		le.PutUint32(in[inSizeLo:], 0)
		le.PutUint32(in[inSizeHi:], 0)
	})
}

// emptyExtents is the root of an extent tree without entries.
var emptyExtents = []byte{0x0A, 0xF3, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0}

// dropAttributes takes the attributes of inodes away: those in the inode, and the
// attribute block.
func dropAttributes(ctx context.Context, r *reducer) error {
	return r.eachNode(ctx, func(_ *tree, n *node) bool {
		_, in := n.inBody()
		return n.xattr != 0 || in && n.inode.Flags()&ext.FlagInlineData == 0
	}, func(e *edit, t *tree, n *node) {
		in := e.inode(n.ino)
		if at, ok := n.inBody(); ok && in.Flags()&ext.FlagInlineData == 0 {
			clear(in[at:])
		}
		if n.xattr == 0 {
			return
		}
		if t.isShared(n.xattr) {
			e.dropReferences(n.xattr, 1)
		} else {
			e.free(n.xattr, 1, t.shared)
			clear(e.block(n.xattr))
		}
		le.PutUint32(in[inACLLo:], 0)
		le.PutUint16(in[inACLHi:], 0)
		if sectors, each := le.Uint32(in[inBlocksLo:]), e.f.geo.ClusterSize/512; sectors >= each {
			le.PutUint32(in[inBlocksLo:], sectors-each)
		}
	})
}

// inBody returns where attributes begin in the inode, and whether there are any.
func (n *node) inBody() (at int, ok bool) {
	if len(n.inode) <= oldSize {
		return 0, false
	}
	at = oldSize + int(le.Uint16(n.inode[inExtraSize:]))
	if at+4 > len(n.inode) {
		return 0, false
	}
	for _, b := range n.inode[at:] {
		if b != 0 {
			return at, true
		}
	}
	return at, false
}

// setConstants sets what tells of users and of the machine to constants: owners,
// times, and in the superblock names and times.
func setConstants(ctx context.Context, r *reducer) error {
	const day = 1577836800 // the first of 2020, UTC
	err := r.eachNode(ctx, func(_ *tree, n *node) bool { return n.inode.LinksCount() > 0 }, func(e *edit, _ *tree, n *node) {
		in := e.inode(n.ino)
		for _, off := range []int{inUID, inGID, inUIDHi, inGIDHi} {
			le.PutUint16(in[off:], 0)
		}
		for _, off := range []int{inAtime, inCtime, inMtime} {
			if le.Uint32(in[off:]) != 0 {
				le.PutUint32(in[off:], day)
			}
		}
		if len(in) < inCrtimeX+4 || oldSize+int(le.Uint16(in[inExtraSize:])) < inCrtimeX+4 {
			return
		}
		for _, off := range []int{inCtimeX, inMtimeX, inAtimeX, inCrtimeX} {
			le.PutUint32(in[off:], 0)
		}
		le.PutUint32(in[inCrtime:], day)
	})
	if err != nil {
		return err
	}
	for _, field := range superblockFields {
		f, err := r.disk.open()
		if err != nil {
			return ignore(err)
		}
		e := f.edit()
		clear(e.super()[field.off : field.off+field.size])
		if _, err := r.try(ctx, e.change()); err != nil {
			return err
		}
	}
	return nil
}

// superblockFields are those that are set to zero, by offset and size in struct
// ext4_super_block.
var superblockFields = []struct{ off, size int }{
	{0x78, 16},   // s_volume_name
	{0x88, 64},   // s_last_mounted
	{0x2C, 4},    // s_mtime
	{0x30, 4},    // s_wtime
	{0x34, 2},    // s_mnt_count
	{0x40, 4},    // s_lastcheck
	{0x108, 4},   // s_mkfs_time
	{0x178, 8},   // s_kbytes_written
	{0x194, 108}, // s_error_count to s_last_error_func
	{0x200, 64},  // s_mount_opts
	{0x08, 4},    // s_r_blocks_count_lo
	{0xEC, 16},   // s_hash_seed
}

// eachNode tries to change the nodes that are chosen, by halves and smaller parts.
func (r *reducer) eachNode(ctx context.Context, chosen func(*tree, *node) bool, edit func(*edit, *tree, *node)) error {
	_, t, err := r.look()
	if err != nil {
		return ignore(err)
	}
	var list []uint32
	for _, n := range t.nodes {
		if chosen(t, n) {
			list = append(list, n.ino)
		}
	}
	return r.eachPart(ctx, len(list), func(things []int) *change {
		f, t, err := r.look()
		if err != nil {
			return nil
		}
		e := f.edit()
		for _, i := range things {
			if n := t.byIno[list[i]]; n != nil && chosen(t, n) && e.inode(n.ino) != nil {
				edit(e, t, n)
			}
		}
		return e.change()
	})
}
