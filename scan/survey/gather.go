package survey

import (
	"context"
	"errors"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// Watch returns the options of a scan that shows its structures to a survey.
func Watch(opt scan.Options) scan.Options {
	opt.Visit = func(sb *ext.Superblock, geo *ext.Geometry) scan.Visitor { return newVisitor(sb, geo) }
	return opt
}

var errNotWatched = errors.New("survey: the scan had other options than those of Watch")

// Gather returns what there is to say of a filesystem after a scan with the
// options of Watch. It reads bitmaps, descriptors and copies of the superblock;
// what of these cannot be read, Result.Unreadable lists as well. The error is
// that of ctx.
func Gather(ctx context.Context, res *scan.Result) (*Data, error) {
	d := &Data{
		BlockSize:  res.BlockSize(),
		SuperGroup: res.SuperGroup(),
		Backups:    []Backup{},
		Shape:      Shape{Types: map[string]uint64{}, Inodes: []InodeUse{}, Sample: 1},
	}
	readings := res.Readings()
	i := slices.IndexFunc(readings, func(r scan.Reading) bool { return r.Super == res.Super() })
	if i < 0 {
		(&survey{d: d}).judge(res)
		return d, nil
	}
	s := &survey{res: res, bad: res.Unreadable(), now: &readings[i], rd: &readings[i], d: d}
	if i+1 < len(readings) && readings[i+1].Replayed {
		s.rd, d.Replayed = &readings[i+1], true
	}
	var ok bool
	if s.v, ok = s.rd.Visitor().(*visitor); !ok {
		return nil, errNotWatched
	}
	s.sb, s.geo = s.rd.Super, s.rd.Geometry
	s.bs, s.ratio = uint64(s.geo.BlockSize), uint64(s.geo.ClusterSize/s.geo.BlockSize)
	d.BlockSize, d.Blocks, d.Groups = s.geo.BlockSize, s.geo.BlocksCount, s.geo.GroupCount
	d.Written = s.sb.Status().WrittenBytes
	s.log()
	if !s.sb.HasIncompat(ext.IncompatJournalDev) {
		s.orphans()
		if err := s.walkGroups(ctx); err != nil {
			return nil, err
		}
		s.backups()
		s.shape()
	}
	s.checksums()
	s.judge(res)
	return d, nil
}

// A survey is Data in the making.
type survey struct {
	res *scan.Result
	now *scan.Reading // the filesystem as it is
	rd  *scan.Reading // the same, or as replay of the journal would leave it
	v   *visitor      // of rd
	d   *Data

	sb    *ext.Superblock
	geo   *ext.Geometry
	bs    uint64 // bytes of a block
	ratio uint64 // blocks of a cluster

	groups  uint32   // that are looked at
	tables  []uint64 // by group: first block of the inode table; 0 where there is none
	descs   []byte   // buffer
	sums    [summed]sums
	free    tally // runs of free blocks
	found   findings
	marks   map[markKey]*Mark
	bad     []scan.Range    // what could not be read
	waiting map[uint32]bool // orphans
}

// A group is what the descriptor of a group says.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64

	freeClusters, freeInodes uint32
	flags                    uint16 // those that count
	blockSum, inodeSum       uint32 // of the bitmaps
	lost                     bool   // the descriptor cannot be read
}

// shape fills in the histograms.
func (s *survey) shape() {
	shape := &s.d.Shape
	var all part
	for i := range s.v.parts {
		p := &s.v.parts[i]
		for k, n := range p.types {
			all.types[k] += n
		}
		all.sizes.merge(&p.sizes)
		all.extents.merge(&p.extents)
		all.ages.merge(&p.ages)
		all.mapped += p.mapped
		all.future += p.future
	}
	for k, n := range all.types {
		shape.Types[typeNames[k]] = n
	}
	var entries tally
	dirs := uint64(0)
	for ino, r := range s.v.rows.list {
		if r.dir {
			dirs++
			entries.add(uint64(r.entries), Largest{Inode: ino})
		}
		if r.file {
			all.extents.add(uint64(r.extents), Largest{Inode: ino})
		}
	}
	shape.Sample = 1 << s.v.rows.zeros
	shape.DepthKnown = s.v.rows.zeros == 0
	depths := new(tally)
	if shape.DepthKnown {
		depths = s.v.rows.depths()
	}
	shape.FreeRuns = s.free.histogram("blocks")
	shape.Sizes = all.sizes.histogram("bytes")
	shape.Extents = all.extents.histogram("extents")
	shape.Entries = entries.histogram("entries")
	shape.Depths = depths.histogram("directories")
	shape.Ages = all.ages.histogram("hours")
	shape.Mapped, shape.Future = all.mapped, all.future
	if s.v.ref != 0 {
		shape.Reference = s.sb.Status().Written
	}
}

// checksums fills in the counts of checksums.
func (s *survey) checksums() {
	for i := range s.v.parts {
		for k := range s.sums {
			s.sums[k].merge(&s.v.parts[i].sums[k])
		}
	}
	for k, n := range s.sums {
		if n.right+n.wrong == 0 {
			continue
		}
		sum := Sums{Kind: sumNames[k], Right: n.right, Wrong: n.wrong}
		if n.wrong > 0 {
			sum.First = n.first.String()
			s.mark(KindChecksum, n.first, n.wrong, sumNames[k])
		}
		s.d.Sums = append(s.d.Sums, sum)
	}
}
