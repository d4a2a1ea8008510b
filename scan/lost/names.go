package lost

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
	"e2qcow/scan"
)

// A link is an entry of a directory that names a file which is hit, or a
// directory.
type link struct {
	ino, parent uint32
	name        uint32 // its place in links.names
	length      uint8
}

// links are the entries that were kept.
type links struct {
	list    []link
	names   []byte
	omitted int
}

// The bounds of what is kept to find paths.
const (
	maxLinks     = 1 << 23
	maxNameBytes = 256 << 20
	maxPathBytes = 256 << 20 // of all paths that a report lists
	maxPathDepth = 256
	maxPath      = 4096 // bytes
)

func (l *links) add(ino, parent uint32, name []byte) {
	if len(l.list) >= maxLinks || len(l.names)+len(name) > maxNameBytes {
		l.omitted++
		return
	}
	l.list = append(l.list, link{ino, parent, uint32(len(l.names)), uint8(len(name))})
	l.names = append(l.names, name...)
}

func (l *links) name(k link) []byte { return l.names[k.name:][:k.length] }

// of returns the entries that name an inode.
func (l *links) of(ino uint32) []link {
	byInode := func(k link, ino uint32) int { return cmp.Compare(k.ino, ino) }
	first, _ := slices.BinarySearchFunc(l.list, ino, byInode)
	n := first
	for n < len(l.list) && l.list[n].ino == ino {
		n++
	}
	return l.list[first:n]
}

// A dirBlock is a block of a directory that is to be read.
type dirBlock struct {
	block uint64
	ino   uint32
}

// A nameFinder reads the directories.
type nameFinder struct {
	*finder
	gathered []dirBlock
	left     uint64 // blocks that may still be read
}

// findNames reads the directories, and keeps the entries that lead to what is
// hit.
func (f *finder) findNames() error {
	if len(f.files) == 0 && len(f.lostInodes) == 0 {
		return nil
	}
	f.nodesLeft = f.mostNodes()
	n := &nameFinder{finder: f}
	n.left = 1<<12 + 2*f.res.Map.Blocks(scan.Directory) // a sound block belongs to one directory
	var failed error
	err := f.eachInode(func(ino uint32, in ext.Inode) {
		if in.LinksCount() == 0 || in.Type() != ext.ModeDir || failed != nil {
			return
		}
		if in.Flags()&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData {
			for chain := range in.InlineChains() {
				n.entries(ino, chain)
			}
			return
		}
		f.root(&tree{ino: ino, typ: 0, end: in.Size(), leaf: n.blocks, miss: func(*tree, uint64, uint64) {}}, in)
		if len(n.gathered) >= maxPending {
			failed = n.read()
		}
	})
	err = cmp.Or(err, failed)
	if err == nil {
		err = f.drain()
	}
	if err == nil {
		err = n.read()
	}
	slices.SortFunc(f.links.list, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.parent, b.parent), bytes.Compare(f.links.name(a), f.links.name(b)))
	})
	return err
}

// blocks gathers blocks of a directory, as far as the scan took them for some.
func (n *nameFinder) blocks(t *tree, logical, start, count uint64) {
	ratio := n.bs / uint64(n.res.BlockSize())
	blocks := t.end/n.bs + 1
	for i := range min(count, blocks-min(logical, blocks)) {
		if !n.res.Map.Contains(scan.Directory, (start+i)*ratio) {
			continue
		}
		if n.left == 0 {
			n.cut = true
			return
		}
		n.left--
		n.gathered = append(n.gathered, dirBlock{start + i, t.ino})
	}
}

// read reads the blocks that are gathered.
func (n *nameFinder) read() error {
	slices.SortFunc(n.gathered, func(a, b dirBlock) int { return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.ino, b.ino)) })
	err := readBlocks(n.finder, n.gathered, func(b dirBlock) uint64 { return b.block },
		func(b dirBlock, data []byte) { n.entries(b.ino, data) })
	n.gathered = n.gathered[:0]
	return err
}

// entries keeps those entries of a chain that lead to what is hit.
func (n *nameFinder) entries(dir uint32, chain []byte) {
	r := ext.NewDirReader(chain, int(n.bs))
	for r.Next() {
		e := r.Entry()
		if e.Inode == 0 || len(e.Name) == 0 || string(e.Name) == "." || string(e.Name) == ".." {
			continue
		}
		_, hit := n.files[e.Inode]
		if i := ranges.Find(n.lostInodes, uint64(e.Inode)); i < len(n.lostInodes) && n.lostInodes[i].Start <= uint64(e.Inode) {
			file := n.file(&tree{ino: e.Inode}, Inode)
			if hit = file != nil; hit && file.Type == 0 {
				file.Type = typeOf(e.Type)
			}
		}
		if hit || n.dirs.Contains(e.Inode) {
			n.links.add(e.Inode, dir, e.Name)
		}
	}
}

// typeOf returns the file type of an entry as i_mode has it.
func typeOf(fileType uint8) uint16 {
	types := [...]uint16{0, ext.ModeRegular, ext.ModeDir, ext.ModeChar, ext.ModeBlock, ext.ModeFIFO, ext.ModeSocket, ext.ModeSymlink}
	if int(fileType) < len(types) {
		return types[fileType]
	}
	return 0
}

// pathFinder makes paths of links.
type pathFinder struct {
	links   *links
	left    int // bytes of paths
	omitted int
}

func (l *links) paths() *pathFinder { return &pathFinder{links: l, left: maxPathBytes} }

// of returns the paths of an inode, ascending.
func (p *pathFinder) of(ino uint32) []scan.Name {
	if ino == ext.RootInode {
		return []scan.Name{"/"}
	}
	var paths []scan.Name
	for _, k := range p.links.of(ino) {
		if p.left <= 0 {
			p.omitted++
			continue
		}
		path := p.path(k)
		p.left -= len(path)
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// path returns the path of an entry. It begins with the number of a directory
// if the names above are not known.
func (p *pathFinder) path(k link) scan.Name {
	parts := [][]byte{p.links.name(k)}
	size := len(parts[0])
	for ; k.parent != ext.RootInode; size += len(parts[len(parts)-1]) + 1 {
		above := p.links.of(k.parent)
		if len(above) == 0 || len(parts) == maxPathDepth || size > maxPath {
			parts = append(parts, []byte("<"+strconv.FormatUint(uint64(k.parent), 10)+">"))
			break
		}
		k = above[0]
		parts = append(parts, p.links.name(k))
	}
	if k.parent == ext.RootInode {
		parts = append(parts, nil)
	}
	slices.Reverse(parts)
	return scan.Name(bytes.Join(parts, []byte("/")))
}
