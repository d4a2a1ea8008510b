package survey

import (
	"sync"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A visitor gathers what the structures say under one reading.
type visitor struct {
	sb   *ext.Superblock
	geo  *ext.Geometry
	wide bool   // block numbers in inodes have high halves
	sums bool   // metadata_csum
	seed uint32 // of checksums
	ref  int64  // the time from which ages count, in seconds; 0 where it is not known

	seen   *bitsets // inodes that were counted
	claims *bitsets // clusters that files have
	rows   *rows

	counts   bool // a block belongs to one file
	multiple multiple

	parts [parts]part

	incomplete sync.Map // blocks of which a part could not be read
}

// parts is how many locks the counts are spread over. The inodes of a group are
// shown by one worker, so few workers meet.
const parts = 16

// A part has the counts of some of the groups.
type part struct {
	mu      sync.Mutex
	types   [inodeTypes]uint64
	sizes   tally
	extents tally
	ages    tally
	mapped  uint64
	future  uint64
	sums    [summed]sums
}

func newVisitor(sb *ext.Superblock, geo *ext.Geometry) *visitor {
	groups := min(geo.GroupCount, maxGroups)
	v := &visitor{
		sb: sb, geo: geo,
		wide:   sb.HasIncompat(ext.Incompat64bit),
		sums:   sb.HasRoCompat(ext.RoCompatMetadataCsum),
		seed:   sb.ChecksumSeed(),
		seen:   newBitsets(groups, geo.InodesPerGroup),
		claims: newBitsets(groups, geo.ClustersPerGroup()),
		rows:   newRows(maxRows),
		counts: geo.ClusterSize == geo.BlockSize && !sb.HasRoCompat(ext.RoCompatSharedBlocks),
	}
	if t := sb.Status().Written; !t.IsZero() {
		v.ref = t.Unix()
	}
	return v
}

// maxGroups is how many groups are looked at: those of 128 TiB with blocks of
// 4 KiB.
const maxGroups = 1 << 20

// The types of inodes.
const (
	regular = iota
	directory
	symlink
	device
	pipe
	attribute // the value of an extended attribute
	inodeTypes
)

var typeNames = [inodeTypes]string{"regular files", "directories", "symlinks", "devices", "pipes and sockets", "attribute values"}

func typeOf(in ext.Inode) (int, bool) {
	switch in.Type() {
	case ext.ModeRegular:
		if in.Flags()&ext.FlagEaInode != 0 {
			return attribute, true
		}
		return regular, true
	case ext.ModeDir:
		return directory, true
	case ext.ModeSymlink:
		return symlink, true
	case ext.ModeChar, ext.ModeBlock:
		return device, true
	case ext.ModeFIFO, ext.ModeSocket:
		return pipe, true
	}
	return 0, false
}

// Lost notes that a part of a block could not be read.
func (v *visitor) Lost(block uint64) { v.incomplete.Store(block, nil) }

// Inode counts an inode.
func (v *visitor) Inode(ino uint32, in ext.Inode) {
	if !in.Used() || !v.geo.ValidInode(ino) {
		return
	}
	linked := in.LinksCount() > 0
	reserved := ino < v.geo.FirstInode
	if !linked && !reserved { // what waits for its release is looked at in the end
		v.checkInode(ino, in)
		return
	}
	g, index := v.geo.InodePlace(ino)
	if before, _ := v.seen.set(g, uint64(index), uint64(index)+1); before > 0 {
		return
	}
	v.checkInode(ino, in)
	v.claimInode(ino, in)
	if linked && (!reserved || ino == ext.RootInode) {
		v.count(ino, in)
	}
}

// part returns the counts of the group of an inode.
func (v *visitor) part(ino uint32) *part {
	g, _ := v.geo.InodePlace(ino)
	return &v.parts[g%parts]
}

// count counts an inode of a user.
func (v *visitor) count(ino uint32, in ext.Inode) {
	kind, ok := typeOf(in)
	if !ok {
		return
	}
	inline := in.Flags()&ext.FlagInlineData != 0
	tree := in.Flags()&ext.FlagExtents != 0
	node := ext.ExtentNode(in.IBlock())
	deep := tree && !inline && node.Valid() && node.Depth() > 0
	if kind == directory || kind == regular && deep {
		r := row{generation: in.Generation(), dir: kind == directory, file: kind == regular}
		if kind == directory && inline {
			r.parent, _, _ = ext.InlineDirectory(in.IBlock())
			for chain := range in.InlineChains() {
				n, _ := countEntries(chain, int(v.geo.BlockSize))
				r.entries += n
			}
		}
		v.rows.add(ino, r)
	}
	p := v.part(ino)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.types[kind]++
	if kind != regular {
		return
	}
	who := Largest{Inode: ino}
	p.sizes.add(in.Size(), who)
	switch {
	case inline:
	case tree && node.Valid() && !deep:
		_, n := node.Count()
		p.extents.add(uint64(n), who)
	case !tree:
		p.mapped++
	}
	if v.ref == 0 {
		return
	}
	if age := v.ref - in.Modified(); age >= 0 {
		p.ages.add(uint64(age)/secondsPerHour, who)
	} else {
		p.future++
	}
}

const secondsPerHour = 3600

// countEntries counts the entries of a chain, "." and ".." aside, and returns
// what ".." names; 0 where there is none.
func countEntries(chain []byte, blockSize int) (n, parent uint32) {
	r := ext.NewDirReader(chain, blockSize)
	for r.Next() {
		e := r.Entry()
		switch {
		case e.Inode == 0:
		case string(e.Name) == "..":
			parent = e.Inode
		case string(e.Name) != ".":
			n++
		}
	}
	return n, parent
}

// Directory counts the entries of a block.
func (v *visitor) Directory(ino uint32, block uint64, data []byte) {
	entries, parent := countEntries(data, int(v.geo.BlockSize))
	generation, ok := v.rows.grow(ino, 0, entries, parent)
	if v.sums && ok {
		v.sum(ino, sumDirectory, ext.VerifyDirBlock(ext.InodeSeed(v.seed, ino, generation), data), place{ino: ino, block: block})
	}
}

// Extents counts the extents of a node.
func (v *visitor) Extents(ino uint32, block uint64, data []byte) {
	node := ext.ExtentNode(data)
	v.claimNode(node)
	extents := 0
	if node.Depth() == 0 {
		_, extents = node.Count()
	}
	generation, ok := v.rows.grow(ino, uint32(extents), 0, 0)
	if v.sums && ok {
		v.sum(ino, sumExtents, ext.VerifyExtentBlock(ext.InodeSeed(v.seed, ino, generation), data), place{ino: ino, block: block})
	}
}

// Attributes checks a block of attributes.
func (v *visitor) Attributes(block uint64, data []byte) {
	if h, ok := ext.DecodeXattrHeader(data); v.sums && ok && h.Valid() {
		v.sum(0, sumAttributes, ext.VerifyXattrBlock(v.seed, block, data), place{block: block})
	}
}

// Indirect takes in the blocks to which an indirect block points.
func (v *visitor) Indirect(_ uint32, _ uint64, _ bool, data []byte) { v.claimPointers(data) }

// Pointers does nothing: e2fsck does not follow such a block.
func (v *visitor) Pointers(uint64) {}

var _ scan.Visitor = (*visitor)(nil)
