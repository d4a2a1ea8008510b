package survey

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"e2qcow/ext"
	"e2qcow/scan"
)

// Name fills in the paths of the largest files and directories in d. For that it
// scans the filesystem once more: r, size and opt are those of the first scan. A
// path begins with "<inode>/" in place of "/" if the name of that directory is
// not known.
func Name(ctx context.Context, r io.ReaderAt, size int64, opt scan.Options, d *Data) error {
	wanted := make(map[uint32]bool)
	lists := []*Histogram{d.Shape.Sizes, d.Shape.Extents, d.Shape.Entries, d.Shape.Depths, d.Shape.Ages}
	for _, h := range lists {
		if h != nil {
			for _, l := range h.Largest {
				wanted[l.Inode] = true
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	opt.Progress = nil
	opt.Visit = func(sb *ext.Superblock, geo *ext.Geometry) scan.Visitor {
		return &namer{wanted: wanted, blockSize: int(geo.BlockSize), links: make(map[uint32]link)}
	}
	res, err := scan.Scan(ctx, r, size, opt)
	if err != nil {
		return fmt.Errorf("looking for names: %w", err)
	}
	readings := res.Readings()
	i := slices.IndexFunc(readings, func(r scan.Reading) bool { return r.Super == res.Super() })
	if i < 0 {
		return nil
	}
	if d.Replayed && i+1 < len(readings) {
		i++
	}
	n := readings[i].Visitor().(*namer)
	n.reading = &readings[i]
	for _, h := range lists {
		if h == nil {
			continue
		}
		for k := range h.Largest {
			if err := ctx.Err(); err != nil {
				return err
			}
			h.Largest[k].Path = n.path(h.Largest[k].Inode).String()
		}
	}
	return nil
}

// A link is an entry of a directory.
type link struct {
	parent uint32
	name   scan.Name
}

// A namer finds the entries that name some inodes.
type namer struct {
	wanted    map[uint32]bool
	blockSize int
	reading   *scan.Reading // once the scan is finished
	read      int           // bytes of directories that were read since

	mu    sync.Mutex
	links map[uint32]link
}

func (n *namer) Inode(ino uint32, in ext.Inode) {
	if in.Type() == ext.ModeDir && in.LinksCount() > 0 && in.Flags()&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData {
		for chain := range in.InlineChains() {
			n.entries(ino, chain)
		}
	}
}

func (n *namer) Directory(ino uint32, _ uint64, data []byte) { n.entries(ino, data) }

// entries keeps the entries of a chain that name what is wanted: of several
// names the first by directory and name.
func (n *namer) entries(dir uint32, chain []byte) {
	r := ext.NewDirReader(chain, n.blockSize)
	for r.Next() {
		e := r.Entry()
		if !n.wanted[e.Inode] || string(e.Name) == "." || string(e.Name) == ".." || e.Inode == 0 {
			continue
		}
		l := link{dir, scan.Name(e.Name)}
		n.mu.Lock()
		if old, ok := n.links[e.Inode]; !ok || cmp.Or(cmp.Compare(l.parent, old.parent), cmp.Compare(l.name, old.name)) < 0 {
			n.links[e.Inode] = l
		}
		n.mu.Unlock()
	}
}

func (n *namer) Attributes(uint64, []byte)             {}
func (n *namer) Extents(uint32, uint64, []byte)        {}
func (n *namer) Indirect(uint32, uint64, bool, []byte) {}
func (n *namer) Pointers(uint64)                       {}

const (
	maxPathDepth = 256
	maxPath      = 4096     // bytes
	maxNameReads = 64 << 20 // bytes of directories, for all paths
	maxNameNodes = 1 << 10  // of the tree of a directory
)

// path returns the path of an inode.
func (n *namer) path(ino uint32) scan.Name {
	if ino == ext.RootInode {
		return "/"
	}
	path := scan.Name("")
	for range maxPathDepth {
		l, ok := n.links[ino]
		if !ok {
			l, ok = n.climb(ino)
		}
		if !ok || len(path) > maxPath {
			break
		}
		path = "/" + l.name + path
		if ino = l.parent; ino == ext.RootInode {
			return path
		}
	}
	return scan.Name(fmt.Sprintf("<%d>", ino)) + path
}

// climb finds the entry that names a directory, by its "..".
func (n *namer) climb(dir uint32) (link, bool) {
	parent := uint32(0)
	n.chains(dir, func(chain []byte) bool {
		r := ext.NewDirReader(chain, n.blockSize)
		for range 2 {
			if r.Next() && string(r.Entry().Name) == ".." {
				parent = r.Entry().Inode
			}
		}
		return false
	})
	if in, ok := n.reading.ReadInode(dir); ok && in.Flags()&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData {
		parent, _, _ = ext.InlineDirectory(in.IBlock())
	}
	if parent == 0 || parent == dir {
		return link{}, false
	}
	found := link{}
	n.chains(parent, func(chain []byte) bool {
		r := ext.NewDirReader(chain, n.blockSize)
		for r.Next() {
			if e := r.Entry(); e.Inode == dir && string(e.Name) != "." && string(e.Name) != ".." {
				found = link{parent, scan.Name(e.Name)}
				return false
			}
		}
		return true
	})
	if found.parent != 0 {
		n.links[dir] = found
	}
	return found, found.parent != 0
}

// chains calls f with the chains of a directory, until f returns false.
func (n *namer) chains(dir uint32, f func([]byte) bool) {
	in, ok := n.reading.ReadInode(dir)
	if !ok || in.Type() != ext.ModeDir {
		return
	}
	if in.Flags()&(ext.FlagInlineData|ext.FlagExtents) == ext.FlagInlineData {
		for chain := range in.InlineChains() {
			if !f(chain) {
				return
			}
		}
		return
	}
	buf := make([]byte, n.blockSize)
	for _, x := range n.reading.MapFile(in, maxNameNodes) {
		for block := x.Start; block < x.Start+uint64(x.Len) && n.reading.Geometry.ValidBlock(block); block++ {
			if n.read += len(buf); n.read > maxNameReads {
				return
			}
			n.reading.ReadBlock(block, buf)
			if !f(buf) {
				return
			}
		}
	}
}
