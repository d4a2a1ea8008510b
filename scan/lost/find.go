package lost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"e2qcow/ext"
	"e2qcow/internal/ranges"
	"e2qcow/scan"
)

// ErrNoTables says that a scan found no inode tables to go by, or did not keep
// them.
var ErrNoTables = errors.New("the scan found no inode tables")

// The bounds of a report. A file takes about 230 bytes.
const (
	maxFiles  = 1 << 20
	maxRanges = 1 << 22 // that are looked at: of those behind, only bytes are counted
)

// Find returns the files that have something in the lost ranges: bytes of the
// disk, ascending and disjoint. res is a scan with Options.Reread. It returns
// ErrNoTables, or an error when ctx ends.
func Find(ctx context.Context, res *scan.Result, lost []scan.Range) (*Report, error) {
	if len(lost) == 0 {
		return &Report{}, nil
	}
	f, err := newFinder(ctx, res, lost)
	if err != nil {
		return nil, err
	}
	err = f.findLostInodes()
	if err == nil {
		err = f.eachInode(f.inode)
	}
	if err == nil {
		err = f.drain()
	}
	if err == nil {
		err = f.findNames()
	}
	if err != nil {
		return nil, fmt.Errorf("finding the files that are hit: %w", err)
	}
	return f.report(), nil
}

// A finder is the state of a search under one reading of the filesystem.
type finder struct {
	ctx     context.Context
	res     *scan.Result
	reading *scan.Reading
	geo     *ext.Geometry
	bs      uint64 // bytes of a block
	wide    bool   // block numbers have high halves
	lost    []scan.Range
	sums    []int64 // of the bytes in the lost ranges before each
	tables  []scan.TableRun

	files      map[uint32]*File
	lostInodes []ranges.Range[uint64] // whose place in a table is lost, or not known; ascending
	dirs       *roaring.Bitmap        // directories
	looks      int                    // at lost ranges
	omitted    int
	cut        bool
	unknown    uint64 // lost inodes whose bitmap is lost
	nodesLeft  int
	pending    []node
	buf        []byte // of maxWindow bytes
	links      links
}

func newFinder(ctx context.Context, res *scan.Result, lost []scan.Range) (*finder, error) {
	f := &finder{ctx: ctx, res: res, files: make(map[uint32]*File), dirs: roaring.New()}
	for i, r := range res.Readings() {
		if r.Super == res.Super() {
			f.reading = &res.Readings()[i]
			break
		}
	}
	if f.reading == nil {
		return nil, ErrNoTables
	}
	f.geo = f.reading.Geometry
	f.bs = uint64(f.geo.BlockSize)
	f.wide = f.reading.Super.HasIncompat(ext.Incompat64bit)
	f.tables = slices.SortedStableFunc(f.reading.Tables(), func(a, b scan.TableRun) int { return cmp.Compare(a.Start, b.Start) })
	if len(f.tables) == 0 {
		return nil, ErrNoTables
	}
	end := int64(min(f.geo.BlocksCount, math.MaxInt64/f.bs) * f.bs)
	for _, r := range lost {
		f.lost = ranges.Append(f.lost, max(r.Start, 0), min(r.End, end))
	}
	f.sums = make([]int64, len(f.lost)+1)
	for i, r := range f.lost {
		f.sums[i+1] = f.sums[i] + r.End - r.Start
	}
	f.nodesLeft = f.mostNodes()
	return f, nil
}

// mostNodes returns how many nodes of trees are followed: a sound tree has each
// node once.
func (f *finder) mostNodes() int {
	const few = 1 << 12
	return few + int(min(2*(f.res.Map.Blocks(scan.ExtentNode)+f.res.Map.Blocks(scan.IndirectBlock)), math.MaxInt32))
}

// lostBefore returns how many bytes of the disk before off are lost.
func (f *finder) lostBefore(off uint64) int64 {
	i := ranges.Find(f.lost, int64(off))
	n := f.sums[i]
	if i < len(f.lost) && f.lost[i].Start < int64(off) {
		n += int64(off) - f.lost[i].Start
	}
	return n
}

// isLost reports whether one of n bytes of the disk from off is lost.
func (f *finder) isLost(off, n uint64) bool {
	i := ranges.Find(f.lost, int64(off))
	return i < len(f.lost) && f.lost[i].Start < int64(off+n)
}

// maxWindow is how many bytes are read at once.
const maxWindow = 1 << 20

// eachInode calls visit with the inodes of the tables that the scan has read, but
// for those that are lost.
func (f *finder) eachInode(visit func(ino uint32, in ext.Inode)) error {
	ratio := f.bs / uint64(f.res.BlockSize())
	window := max(maxWindow/f.bs, 1)
	buf := make([]byte, window*f.bs)
	next := uint64(0)
	for run := range f.res.Map.RunsOf(scan.InodeTable) {
		block, end := max(run.Start/ratio, next), (run.Start+run.Count+ratio-1)/ratio
		for block < end {
			if err := f.ctx.Err(); err != nil {
				return err
			}
			n := min(end-block, window)
			part := buf[:n*f.bs]
			f.reading.ReadBlocks(block, part)
			for i := range n {
				f.tableBlock(block+i, part[i*f.bs:(i+1)*f.bs], visit)
			}
			if len(f.pending) >= maxPending {
				if err := f.drain(); err != nil {
					return err
				}
			}
			block += n
		}
		next = max(next, end)
	}
	return nil
}

