package survey

import "time"

// Data is what there is to say of a filesystem. The names of its JSON never
// change.
type Data struct {
	BlockSize  uint32 `json:"block_size"`  // bytes
	Blocks     uint64 `json:"blocks"`      // of the filesystem
	Groups     uint32 `json:"groups"`      //
	SuperGroup uint32 `json:"super_group"` // whose copy of the superblock was used; 0 for the primary
	Replayed   bool   `json:"replayed"`    // what follows is as replay of the journal would leave it

	Map     *Map     `json:"map,omitempty"` // nil where nothing is known of groups
	Head    *Head    `json:"head,omitempty"`
	Sums    []Sums   `json:"checksums,omitempty"` // empty without the feature metadata_csum
	Backups []Backup `json:"backups"`
	Log     *Log     `json:"log,omitempty"` // nil where there is no journal, or it is unreadable
	Orphans Orphans  `json:"orphans"`
	Written uint64   `json:"lifetime_writes"` // bytes; 0 where that is not known
	Shape   Shape    `json:"shape"`
	Damage  Damage   `json:"damage"`
}

// A Class is a kind of contents in the map.
type Class uint8

// The classes, in the order in which a block that may be of several is counted.
const (
	Super      Class = iota // superblocks, descriptors, and room for more descriptors
	Bitmaps                 //
	Tables                  // inode tables
	JournalLog              // the journal
	Trees                   // directories, extent and indirect blocks, attributes, quota
	Contents                // marked as in use, and none of the above
	Free                    //
	Uninit                  // free, in a group whose bitmap was never written
	Unknown                 // the bitmap lies nowhere or cannot be read, or the device ends before
	Classes                 // how many there are
)

var classNames = [Classes]string{
	"superblock", "bitmaps", "inode tables", "journal", "trees", "contents", "free", "uninitialised", "unknown",
}

func (c Class) String() string {
	if c < Classes {
		return classNames[c]
	}
	return "unknown"
}

// MarshalText returns the name of the class.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// A Map is the device in cells of equal size, in their order.
type Map struct {
	First   uint64          `json:"first"` // block that the first cell begins with
	Size    uint64          `json:"cell"`  // blocks of a cell; the last may have fewer
	Classes [Classes]Class  `json:"classes"`
	Totals  [Classes]uint64 `json:"totals"` // blocks by class
	Cells   []Cell          `json:"cells"`
	Marks   []Mark          `json:"marks"` // ascending by cell
}

// A Cell has the blocks of a part of the device by class.
type Cell [Classes]uint64

// A Mark says that something is wrong in a cell.
type Mark struct {
	Cell  int    `json:"cell"`
	Kind  string `json:"kind"`  // of a Problem, or one of the constants below
	Count uint64 `json:"count"` // of what was kept of this kind in this cell: problems, bytes, blocks
	First string `json:"first"` // the first of these, for people
}

// Kinds of marks and findings that are not kinds of problems.
const (
	KindUnreadable  = "unreadable" // bytes of metadata
	KindMultiple    = "blocks of several files"
	KindMarkedFree  = "blocks in use marked free" // blocks
	KindMarkedUsed  = "free blocks marked in use" // blocks
	KindInodeFree   = "inodes in use marked free"
	KindInodeUsed   = "free inodes marked in use"
	KindCounts      = "free counts" // of groups, that are not those of their bitmaps
	KindSuperCounts = "free counts of the superblock"
	KindChecksum    = "checksums"
	KindBackup      = "backup superblocks"
)

// A Head is the first group of the device in columns of equal size.
type Head struct {
	Size    uint64  `json:"column"`  // blocks of a column
	Columns []Class `json:"columns"` // of each the class that matters most
	Runs    []Strip `json:"runs"`    // the first runs of blocks of one class
}

// A Strip is a run of blocks of one class.
type Strip struct {
	Start uint64 `json:"start"` // block
	Count uint64 `json:"count"` // blocks
	Class Class  `json:"class"`
}

// Sums counts the checksums of one kind of structure.
type Sums struct {
	Kind  string `json:"kind"`
	Right uint64 `json:"right"`
	Wrong uint64 `json:"wrong"`
	First string `json:"first,omitempty"` // the wrong one with the lowest number
}

// A Backup is a copy of the superblock.
type Backup struct {
	Group  uint32   `json:"group"`
	Block  uint64   `json:"block"`
	State  string   `json:"state"` // agrees, differs, empty, unreadable, "no superblock", "wrong checksum"
	Fields []string `json:"fields,omitempty"`
}

