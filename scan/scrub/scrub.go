package scrub

import (
	"context"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// Options are the choices of scrubbing.
type Options struct {
	// Key is what all words are drawn from. Who has it can tell whether a word
	// stands for a name that he guesses.
	Key [KeySize]byte

	// Strict has also drawn what is ciphertext already: names in encrypted
	// directories, targets of encrypted symlinks, encryption contexts.
	Strict bool

	// Unverified leaves out the search for words that are left.
	Unverified bool

	// Threads is how many workers there are; 0 is runtime.GOMAXPROCS.
	Threads int
}

// A scrubber knows what scrubbing any block of a filesystem takes. It does not
// change once made.
type scrubber struct {
	keys       *keyring
	words      *words
	strict     bool // what is encrypted is drawn too
	unverified bool
	index      *Index

	values   valueHashes
	journals []journalFile

	m            *scan.Map
	tables       []scan.TableRun
	blockSize    int
	inodes       uint32 // s_inodes_count
	firstInode   uint32 // s_first_ino
	journalInode uint32 // s_journal_inum
	end          uint64 // s_blocks_count
	sums         bool   // metadata_csum is in use
	wide         bool   // block numbers in inodes have high halves
}

// View returns the image of the metadata that res found, scrubbed. The Index
// is that which the scan was shown to.
func (x *Index) View(ctx context.Context, res *scan.Result) (*View, error) {
	s := &scrubber{
		keys: x.keys, words: x.words, strict: x.opt.Strict, unverified: x.opt.Unverified, index: x,
		m: res.Map, tables: res.TableRuns(), blockSize: int(res.BlockSize()),
	}
	for _, r := range res.Readings() {
		s.inodes = max(s.inodes, r.Geometry.InodesCount)
		s.journalInode = r.Super.JournalInode()
		s.firstInode = r.Geometry.FirstInode
		s.end = max(s.end, r.Geometry.BlocksCount)
		s.sums = s.sums || r.Super.HasRoCompat(ext.RoCompatMetadataCsum)
		s.wide = s.wide || r.Super.HasIncompat(ext.Incompat64bit)
	}
	x.sortOwners()
	for _, n := range x.numbers {
		if n.ino != x.lost {
			x.words.add([]byte(n.name))
		}
	}
	x.numbers = nil
	if err := x.rehash(ctx, res); err != nil {
		return nil, err
	}
	if err := s.readValues(ctx, res); err != nil {
		return nil, err
	}
	if err := x.readTargets(ctx, res); err != nil {
		return nil, err
	}
	x.words.freeze(res.MetadataBytes())
	placed, err := x.place(x.opt.Threads)
	if err != nil {
		return nil, err
	}
	x.spread()
	if err := s.readJournals(ctx, res); err != nil {
		return nil, err
	}
	return &View{base: res.View(), s: s, blockSize: int64(s.blockSize), summary: Summary{Placed: placed}}, nil
}

// rehash gathers the names of directories once more that were shown before
// the root of their index was, if that hashes otherwise than most.
func (x *Index) rehash(ctx context.Context, res *scan.Result) error {
	readings := res.Readings()
	if len(readings) == 0 || !slices.ContainsFunc(x.owners, func(o owner) bool { d := x.dirs[o.ino]; return d != nil && d.mixed }) {
		return nil
	}
	v := &visitor{x: x, sb: readings[0].Super, inodes: readings[0].Geometry.InodesCount, blockSize: int(res.BlockSize())}
	block := make([]byte, res.BlockSize())
	for _, o := range x.owners {
		d := x.dirs[o.ino]
		if d == nil || !d.mixed {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.again {
			d.again, d.names, d.odds, d.bounds = true, nil, nil, nil
		}
		for i := range uint64(o.count) {
			if _, err := res.View().ReadAt(block, int64(o.start+i)*int64(len(block))); err != nil {
				return err
			}
			c := v.collector(o.ino)
			c.layout(v).walkBlock(block, c)
			v.finish(c, owner{})
		}
	}
	return nil
}
