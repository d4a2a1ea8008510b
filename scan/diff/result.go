package diff

import "e2qcow/scan"

// A Diff is what became another from the first image to the second. Its JSON
// form is what `e2qcow diff --json` prints; names of members are lasting.
type Diff struct {
	BlockSize uint32   `json:"block_size"` // bytes
	Sizes     [2]int64 `json:"sizes"`      // of the images, bytes

	// SuperGroups are the groups whose copy of the superblock each image is read
	// by: 0 is the primary.
	SuperGroups [2]uint32 `json:"superblock_groups"`

	// Contents tells whether contents of files were compared.
	Contents bool `json:"contents_compared"`

	Superblock []Field           `json:"superblock"` // of the primary
	Copies     []Copy            `json:"copies"`     // of superblock and descriptors
	Groups     []Group           `json:"groups"`     // descriptors
	BlockUse   []BlockUse        `json:"block_use"`  // what block bitmaps say
	InodeUse   []InodeUse        `json:"inode_use"`  // what inode bitmaps say
	Inodes     []*Inode          `json:"inodes"`     // ascending
	Entries    []Entry           `json:"entries"`    // of directories
	Indexes    []Index           `json:"indexes"`    // blocks of htrees
	Symlinks   []Symlink         `json:"symlinks"`   // whose target has a block of its own
	Attributes []Attributes      `json:"attributes"` // blocks of extended attributes
	Journal    *Journal          `json:"journal"`    // nil where nothing of it differs
	Orphans    []Orphan          `json:"orphans"`    // inodes that came on the list, or left it
	Quota      []Quota           `json:"quota"`      //
	MMP        []Field           `json:"mmp"`        //
	Damage     []Damage          `json:"damage"`     // that came or went
	Unreadable [2]uint64         `json:"unreadable"` // bytes, of each image, taken as zero
	Blocks     uint64            `json:"blocks"`     // that differ
	Runs       []Run             `json:"block_runs"` // the same, ascending
	Kinds      map[string]uint64 `json:"kinds"`      // how many blocks of each kind differ

	// Omitted says how many changes of a list are not in it, for there are too
	// many.
	Omitted map[string]uint64 `json:"omitted"`
}

// Same tells whether nothing differs.
func (d *Diff) Same() bool { return d.Blocks == 0 && d.Sizes[0] == d.Sizes[1] && len(d.Omitted) == 0 }

// A Field is a field that has another value: a number (uint64), or text. Names
// are the kernel's.
type Field struct {
	Name string `json:"field"`
	Old  any    `json:"old"`
	New  any    `json:"new"`

	// Follows tells that this only follows from other changes: a checksum that
	// is right on both sides, a counter that counts them.
	Follows bool `json:"follows,omitempty"`

	form form
}

// A Copy is a copy of the superblock, or a block of copies of descriptors.
type Copy struct {
	Kind   string  `json:"kind"` // superblock or group descriptors
	Block  uint64  `json:"block"`
	Group  uint32  `json:"group"` // that it lies in
	Fields []Field `json:"fields,omitempty"`
}

// A Group is the descriptor of a group.
type Group struct {
	Group  uint32  `json:"group"`
	Fields []Field `json:"fields"`
	Sums   *Sums   `json:"checksum,omitempty"`
}

// Sums says how a checksum is on either side: "right", "wrong" or "none". It is
// there where that is not the same.
type Sums struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// An Owner is who has blocks: an inode, or a kind of metadata, or both.
type Owner struct {
	Inode uint32 `json:"inode,omitempty"`
	Path  Name   `json:"path,omitempty"`
	Kind  string `json:"kind,omitempty"`
}

// A BlockUse is a run of blocks that a block bitmap has as used and had as free,
// or the other way round.
type BlockUse struct {
	Group uint32 `json:"group"`
	Start uint64 `json:"start"`
	Count uint64 `json:"count"`
	Used  bool   `json:"used"`            // they became so
	Owner *Owner `json:"owner,omitempty"` // who has them, or had; nil where nobody known
}

// An InodeUse is a run of inodes that an inode bitmap has as used and had as
// free, or the other way round.
type InodeUse struct {
	Group uint32 `json:"group"`
	Start uint32 `json:"start"`
	Count uint32 `json:"count"`
	Used  bool   `json:"used"`
	Path  Name   `json:"path,omitempty"` // of a run of one
}

// What became of an inode.
const (
	Created = "created"
	Deleted = "deleted"
	Changed = "changed"
	Unused  = "unused" // free on both sides, and not the same bytes
)

// An Inode is an inode that differs, or whose tree of blocks does.
type Inode struct {
	Inode  uint32   `json:"inode"`
	Path   Name     `json:"path,omitempty"`
	What   string   `json:"what"` // created, deleted, changed, unused
	Fields []Field  `json:"fields"`
	Sums   *Sums    `json:"checksum,omitempty"`
	Map    []Extent `json:"map,omitempty"` // parts of the file that lie elsewhere
	Target *Target  `json:"target,omitempty"`
	Xattrs []Xattr  `json:"xattrs,omitempty"` // in the inode
	Rest   bool     `json:"rest,omitempty"`   // so do bytes that are no field

	types  [2]uint16 // i_mode & S_IFMT
	used   [2]bool   // is the inode of a file
	mapped bool      // Map is known
}