const agrees = "agrees"

// Agrees reports whether the copy says what the superblock says that was used.
func (b Backup) Agrees() bool { return b.State == agrees }

// A Log is the state of the journal.
type Log struct {
	Blocks       uint64    `json:"blocks"`
	Transactions uint32    `json:"transactions"` // to be replayed
	FastCommits  uint32    `json:"fast_commits"` // blocks of them, to be replayed
	Replaced     uint64    `json:"replaced"`     // blocks of the filesystem
	Oldest       time.Time `json:"oldest,omitzero"`
	Newest       time.Time `json:"newest,omitzero"`
	Err          string    `json:"error,omitempty"` // why replay would fail
}

// Orphans are inodes that wait for their release.
type Orphans struct {
	List   uint64 `json:"list"`             // on the list that begins in the superblock
	File   uint64 `json:"file"`             // in the orphan file
	Broken bool   `json:"broken,omitempty"` // the list does not end as one should
}

// Shape says how files and free space are spread.
type Shape struct {
	Types      map[string]uint64 `json:"types"` // inodes in use by type
	FreeRuns   *Histogram        `json:"free_runs"`
	Sizes      *Histogram        `json:"sizes"`
	Extents    *Histogram        `json:"extents"`
	Entries    *Histogram        `json:"entries"`
	Depths     *Histogram        `json:"depths"`
	Ages       *Histogram        `json:"ages"`
	Mapped     uint64            `json:"block_mapped"` // regular files without extents, which Extents does not count
	Future     uint64            `json:"future"`       // regular files younger than the reference of Ages
	Reference  time.Time         `json:"reference,omitzero"`
	Inodes     []InodeUse        `json:"inodes"` // by group, or by several
	Sample     uint32            `json:"sample"` // Extents and Entries are of one in so many of the files with trees, and directories
	DepthKnown bool              `json:"depth_known"`
}

// InodeUse says how many inodes of a run of groups are in use.
type InodeUse struct {
	Group uint32 `json:"group"` // the first
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

// A Histogram counts values. Bucket 0 is of the value 0, bucket n of values
// from 2ⁿ⁻¹ up to, but without, 2ⁿ.
type Histogram struct {
	Unit    string    `json:"unit"`
	Count   uint64    `json:"count"`
	Total   uint64    `json:"total"`
	Median  uint64    `json:"median"` // of large values within 12 %
	Largest []Largest `json:"largest"`
	Buckets []uint64  `json:"buckets"` // up to the last that is not 0
}

// Largest is one of the largest values.
type Largest struct {
	Inode uint32 `json:"inode,omitempty"`
	Block uint64 `json:"block,omitempty"`
	Value uint64 `json:"value"`
	Path  string `json:"path,omitempty"` // only where asked for; what is not printable is escaped
}

// Damage is what is wrong.
type Damage struct {
	Findings   []Finding `json:"findings"`
	Unreadable []Lost    `json:"unreadable"` // the first of them
	Ranges     uint64    `json:"unreadable_ranges"`
	Bytes      uint64    `json:"unreadable_bytes"`
	Lost       []LostIn  `json:"unreadable_in"` // by structure
	Unchecked  uint32    `json:"groups_not_compared"`
	Bits       []BitRun  `json:"bitmap_differences"` // the first of them
}

// A Finding is what was found wrong of one kind.
type Finding struct {
	Kind  string `json:"kind"`
	Count uint64 `json:"count"`
	What  string `json:"what"`  // the first of them, with its place
	Fsck  string `json:"fsck"`  // what e2fsck calls it
	Place string `json:"place"` // of the first
}

// Lost is a range of bytes that cannot be read.
type Lost struct {
	Start int64    `json:"start"`
	End   int64    `json:"end"`
	Kinds []string `json:"kinds"` // structures in it
}

// LostIn says how much of a kind of structure cannot be read.
type LostIn struct {
	Kind   string `json:"kind"`
	Blocks uint64 `json:"blocks"` // at least in part
}

// A BitRun is a run of clusters or inodes of which a bitmap says another thing
// than the inodes do.
type BitRun struct {
	Kind  string `json:"kind"`
	Group uint32 `json:"group"`
	Start uint64 `json:"start"` // block or inode
	Count uint64 `json:"count"` // blocks or inodes
}
