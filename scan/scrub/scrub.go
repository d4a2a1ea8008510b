package scrub

import (
	"bytes"
	"context"
	"fmt"

	"e2qcow/ext"
	"e2qcow/scan"
)

// Options are the choices of scrubbing.
type Options struct {
	// Key is what all words are drawn from. Who has it can tell whether a word
	// stands for a name that he guesses.
	Key [KeySize]byte

	// Strict has also drawn what is ciphertext already: targets of encrypted
	// symlinks, encryption contexts.
	Strict bool

	// UUID has the UUID, the seed of checksums and the salt of passwords drawn too.
	UUID bool

	// KeepSeed leaves the seed of the hashes by which directories are indexed
	// as it is.
	KeepSeed bool

	// Unverified leaves out the search for words that are left.
	Unverified bool

	// Threads is how many workers there are; 0 is runtime.GOMAXPROCS.
	Threads int
}

// A scrubber knows what scrubbing any block of a filesystem takes. It does not
// change once made.
type scrubber struct {
	shape
	seeds
	keys       *keyring
	words      *words
	index      *Index
	strict     bool // what is encrypted is drawn too
	unverified bool

	values   valueHashes
	journals []journalFile

	lim          limits
	sumSeeds     []sumSeed
	readings     []scan.Reading
	bitmaps      []bitmap // by block
	deviceBlocks uint64
	damaged      bool // the scan met damage, or read the filesystem in several ways
	unlinked     bool // there may be inodes without links that are still in use

	m      *scan.Map
	tables []scan.TableRun
	sums   bool // metadata_csum is in use
}

// View returns the image of the metadata that res found, scrubbed. The Index
// is that which the scan was shown to.
func (x *Index) View(ctx context.Context, res *scan.Result) (*View, error) {
	if x.crowded {
		return nil, fmt.Errorf("%w: more than %d", ErrManyDirectories, maxSpecial)
	}
	s := &scrubber{
		keys: x.keys, words: x.words, index: x, strict: x.opt.Strict, unverified: x.opt.Unverified,
		m: res.Map, tables: res.TableRuns(),
	}
	for _, r := range res.Readings() {
		inodes := max(s.inodes, r.Geometry.InodesCount)
		s.shape = shapeOf(r.Super, r.Geometry)
		s.inodes = inodes
		s.lim.blocks = max(s.lim.blocks, r.Geometry.BlocksCount)
		s.lim.groupClusters = max(s.lim.groupClusters, uint64(r.Geometry.ClustersPerGroup()))
		s.lim.groupInodes = max(s.lim.groupInodes, uint64(r.Geometry.InodesPerGroup))
		s.lim.lastWrite = max(s.lim.lastWrite, uint64(le.Uint32(r.Super.Bytes()[0x30:])))
		s.unlinked = s.unlinked || r.Super.LastOrphan() != 0 || r.Super.HasCompat(ext.CompatOrphanFile) || r.Super.NeedsRecovery()
		s.sums = s.sums || r.Super.HasRoCompat(ext.RoCompatMetadataCsum)
	}
	s.blockSize = int(res.BlockSize())
	s.lim.inodes, s.lim.blockSize = uint64(s.inodes), uint64(s.blockSize)
	s.readings = res.Readings()
	s.damaged = len(s.readings) != 1 || len(res.Problems()) > 0
	s.deviceBlocks = uint64(res.View().Size()+int64(s.blockSize)-1) / uint64(s.blockSize)
	s.drawSeeds(res)
	s.readSeeds(res)
	s.readGroups()
	x.sortOwners()
	if !x.many {
		if err := x.rehash(ctx, res); err != nil {
			return nil, err
		}
	}
	if err := s.readValues(ctx, res); err != nil {
		return nil, err
	}
	if err := x.readTargets(ctx, res); err != nil {
		return nil, err
	}
	if err := s.makeRoom(ctx); err != nil {
		return nil, err
	}
	x.words.freeze(res.MetadataBytes())
	if x.many {
		x.hold(res)
	}
	x.chooseSeed()
	placed, err := x.place(ctx, x.opt.Threads)
	if err != nil {
		return nil, err
	}
	x.spread()
	if err := s.readJournals(ctx, res); err != nil {
		return nil, err
	}
	return &View{base: res.View(), s: s, blockSize: int64(s.blockSize), summary: Summary{Placed: placed, Symlinks: x.symlinks.Load()}}, nil
}

// rehash gathers the names of directories once more where the root of an index
// hashes otherwise than was assumed of names shown before it.
func (x *Index) rehash(ctx context.Context, res *scan.Result) error {
	var readings []scan.Reading
	for _, r := range res.Readings() {
		if r.Geometry.BlockSize == res.BlockSize() {
			readings = append(readings, r)
		}
	}
	block, last := make([]byte, res.BlockSize()), make([]byte, res.BlockSize())
	for _, o := range x.owners {
		d := x.dirs[o.ino]
		if d == nil || !d.mixed {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.again {
			d.again, d.unknown, d.names, d.odds, d.bounds = true, false, nil, nil, nil
			d.tiny, d.fixed, d.leaves = nil, nil, nil
		}
		for i := range uint64(o.count) {
			for k := range readings {
				readings[k].ReadBlock(o.start+i, block)
				if k > 0 && bytes.Equal(block, last) {
					continue
				}
				copy(last, block)
				v := &visitor{shape: shapeOf(readings[k].Super, readings[k].Geometry), x: x, sb: readings[k].Super}
				c := v.collector(o.ino)
				c.layout(v).walkBlock(block, c)
				v.finish(c, owner{start: o.start + i, ino: o.ino})
			}
		}
	}
	return nil
}
