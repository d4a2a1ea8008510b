package reduce

import (
	"e2qcow/ext"
)

// claim adds a run of blocks to a node, unless the run is impossible.
func (f *filesystem) claim(n *node, start, count uint64) {
	if count == 0 || !f.geo.ValidBlock(start) || count > f.geo.BlocksCount || !f.geo.ValidBlock(start+count-1) {
		n.broken = true
		return
	}
	n.runs = append(n.runs, run{start, count, n.ino})
}

// mapNode finds the blocks of a node.
func (f *filesystem) mapNode(n *node) error {
	in := n.inode
	if acl := in.FileACL(f.geo.DescSize > 32); acl != 0 {
		n.xattr = acl
		f.claim(n, acl, 1)
	}
	switch {
	case in.Flags()&ext.FlagInlineData != 0:
		return nil
	case in.Type() == ext.ModeRegular, in.Type() == ext.ModeDir, n.ino == resizeInode:
	case in.Type() == ext.ModeSymlink && in.SymlinkTarget(f.geo.DescSize > 32, f.geo.ClusterSize) == ext.TargetInBlock:
	default:
		return nil
	}
	if in.Flags()&ext.FlagExtents != 0 {
		return f.mapExtents(n, ext.ExtentNode(in.IBlock()), maxDepth)
	}
	return f.mapIndirect(n)
}

// mapExtents walks an extent tree of at most depth levels below the root.
func (f *filesystem) mapExtents(n *node, e ext.ExtentNode, depth int) error {
	if !e.Sound() || e.Depth() > depth {
		n.broken = true
		return nil
	}
	_, count := e.Count()
	for i := range count {
		if e.Depth() == 0 {
			x := e.Extent(i)
			f.claim(n, x.Start, uint64(x.Len))
			continue
		}
		child, _ := e.Index(i)
		f.claim(n, child, 1)
		if f.reads++; f.reads > maxReads || !f.geo.ValidBlock(child) {
			n.broken = true
			return nil
		}
		n.trees = append(n.trees, child)
		b, err := f.block(child)
		if err != nil {
			return err
		}
		if err := f.mapExtents(n, ext.ExtentNode(b), e.Depth()-1); err != nil {
			return err
		}
	}
	return nil
}

// mapIndirect walks the indirect blocks of a node.
func (f *filesystem) mapIndirect(n *node) error {
	for i := range ext.IBlockCount {
		nr := n.inode.BlockNr(i)
		if nr == 0 {
			continue
		}
		if err := f.mapBelow(n, uint64(nr), max(i-ext.NDirBlocks+1, 0)); err != nil {
			return err
		}
	}
	return nil
}

// mapBelow claims a block, and what is below it if it is an indirect block of
// that level.
func (f *filesystem) mapBelow(n *node, block uint64, level int) error {
	if last := len(n.runs) - 1; last >= 0 && block != 0 && n.runs[last].start+n.runs[last].count == block && f.geo.ValidBlock(block) {
		n.runs[last].count++
	} else {
		f.claim(n, block, 1)
	}
	if level == 0 || n.broken {
		return nil
	}
	if f.reads++; f.reads > maxReads {
		n.broken = true
		return nil
	}
	b, err := f.block(block)
	if err != nil {
		return err
	}
	for ; len(b) >= 4; b = b[4:] {
		if nr := le.Uint32(b); nr != 0 {
			if err := f.mapBelow(n, uint64(nr), level-1); err != nil {
				return err
			}
		}
	}
	return nil
}
