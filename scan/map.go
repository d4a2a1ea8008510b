package scan

import (
	"iter"

	"e2qcow/ext"
)

// A Run is a run of blocks of one kind.
type Run struct {
	Start uint64 // first block
	Count uint64 // blocks
	Kind  Kind
}

// A Map contains the blocks of the image, with their kinds. Its size depends on
// the metadata, not on the filesystem: about two bytes for each scattered
// block, and a few bytes for each run.
type Map struct {
	sets [kinds]blockSet

	// ends contains the last blocks of structures that do not fill them.
	ends      []partial
	compacted int // how many there were when none was there twice

	// walked says that the scan has read the journal.
	walked bool
}

// A partial is a block of which only the first bytes belong to the image: the
// last block of an attribute value, or of the used part of an inode table.
type partial struct {
	block uint64
	bytes uint32
	kind  Kind
}

func (m *Map) add(kind Kind, start, n uint64) { m.sets[kind].add(start, n) }

// Contains reports whether a block is in the map as one of the given kind.
func (m *Map) Contains(kind Kind, block uint64) bool { return m.sets[kind].contains(block) }

// Blocks returns how many blocks are in the map as one of the given kind.
func (m *Map) Blocks(kind Kind) uint64 { return m.sets[kind].count() }

// all returns the set of all blocks in the map.
func (m *Map) all() *blockSet {
	var s blockSet
	for k := range m.sets {
		s.union(&m.sets[k])
	}
	return &s
}

// Runs yields the blocks of the map in ascending order. A block of several
// kinds is shown as the first of them.
func (m *Map) Runs() iter.Seq[Run] {
	var all [kinds]Kind
	for k := range all {
		all[k] = Kind(k)
	}
	return m.runs(all[:])
}

// scanned yields the runs of blocks of the kinds that the scan reads to follow
// them. The scan did not read all of these blocks: not unused copies, nor
// claimed blocks that lead nowhere. That only means that the view reads them
// through the page cache.
func (m *Map) scanned() iter.Seq[Run] {
	list := []Kind{Superblock, GroupDescs, InodeTable, ExtentNode, IndirectBlock, Directory, Xattr, OrphanFile, Claimed}
	if m.walked {
		list = append(list, Journal)
	}
	return m.runs(list)
}

// runs yields the blocks of some kinds. The sets are not joined for it, which
// would allocate for each block that lies alone.
func (m *Map) runs(list []Kind) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		cur := make([]cursor, len(list))
		for i, k := range list {
			next, stop := iter.Pull2(m.sets[k].runs())
			defer stop()
			cur[i] = cursor{kind: k, next: next}
			cur[i].advance(0)
		}
		for at := uint64(0); ; {
			run, ok := firstRun(cur, at)
			if !ok || !yield(run) {
				return
			}
			at = run.Start + run.Count
			for k := range cur {
				cur[k].advance(at)
			}
		}
	}
}

// A cursor walks the runs of one kind.
type cursor struct {
	kind       Kind
	next       func() (uint64, uint64, bool)
	start, end uint64
	done       bool
}

// advance goes to the first run that ends behind at.
func (c *cursor) advance(at uint64) {
	for !c.done && c.end <= at {
		var ok bool
		if c.start, c.end, ok = c.next(); !ok {
			c.done = true
		}
	}
}

// firstRun returns the first run at or after at, up to where its kind, or
// whether a kind before it covers the block, changes.
func firstRun(cur []cursor, at uint64) (Run, bool) {
	var run Run
	found := -1
	for k := range cur {
		if c := &cur[k]; !c.done {
			if start := max(c.start, at); found < 0 || start < run.Start {
				run, found = Run{Start: start, Count: c.end - start, Kind: c.kind}, k
			}
		}
	}
	if found < 0 {
		return run, false
	}
	for k := range cur[:found] {
		if c := &cur[k]; !c.done && c.start > run.Start {
			run.Count = min(run.Count, c.start-run.Start)
		}
	}
	return run, true
}

// maxClaimed bounds how many bytes are taken in that only damage makes
// structure.
const maxClaimed = 256 << 20

// boundClaimed drops the last of the blocks that are in the map only as
// Claimed, so that no more than limit remain, and returns how many it dropped.
func (m *Map) boundClaimed(limit uint64) (dropped uint64) {
	var only blockSet
	only.union(&m.sets[Claimed])
	for k := range m.sets {
		if Kind(k) != Claimed {
			only.remove(&m.sets[k])
		}
	}
	if only.count() <= limit {
		return 0
	}
	var keep blockSet
	left := limit
	for start, end := range only.runs() {
		n := min(end-start, left)
		keep.add(start, n)
		dropped += end - start - n
		left -= n
	}
	m.sets[Claimed] = keep
	return dropped
}

// addScaled adds a map that counts in blocks as large or larger. What of a
// superblock's block is slack stays out; other blocks with slack come whole.
func (m *Map) addScaled(from *Map, fromSize, toSize uint32) {
	ratio := uint64(fromSize / toSize)
	m.walked = m.walked || from.walked
	for k := range from.sets {
		if ratio == 1 {
			m.sets[k].union(&from.sets[k])
			continue
		}
		for start, end := range from.sets[k].runs() {
			switch Kind(k) {
			case Superblock:
				for ; start < end; start++ {
					used := uint64(ext.SuperblockSize)
					if start == 0 {
						used += ext.SuperblockOffset
					}
					m.add(Superblock, start*ratio, min(ratio, (used+uint64(toSize)-1)/uint64(toSize)))
				}
			case Symlink, EncryptedSymlink:
				m.add(Claimed, start*ratio, (end-start)*ratio)
			default:
				m.add(Kind(k), start*ratio, (end-start)*ratio)
			}
		}
	}
	for _, e := range from.ends {
		whole := uint64(e.bytes / toSize)
		m.add(e.kind, e.block*ratio, whole)
		if rest := e.bytes % toSize; rest > 0 {
			m.ends = append(m.ends, partial{e.block*ratio + whole, rest, e.kind})
		}
	}
}

// RunsOf yields the runs of blocks that are in the map as one of a kind.
func (m *Map) RunsOf(kind Kind) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for start, end := range m.sets[kind].runs() {
			if !yield(Run{start, end - start, kind}) {
				return
			}
		}
	}
}
