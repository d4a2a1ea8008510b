package scrub

import "e2qcow/ext"

// The seed of the hashes by which directories are indexed is always another:
// with the old one, the order of the leaves of an index would tell of a guess
// whether it may be a name in there.

// hashSeed returns the seed that is drawn in place of another: equal ones stay
// equal. Zeros, which stand for a seed that everybody knows, are replaced too.
func (x *Index) hashSeed(d *drawer, old [4]uint32) (fresh [4]uint32) {
	if x.opt.KeepSeed {
		return old
	}
	var b [16]byte
	for i, w := range old {
		le.PutUint32(b[4*i:], w)
	}
	id := d.sum(domainSeed, b[:])
	for i := range fresh {
		lo, _ := d.random(domainSeed, id, x.seedTry, uint32(i/2))
		fresh[i] = uint32(lo >> (i % 2 * 32))
	}
	if fresh == ([4]uint32{}) {
		fresh[0] = 1
	}
	return fresh
}

// freshVersion returns the hash that the index is to sort words by. The hash
// "legacy" takes no seed, so the order of leaves would tell of a guess where its
// hash is: half_md4 takes its place, which all kernels know.
func (d *directory) freshVersion() ext.DirHash {
	if d.version == ext.DirHashLegacy && !d.kept {
		return ext.DirHashHalfMD4
	}
	return d.version
}

// hashSeedField replaces the seed in a superblock.
func (s *scrubber) hashSeedField(d *drawer, sb *ext.Superblock, b []byte) {
	if sb.HasIncompat(ext.IncompatJournalDev) {
		return // it has no directories
	}
	field := superHashSeed.in(b)
	for i, w := range s.index.hashSeed(d, sb.HashSeed()) {
		le.PutUint32(field[4*i:], w)
	}
}

// maxSeedTries is how many seeds are looked at for a good one.
const maxSeedTries = 256

// chooseSeed takes the first seed that has the name lost+found, which stays,
// about as far into the hashes as its leaf is into the index of the root. With
// another, all leaves before it or behind it would be crowded together.
func (x *Index) chooseSeed() {
	d := x.dirs[ext.RootInode]
	if d == nil || !d.indexed || d.unknown || x.opt.KeepSeed {
		return
	}
	if x.held != nil {
		d = x.gather(d)
	}
	dr := x.keys.get()
	defer x.keys.put(dr)
	var buf []byte
	for _, f := range d.fixed {
		if string(f.name) != lostAndFound {
			continue
		}
		before := 0
		for i := range d.names {
			if d.names[i].hash < f.hash {
				before++
			}
		}
		want := float64(before) / float64(max(len(d.names), 1))
		best, least := uint32(0), 2.0
		for x.seedTry = 0; x.seedTry < maxSeedTries; x.seedTry++ {
			h, _ := hashName(&buf, d.freshVersion(), d.unsigned, d.folds, x.hashSeed(dr, d.seed), f.name)
			off := float64(h)/allHashes - want
			if off = max(off, -off); off < least {
				best, least = x.seedTry, off
			}
			if least < 0.02 {
				break
			}
		}
		x.seedTry = best
		return
	}
}
