package scan

import "iter"

// A Kind says which structure a block contains.
type Kind uint8

// The kinds, in the order in which a block that has several shows them.
const (
	Superblock       Kind = iota
	GroupDescs            // a block of the group descriptor table, or of a copy
	BlockBitmap           //
	InodeBitmap           //
	InodeTable            //
	Journal               // the journal inode's data, or a journal device's
	Mmp                   // multi-mount protection
	ExtentNode            // of an extent tree, outside the inode
	IndirectBlock         // of any level, those of the resize inode included
	Directory             //
	Symlink               // the target of a symlink too long for its inode
	EncryptedSymlink      // the same, encrypted: a length of two bytes, then so many more
	Xattr                 // extended attributes outside the inode
	XattrValue            // the data of an EA inode, where it was asked for
	Quota                 // the data of a quota inode
	OrphanFile            // the data of the orphan file
	Claimed               // read as structure only because damage says so
	FileData              // contents of files, where they were asked for
	kinds
)

var kindNames = [kinds]string{
	"superblock", "group descriptors", "block bitmap", "inode bitmap", "inode table", "journal", "mmp",
	"extent node", "indirect block", "directory", "symlink", "encrypted symlink", "xattr", "xattr value", "quota", "orphan file", "claimed", "file data",
}

// Kinds yields all kinds in their order.
func Kinds() iter.Seq[Kind] {
	return func(yield func(Kind) bool) {
		for k := range kinds {
			if !yield(k) {
				return
			}
		}
	}
}

func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "unknown"
}