// An Extent is a part of a file, in blocks, that lies elsewhere. 0 is nowhere:
// a hole.
type Extent struct {
	Logical      uint64 `json:"logical"`
	Count        uint64 `json:"count"`
	Old          uint64 `json:"old"`
	New          uint64 `json:"new"`
	OldUnwritten bool   `json:"old_unwritten,omitempty"`
	NewUnwritten bool   `json:"new_unwritten,omitempty"`
}

// A Target is that of a symlink.
type Target struct {
	Old Name `json:"old"`
	New Name `json:"new"`
}

// What became of a directory entry.
const (
	Added      = "added"
	Removed    = "removed"
	Renamed    = "renamed"    // or moved to another directory
	Retargeted = "retargeted" // the name leads to another inode, or the type differs
)

// An Entry is an entry of a directory that came, went, or became another.
type Entry struct {
	What      string `json:"what"`
	Directory uint32 `json:"directory"` // its inode
	Path      Name   `json:"path,omitempty"`
	Name      Name   `json:"name"`
	Inode     uint32 `json:"inode"`
	Type      uint8  `json:"type"` // EXT4_FT_*

	// What there was before: of an entry that was renamed directory and name, of
	// one that was retargeted inode and type.
	OldDirectory uint32 `json:"old_directory,omitempty"`
	OldPath      Name   `json:"old_path,omitempty"`
	OldName      Name   `json:"old_name,omitempty"`
	OldInode     uint32 `json:"old_inode,omitempty"`
	OldType      uint8  `json:"old_type,omitempty"`
}

// An Index is a block of a directory's htree, or one whose checksum is not as
// right as it was.
type Index struct {
	Directory uint32  `json:"directory"`
	Path      Name    `json:"path,omitempty"`
	Block     uint64  `json:"block"`
	Fields    []Field `json:"fields"`
	Entries   int     `json:"entries"` // places in it that differ
	Sums      *Sums   `json:"checksum,omitempty"`
}

// A Symlink is a target in a block of its own.
type Symlink struct {
	Block uint64 `json:"block"`
	Target
}

// An Attributes is a block of extended attributes.
type Attributes struct {
	Block  uint64  `json:"block"`
	Inode  uint32  `json:"inode,omitempty"` // one that has them, where it is known
	Path   Name    `json:"path,omitempty"`
	Fields []Field `json:"fields"`
	Xattrs []Xattr `json:"xattrs"`
	Sums   *Sums   `json:"checksum,omitempty"`
}

// An Xattr is an extended attribute that was added or removed, or that has
// another value. Values are told by their sizes.
type Xattr struct {
	What    string `json:"what"` // added, removed, changed
	Name    Name   `json:"name"` // with its prefix
	OldSize uint32 `json:"old_size"`
	NewSize uint32 `json:"new_size"`
}

// A Journal is what of the journal differs.
type Journal struct {
	Fields []Field      `json:"fields"` // of its superblock
	Log    [2]*LogState `json:"log"`    // nil where it cannot be walked
	Blocks uint64       `json:"blocks"` // that differ, the superblock aside
}

// A LogState is what recovery would do.
type LogState struct {
	Transactions uint32 `json:"transactions"` // to replay
	First        uint32 `json:"first"`        // sequence
	Blocks       int    `json:"blocks"`       // that would be replaced
	FastCommits  uint32 `json:"fast_commits"` // blocks of them
	Error        string `json:"error,omitempty"`
}

// An Orphan is an inode on the orphan list or in the orphan file.
type Orphan struct {
	Inode uint32 `json:"inode"`
	Path  Name   `json:"path,omitempty"`
	Came  bool   `json:"came"` // else it went
}

// A Quota is what a quota file says of a user, group or project.
type Quota struct {
	Type   string  `json:"type"` // user, group, project
	ID     uint32  `json:"id"`
	What   string  `json:"what"` // added, removed, changed
	Fields []Field `json:"fields"`
}

// A Damage is damage that only one of the images has.
type Damage struct {
	Came    bool   `json:"came"` // else it went
	Kind    string `json:"kind"`
	What    string `json:"what"`
	Group   uint32 `json:"group,omitempty"`
	Inode   uint32 `json:"inode,omitempty"`
	Block   uint64 `json:"block,omitempty"`
	problem scan.Problem
}

// A Run is a run of blocks that differ. Before and After are the kinds that the
// scans found; "" is none.
type Run struct {
	Start  uint64 `json:"start"`
	Count  uint64 `json:"count"`
	Before string `json:"before"`
	After  string `json:"after"`
}
