package lost

import (
	"cmp"
	"slices"
	"strings"

	"e2qcow/scan"
)

// A Report lists the files that lost ranges hit.
type Report struct {
	// Files is ordered by the first path, then by inode.
	Files []File

	// Omitted counts the files, the paths and the ranges of bytes that are not
	// listed, because there are too many.
	Omitted int

	// Unknown counts inodes that cannot be read, of which nobody knows whether
	// they were in use: their inode bitmap cannot be read either.
	Unknown uint64

	// Cut reports that damage made the trees of files longer than they can be,
	// so that they were not followed to the end.
	Cut bool
}

// A File is a file or a directory of which something cannot be read.
type File struct {
	Inode uint32
	Type  uint16 // the bits of i_mode that ext.ModeType covers; 0 if not known
	Size  uint64 // i_size in bytes; 0 if the inode is lost
	Parts Parts

	// Paths has a path for each name of the file, ascending. A path begins with
	// "<inode>/" in place of "/" if the name of that directory is not known.
	// A file without a known name has no path.
	Paths []scan.Name

	// Lost has the bytes of the file that cannot be read, ascending. Holes are
	// among them where the part of the tree that says so is lost.
	Lost      []scan.Range
	LostBytes uint64
}

// Parts is a set of parts of a file.
type Parts uint8

// The parts of a file that can be lost.
const (
	Contents   Parts = 1 << iota // of a file or the target of a symlink
	Entries                      // of a directory
	Tree                         // extent nodes or indirect blocks
	Attributes                   // the block of extended attributes
	Inode                        // with everything to which it leads
)

var partNames = []string{"contents", "entries", "tree", "attributes", "inode"}

// Names returns the names of the parts.
func (p Parts) Names() []string {
	var list []string
	for i, name := range partNames {
		if p>>i&1 != 0 {
			list = append(list, name)
		}
	}
	return list
}

// String returns the names of the parts, separated by commas.
func (p Parts) String() string { return strings.Join(p.Names(), ",") }

// sort orders the files.
func (r *Report) sort() {
	first := func(f *File) scan.Name {
		if len(f.Paths) == 0 {
			return ""
		}
		return f.Paths[0]
	}
	slices.SortFunc(r.Files, func(a, b File) int {
		return cmp.Or(cmp.Compare(first(&a), first(&b)), cmp.Compare(a.Inode, b.Inode))
	})
}
