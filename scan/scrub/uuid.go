package scrub

import (
	"e2qcow/ext"
	"e2qcow/scan"
)

// With Options.UUID the UUID of the filesystem is drawn too, and with it what
// checksums begin with. As these are linear, each
// changes by what the seed changes by, carried over as many bytes as it covers:
// the sum of a block as it was is taken with the seed 0, that of the block as it
// will be with the difference of the seeds.

// seeds is by what changes what checksums begin with; zero where it stays.
type seeds struct {
	uuid        bool   // UUIDs are drawn
	block       uint32 // of what belongs to the filesystem
	inode       uint32 // of what belongs to an inode
	blockBitmap uint32 // the checksum of a block bitmap
	inodeBitmap uint32
}

// drawSeeds finds by what the seeds of a filesystem change.
func (s *scrubber) drawSeeds(res *scan.Result) {
	readings := res.Readings()
	if !s.index.opt.UUID || len(readings) == 0 {
		return
	}
	d := s.keys.get()
	defer s.keys.put(d)
	sb, geo := readings[0].Super, readings[0].Geometry
	fresh := append([]byte(nil), sb.Bytes()...)
	drawIdentity(d, fresh)
	drawn, err := ext.DecodeSuperblock(fresh)
	if err != nil {
		return
	}
	s.seeds.uuid = true
	if !sb.HasRoCompat(ext.RoCompatMetadataCsum) {
		return
	}
	s.seeds.block = sb.ChecksumSeed() ^ drawn.ChecksumSeed()
	s.seeds.inode = ext.InodeSeed(s.seeds.block, 0, 0)
	clusters := geo.BlocksPerGroup / (geo.ClusterSize / geo.BlockSize)
	s.blockBitmap = ext.CRC32C(s.seeds.block, make([]byte, clusters/8))
	s.inodeBitmap = ext.CRC32C(s.seeds.block, make([]byte, geo.InodesPerGroup/8))
}

// drawIdentity draws what tells a filesystem from others, in its superblock.
func drawIdentity(d *drawer, b []byte) {
	d.uuid(superUUID.in(b))
	d.uuid(superJournalUUID.in(b))
	for _, f := range [...]field{superChecksumSeed, superPasswordSalt} {
		if v := f.in(b); !allZero(v) {
			d.fill(v, d.sum(domainUUID, v))
		}
	}
}

// uuid draws a UUID in place of another: equal ones stay equal, none stays
// none, and version and variant stay.
func (d *drawer) uuid(u []byte) {
	if allZero(u) {
		return
	}
	version, variant := u[6]&0xF0, u[8]&0xC0
	d.fill(u, d.sum(domainUUID, u))
	u[6], u[8] = u[6]&0x0F|version, u[8]&0x3F|variant
}
