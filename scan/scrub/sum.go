package scrub

import (
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A checksum of the source that is right stays right. One that is wrong
// becomes wrong by a drawn difference: what it differed by would tell the
// checksum of what was there, and so confirm guesses. Zero stays zero, as it
// stands for none.

// A sumSeed is what the checksums of a reading begin with, before and after.
type sumSeed struct{ old, fresh uint32 }

// readSeeds gathers what the checksums of the readings begin with.
func (s *scrubber) readSeeds(res *scan.Result) {
	for _, r := range res.Readings() {
		old := r.Super.ChecksumSeed()
		if x := (sumSeed{old, old ^ s.seeds.block}); !slices.Contains(s.sumSeeds, x) {
			s.sumSeeds = append(s.sumSeeds, x)
		}
	}
}

// sumOf returns what takes the place of a checksum. right tells whether the
// stored one is, is what the right one will be.
func (d *drawer) sumOf(stored, is uint32, right bool) uint32 {
	switch {
	case right:
		return is
	case stored == 0:
		return 0
	}
	for try := uint32(0); ; try++ {
		lo, _ := d.random(domainSum, uint64(stored)<<32|uint64(is), try, 0)
		// Both halves are wrong, as some checksums are stored cut to one.
		if wrong := is ^ uint32(lo); uint16(lo) != 0 && uint32(lo)>>16 != 0 && uint16(wrong) != 0 && wrong>>16 != 0 {
			return wrong
		}
	}
}

// inodeSum finds out whether the checksum of an inode is right, and what the
// new one begins with.
func (s *scrubber) inodeSum(ino uint32, in ext.Inode) (fresh uint32, right bool) {
	for _, x := range s.sumSeeds {
		if ext.VerifyInode(x.old, ino, in) {
			return x.fresh, true
		}
	}
	if len(s.sumSeeds) > 0 {
		fresh = s.sumSeeds[0].fresh
	}
	return fresh, false
}
