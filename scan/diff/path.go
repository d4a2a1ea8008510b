package diff

import (
	"maps"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A Name is a name or a path as it stands on the disk.
type Name = scan.Name

const (
	maxDepth = 256  // of a path
	maxPath  = 4096 // bytes of a path
)

// A link is an entry of a directory that names an inode.
type link struct {
	parent uint32
	name   Name
}

// resolve finds the paths of inodes, as far as there are any, and keeps them.
// Files are looked for in all directories; a directory has a ".." that says
// where it is named.
func (s *side) resolve(inodes []uint32) {
	links := make(map[uint32]link)
	var files, dirs []uint32
	for _, ino := range inodes {
		switch {
		case s.paths[ino] != "" || ino == ext.RootInode:
		case s.isDirectory(ino):
			dirs = append(dirs, ino)
		default:
			files = append(files, ino)
		}
	}
	s.climb(append(dirs, s.findNames(files, links)...), links)
	for _, ino := range inodes {
		if path, ok := s.join(ino, links); ok {
			s.paths[ino] = path
		}
	}
}

// isDirectory tells whether an inode has entries, as the scan found it.
func (s *side) isDirectory(ino uint32) bool {
	return len(s.index.dirs.blocks(ino)) > 0 || len(s.index.inline.blocks(ino)) > 0
}

// findNames looks for entries that name files, in the order of blocks, and
// returns the directories that have some.
func (s *side) findNames(files []uint32, links map[uint32]link) (dirs []uint32) {
	if len(files) == 0 {
		return nil
	}
	wanted := make(map[uint32]bool, len(files))
	var likely [1 << 11]uint64 // a bit for each, by its lowest bits
	for _, ino := range files {
		wanted[ino] = true
		likely[ino/64%uint32(len(likely))] |= 1 << (ino % 64)
	}
	find := func(dir uint32, chain []byte) bool {
		for off := 0; off+8 <= len(chain); {
			ino, length := le.Uint32(chain[off:]), ext.RecLen(le.Uint16(chain[off+4:]), int(s.geo.BlockSize))
			if likely[ino/64%uint32(len(likely))]>>(ino%64)&1 != 0 && wanted[ino] {
				if name, ok := nameAt(chain, off, length); ok && !isDot(name) {
					links[ino] = link{dir, Name(name)}
					dirs = append(dirs, dir)
					delete(wanted, ino)
				}
			}
			if length < 8 || length%4 != 0 {
				break
			}
			off += length
		}
		return len(wanted) > 0
	}
	for _, o := range s.index.inline.list {
		for chain := range s.inode(o.ino).InlineChains() {
			if !find(o.ino, chain) {
				return dirs
			}
		}
	}
	s.eachDirBlock(find)
	return dirs
}

// nameAt returns the name of an entry of a length; false where there is none.
func nameAt(chain []byte, off, length int) ([]byte, bool) {
	const header = 8
	end := off + header + int(chain[off+6])
	if chain[off+6] == 0 || end > off+length || end > len(chain) {
		return nil, false
	}
	return chain[off+header : end], true
}

// eachDirBlock calls f with the blocks of directories, in ascending order, until
// f returns false. Blocks that lie together are read at once.
func (s *side) eachDirBlock(f func(dir uint32, block []byte) bool) {
	bs := uint64(s.geo.BlockSize)
	buf := make([]byte, max(maxSpan/bs, 1)*bs)
	for list := s.index.dirs.list; len(list) > 0; {
		first, n := list[0].block, 1
		for n < len(list) && (list[n].block-first+1)*bs <= uint64(len(buf)) && list[n].block-list[n-1].block <= 8 {
			n++
		}
		part := buf[:(list[n-1].block-first+1)*bs]
		if s.pathLeft -= int64(len(part)); s.pathLeft < 0 {
			return
		}
		s.read(part, int64(first*bs))
		for _, o := range list[:n] {
			if !f(o.ino, part[(o.block-first)*bs:][:bs]) {
				return
			}
		}
		list = list[n:]
	}
}

// climb finds the names of directories, and of those that these are in.
func (s *side) climb(dirs []uint32, links map[uint32]link) {
	for depth := 0; len(dirs) > 0 && depth < maxDepth; depth++ {
		wanted := make(map[uint32]map[uint32]bool) // by parent
		for _, dir := range dirs {
			if _, done := links[dir]; done || dir == ext.RootInode || s.paths[dir] != "" {
				continue
			}
			links[dir] = link{}
			parent := s.dotDot(dir)
			if parent == 0 || parent == dir {
				continue
			}
			if wanted[parent] == nil {
				wanted[parent] = make(map[uint32]bool)
			}
			wanted[parent][dir] = true
		}
		dirs = slices.Sorted(maps.Keys(wanted)) // the bound on reads falls on the same ones each time
		for _, parent := range dirs {
			of := wanted[parent]
			s.names(parent, func(e *ext.Dirent) bool {
				if of[e.Inode] && !isDot(e.Name) {
					links[e.Inode] = link{parent, Name(e.Name)}
					delete(of, e.Inode)
				}
				return len(of) > 0
			})
		}
	}
}

// dotDot returns the directory that a directory names as its parent, 0 where it
// names none.
func (s *side) dotDot(dir uint32) uint32 {
	in := s.inode(dir)
	if parent, _, ok := ext.InlineDirectory(in.IBlock()); ok && in.Flags()&ext.FlagInlineData != 0 {
		return parent
	}
	first, ok := scan.FileMap(s.reading.MapFile(in, maxDotNodes)).Block(0)
	if !ok {
		return 0
	}
	buf := make([]byte, s.geo.BlockSize)
	s.reading.ReadBlock(first, buf)
	r := ext.NewDirReader(buf, len(buf))
	for range 2 {
		if r.Next() && string(r.Entry().Name) == ".." {
			return r.Entry().Inode
		}
	}
	return 0
}

// maxDotNodes is how many nodes of a directory's tree are read to find its
// first block.
const maxDotNodes = 16

// join returns the path of an inode; false where it hangs on nothing.
func (s *side) join(ino uint32, links map[uint32]link) (Name, bool) {
	var parts []Name
	at, size := ino, 0
	for ; at != ext.RootInode && s.paths[at] == ""; at = links[at].parent {
		l := links[at]
		if l.parent == 0 || len(parts) == maxDepth || size > maxPath {
			return "", false
		}
		parts = append(parts, l.name)
		size += len(l.name) + 1
	}
	if at == ext.RootInode && len(parts) == 0 {
		return "/", true
	}
	path := s.paths[at]
	if at == ext.RootInode {
		path = ""
	}
	for _, part := range slices.Backward(parts) {
		path += "/" + part
	}
	return path, true
}

// names calls f with the entries of a directory, until f returns false.
func (s *side) names(dir uint32, f func(*ext.Dirent) bool) {
	chain := func(b []byte) bool {
		r := ext.NewDirReader(b, int(s.geo.BlockSize))
		for r.Next() {
			if e := r.Entry(); e.Inode != 0 && !f(e) {
				return false
			}
		}
		return true
	}
	if len(s.index.inline.blocks(dir)) > 0 {
		for b := range s.inode(dir).InlineChains() {
			if !chain(b) {
				return
			}
		}
	}
	buf := make([]byte, s.geo.BlockSize)
	for _, b := range s.index.dirs.blocks(dir) {
		if s.pathLeft -= int64(len(buf)); s.pathLeft < 0 {
			return
		}
		if s.reading.ReadBlock(b.block, buf); !chain(buf) {
			return
		}
	}
}