// tableBlock does for a block of the tables what eachInode does.
func (f *finder) tableBlock(block uint64, data []byte, visit func(ino uint32, in ext.Inode)) {
	i, found := slices.BinarySearchFunc(f.tables, block, func(t scan.TableRun, b uint64) int { return cmp.Compare(t.Start, b) })
	if !found {
		i--
	}
	if i < 0 || block-f.tables[i].Start >= f.tables[i].Count {
		return // of another reading
	}
	t, size := f.tables[i], uint64(f.geo.InodeSize)
	first := uint64(t.First) + (block-t.Start)*uint64(f.geo.InodesPerBlock())
	hit := f.isLost(block*f.bs, f.bs)
	for k := range uint64(f.geo.InodesPerBlock()) {
		ino := first + k
		if ino > math.MaxUint32 || !f.geo.ValidInode(uint32(ino)) {
			return
		}
		if hit && f.isLost(block*f.bs+k*size, size) {
			continue
		}
		visit(uint32(ino), ext.Inode(data[k*size:(k+1)*size:(k+1)*size]))
	}
}

// flagVerity is EXT4_VERITY_FL: the file goes on behind its size.
const flagVerity = 0x00100000

// inode looks for the lost parts of the file of an inode.
func (f *finder) inode(ino uint32, in ext.Inode) {
	if in.LinksCount() == 0 || ino == ext.BadInode {
		return
	}
	if in.Type() == ext.ModeDir {
		f.dirs.Add(ino)
	}
	t := &tree{ino: ino, typ: in.Type(), size: in.Size(), leaf: f.contents, miss: f.missNode}
	if acl := in.FileACL(f.wide); acl != 0 && f.geo.ValidBlock(acl) && f.isLost(acl*f.bs, f.bs) {
		f.file(t, Attributes)
	}
	if !f.hasMap(in) {
		return
	}
	if t.end = in.Size(); in.Flags()&flagVerity != 0 || ino == ext.ResizeInode {
		t.end = math.MaxUint64
	}
	f.root(t, in)
}

// hasMap reports whether i_block leads to blocks.
func (f *finder) hasMap(in ext.Inode) bool {
	switch in.Type() {
	case ext.ModeChar, ext.ModeBlock, ext.ModeFIFO, ext.ModeSocket:
		return false
	case ext.ModeSymlink:
		place := in.SymlinkTarget(f.wide, f.geo.ClusterSize)
		return place&ext.TargetInBlock != 0 && (place&ext.TargetInInode == 0 || !in.HasSoundTarget())
	}
	return in.Flags()&(ext.FlagInlineData|ext.FlagExtents) != ext.FlagInlineData
}

// missNode notes that bytes of a file are lost because a part of its tree is.
func (f *finder) missNode(t *tree, from, end uint64) { f.lose(t, Tree, from, end) }

// contents notes which of n blocks of a file are lost. They lie from block start
// on the disk, and from block logical in the file.
func (f *finder) contents(t *tree, logical, start, n uint64) {
	if start >= f.geo.BlocksCount || n > f.geo.BlocksCount-start {
		return // damage: nobody reads blocks there
	}
	at := logical * f.bs
	from, end := start*f.bs, start*f.bs+min(n*f.bs, t.end-min(t.end, at))
	i := ranges.Find(f.lost, int64(from))
	for ; i < len(f.lost) && uint64(f.lost[i].Start) < end && f.looks < maxRanges; i++ {
		f.looks++
		lo, hi := max(uint64(f.lost[i].Start), from), min(uint64(f.lost[i].End), end)
		f.lose(t, 0, at+lo-from, at+hi-from)
		from, at = hi, at+hi-from
	}
	if bytes := f.lostBefore(end) - f.lostBefore(from); bytes > 0 && from < end {
		f.omitted++
		if file := f.file(t, contentsOf(t)); file != nil {
			file.LostBytes += uint64(bytes)
		}
	}
}

// lose notes that bytes of a file are lost, with the parts that are the reason.
func (f *finder) lose(t *tree, parts Parts, from, end uint64) {
	if end = min(end, t.end, math.MaxInt64); from >= end {
		return
	}
	if file := f.file(t, parts|contentsOf(t)); file != nil {
		file.Lost = ranges.Append(file.Lost, int64(from), int64(end))
	}
}

// contentsOf returns what the contents of a file are called.
func contentsOf(t *tree) Parts {
	if t.typ == ext.ModeDir {
		return Entries
	}
	return Contents
}

// file returns the record of a file, with these parts among those that are lost;
// nil if there are too many files.
func (f *finder) file(t *tree, parts Parts) *File {
	file := f.files[t.ino]
	if file == nil {
		if len(f.files) >= maxFiles {
			f.omitted++
			return nil
		}
		file = &File{Inode: t.ino, Type: t.typ, Size: t.size}
		f.files[t.ino] = file
	}
	file.Parts |= parts
	return file
}

// report returns what was found.
func (f *finder) report() *Report {
	r := &Report{Files: make([]File, 0, len(f.files)), Cut: f.cut, Unknown: f.unknown}
	paths := f.links.paths()
	for ino, file := range f.files {
		file.Lost = ranges.Join(file.Lost)
		for _, l := range file.Lost {
			file.LostBytes += uint64(l.End - l.Start)
		}
		file.Paths = paths.of(ino)
		r.Files = append(r.Files, *file)
	}
	r.Omitted = f.omitted + f.links.omitted + paths.omitted
	r.sort()
	return r
}
