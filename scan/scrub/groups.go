package scrub

import (
	"cmp"
	"math/bits"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// descFields is struct ext4_group_desc. Where descriptors have 32 bytes, it ends
// there.
var descFields = newStructure("group descriptor", 64, []field{
	{0x00, 4, "bg_block_bitmap_lo", bounded, possibleBlock},
	{0x04, 4, "bg_inode_bitmap_lo", bounded, possibleBlock},
	{0x08, 4, "bg_inode_table_lo", bounded, possibleBlock},
	{0x0C, 2, "bg_free_blocks_count_lo", bounded, possibleClusters},
	{0x0E, 2, "bg_free_inodes_count_lo", bounded, possibleInodes},
	{0x10, 2, "bg_used_dirs_count_lo", bounded, possibleInodes},
	{0x12, 2, "bg_flags", bounded, func(_ *limits, v uint64) bool { return v < 8 }},
	{0x18, 2, "bg_block_bitmap_csum_lo", number, nil},
	{0x1A, 2, "bg_inode_bitmap_csum_lo", number, nil},
	{0x1C, 2, "bg_itable_unused_lo", bounded, possibleInodes},
	{0x1E, 2, "bg_checksum", checksum, nil},
	{0x20, 4, "bg_block_bitmap_hi", number, nil},
	{0x24, 4, "bg_inode_bitmap_hi", number, nil},
	{0x28, 4, "bg_inode_table_hi", number, nil},
	{0x2C, 2, "bg_free_blocks_count_hi", number, nil},
	{0x2E, 2, "bg_free_inodes_count_hi", number, nil},
	{0x30, 2, "bg_used_dirs_count_hi", number, nil},
	{0x32, 2, "bg_itable_unused_hi", number, nil},
	{0x38, 2, "bg_block_bitmap_csum_hi", number, nil},
	{0x3A, 2, "bg_inode_bitmap_csum_hi", number, nil},
})

func possibleClusters(l *limits, v uint64) bool { return v <= l.groupClusters }
func possibleInodes(l *limits, v uint64) bool   { return v <= l.groupInodes }

// Where the checksums of bitmaps are in a descriptor.
var bitmapSums = [...]int{0x18, 0x1A, 0x38, 0x3A}

// maxDescFlaws is how many fields of a descriptor may be impossible: of one
// that contents lie over, more are.
const maxDescFlaws = 2

// descriptors scrubs block n of a group descriptor table. Behind the last
// group is nothing.
func (s *scrubber) descriptors(d *drawer, n uint64, block []byte) {
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	for i := range s.readings {
		r := &s.readings[i]
		if int(r.Geometry.BlockSize) != s.blockSize {
			continue
		}
		first, ok := descGroup(r.Geometry, n)
		if !ok {
			continue
		}
		size := int(r.Geometry.DescSize)
		for g := first; g < r.Geometry.GroupCount && len(old) >= size; g++ {
			s.descriptor(d, r, g, block[:size], old[:size])
			block, old = block[size:], old[size:]
		}
		return
	}
}

// trueDescs tells whether the first descriptor in a block is one.
func (s *scrubber) trueDescs(n uint64, block []byte) bool {
	for i := range s.readings {
		r := &s.readings[i]
		if int(r.Geometry.BlockSize) != s.blockSize {
			continue
		}
		if g, ok := descGroup(r.Geometry, n); ok {
			desc := block[:r.Geometry.DescSize]
			if r.Super.HasDescChecksums() {
				return r.Super.DescChecksumOK(g, desc)
			}
			return !allZero(desc) && descFields.flaws(&s.lim, desc) == 0
		}
	}
	return false
}

// descGroup returns the first group that the descriptors in a block are of.
func descGroup(geo *ext.Geometry, n uint64) (uint32, bool) {
	if geo.GroupCount == 0 {
		return 0, false
	}
	per := geo.DescsPerBlock()
	g := geo.GroupOf(n)
	if g >= geo.GroupCount {
		return 0, false
	}
	if linear := geo.LinearDescBlocks(); linear > 0 && geo.HasSuper(g) {
		if first := geo.DescBlock(g, 0); n >= first && n-first < uint64(linear) {
			return uint32(n-first) * per, true
		}
	}
	i := g / per
	return i * per, geo.MetaBg(i) && slices.Contains(geo.MetaDescCopies(i), n)
}

// descriptor scrubs the descriptor of a group.
func (s *scrubber) descriptor(d *drawer, r *scan.Reading, g uint32, desc, old []byte) {
	if allZero(old) {
		return
	}
	right := r.Super.HasDescChecksums() && r.Super.DescChecksumOK(g, old)
	how := genuine
	if !right {
		how = plausible
		flaws := descFields.flaws(&s.lim, old)
		for _, at := range [...]int{0x20, 0x24, 0x28} {
			if at+4 <= len(old) && uint64(le.Uint32(old[at:])) > s.lim.blocks>>32 {
				flaws++
			}
		}
		if flaws > maxDescFlaws {
			how = garbage
		}
	}
	descFields.write(d, &s.lim, desc, old, how)
	sums := r.Super.HasRoCompat(ext.RoCompatMetadataCsum)
	if sums && how != garbage {
		ext.AdjustGroupDesc(desc, s.blockBitmap, s.inodeBitmap)
	} else if !sums {
		for _, at := range bitmapSums { // stale ones
			if at+2 <= len(desc) {
				le.PutUint16(desc[at:], uint16(d.noise(uint64(le.Uint16(old[at:])), 2, nil)))
			}
		}
	}
	field := descChecksum.in(desc)
	var is uint16
	if r.Super.HasRoCompat(ext.RoCompatGdtCsum) && !sums {
		uuid := r.Super.UUID()
		if s.seeds.uuid {
			d.uuid(uuid[:])
		}
		is = ext.GroupDescChecksum16(uuid[:], g, desc)
	} else {
		is = ext.GroupDescChecksum(r.Super.ChecksumSeed()^s.seeds.block, g, desc)
	}
	le.PutUint16(field, uint16(d.sumOf(uint32(le.Uint16(descChecksum.in(old))), uint32(is), right)))
}

// A bitmap is what a descriptor says of one.
type bitmap struct {
	block uint64
	sum   uint32 // its checksum
	free  uint32 // bits that are zero
	bits  uint32 // in use
	wide  bool   // the upper half of the checksum is stored
	seed  uint32 // of the checksum
	sums  bool   // it has one
	first uint64 // the block that its first bit is for; 0 where bits are for something else
}

// readGroups reads what the descriptors of all readings say of bitmaps.
func (s *scrubber) readGroups() {
	block := make([]byte, s.blockSize)
	for i := range s.readings {
		r := &s.readings[i]
		geo := r.Geometry
		if int(geo.BlockSize) != s.blockSize || geo.GroupCount == 0 {
			continue
		}
		groups := uint32(min(uint64(geo.GroupCount), (s.deviceBlocks+uint64(geo.BlocksPerGroup)-1)/uint64(geo.BlocksPerGroup)))
		for g := range groups {
			at := g % geo.DescsPerBlock() * geo.DescSize
			if at == 0 {
				r.ReadBlock(r.DescBlock(g/geo.DescsPerBlock()), block)
			}
			s.addBitmaps(r, g, block[at:at+geo.DescSize])
		}
	}
	slices.SortStableFunc(s.bitmaps, func(a, b bitmap) int { return cmp.Compare(a.block, b.block) })
}

func (s *scrubber) addBitmaps(r *scan.Reading, g uint32, desc ext.GroupDesc) {
	geo := r.Geometry
	wide := len(desc) >= descFields.size
	half := func(lo, hi int) (v uint32) {
		v = uint32(le.Uint16(desc[lo:]))
		if wide {
			v |= uint32(le.Uint16(desc[hi:])) << 16
		}
		return v
	}
	b := bitmap{wide: wide, seed: r.Super.ChecksumSeed(), sums: r.Super.HasRoCompat(ext.RoCompatMetadataCsum)}
	if n := desc.BlockBitmap(); s.m.Contains(scan.BlockBitmap, n) {
		b.block, b.sum, b.free, b.bits = n, half(0x18, 0x38), half(0x0C, 0x2C), geo.ClustersPerGroup()
		if b.first = 0; geo.ClusterSize == geo.BlockSize {
			b.first = geo.GroupFirstBlock(g)
		}
		s.bitmaps = append(s.bitmaps, b)
	}
	if n := desc.InodeBitmap(); s.m.Contains(scan.InodeBitmap, n) {
		b.block, b.sum, b.free, b.bits, b.first = n, half(0x1A, 0x3A), half(0x0E, 0x2E), geo.InodesPerGroup, 0
		s.bitmaps = append(s.bitmaps, b)
	}
}

// trueBitmap tells whether a block is the bitmap that a descriptor speaks of, by
// its checksum or by the count of zeros in it, and how many bytes of it that are.
// Where neither tells, as there are no checksums, or as descriptors and bitmaps
// are of different times before a recovery, the metadata in the group does.
func (s *scrubber) trueBitmap(n uint64, data []byte) (length int, ok bool) {
	i, _ := slices.BinarySearchFunc(s.bitmaps, n, func(b bitmap, n uint64) int { return cmp.Compare(b.block, n) })
	for ; i < len(s.bitmaps) && s.bitmaps[i].block == n; i++ {
		b := &s.bitmaps[i]
		used := data[:min(int(b.bits/8), len(data))]
		if sum := ext.CRC32C(b.seed, used); b.sums && uint16(sum) == uint16(b.sum) && (!b.wide || sum == b.sum) {
			return len(used), true
		}
		zeros := uint32(0)
		for _, c := range used {
			zeros += uint32(8 - bits.OnesCount8(c))
		}
		if zeros == b.free || (!b.sums || len(s.readings) > 1) && s.marksMetadata(b, used) {
			return len(used), true
		}
	}
	return 0, false
}

// Of so many blocks of metadata in a group, a bitmap has to have all but every
// missedOf-th in use. Of contents, half would be.
const (
	fewMetadata = 32
	missedOf    = 8
	maxLooked   = 1 << 12 // blocks that are looked at
)

// marksMetadata tells whether a block bitmap has the metadata of its group in use,
// and no text in it.
func (s *scrubber) marksMetadata(b *bitmap, used []byte) bool {
	if b.first == 0 {
		return false
	}
	for range texts(used) {
		return false
	}
	known, missed := 0, 0
	for i := uint64(0); i < uint64(8*len(used)); i += 1 + uint64(b.bits)/maxLooked {
		holds := func(k scan.Kind) bool { return s.m.Contains(k, b.first+i) }
		if !slices.ContainsFunc(metadataKinds[:], holds) {
			continue
		}
		known++
		if used[i/8]>>(i%8)&1 == 0 {
			missed++
		}
	}
	return known >= fewMetadata && missed*missedOf <= known
}

// metadataKinds are the kinds of blocks that are in use for certain.
var metadataKinds = [...]scan.Kind{scan.InodeTable, scan.Directory, scan.Journal, scan.ExtentNode, scan.IndirectBlock, scan.Xattr, scan.BlockBitmap, scan.InodeBitmap}

// A wrong bitmap is drawn where more than denseBytes of any denseWindow bytes in
// a row are neither all zeros nor all ones: so dense are contents, in UTF-16
// too, while the bits of a bitmap lie in runs.
const (
	denseWindow = 16
	denseBytes  = 4
)

// bitmap scrubs block n, a bitmap. Of one that is not what its descriptor says,
// and of the padding behind any, what is dense becomes noise.
func (s *scrubber) bitmap(d *drawer, n uint64, block []byte) {
	length, _ := s.trueBitmap(n, block)
	block = block[length:]
	mixed := func(c byte) bool { return c != 0 && c != 0xFF }
	d.source = append(d.source[:0], block...)
	old := d.source
	count, done := 0, 0 // mixed bytes in the window; what is behind is drawn or stays
	for i, c := range old {
		if mixed(c) {
			count++
		}
		if i >= denseWindow && mixed(old[i-denseWindow]) {
			count--
		}
		if count <= denseBytes {
			continue
		}
		for at := max(i-denseWindow+1, done, 0); at <= i; at++ {
			if mixed(old[at]) {
				x, _ := d.random(domainNoise, n, uint32(at), 1<<16|uint32(old[at]))
				block[at] = byte(x)
			}
		}
		done = i + 1
		d.replaced = true
	}
}

// A usage is a block bitmap that was read to look a block up.
type usage struct {
	reading int // 1 + its index; 0 is none
	group   uint32
	bitmap  []byte
}

// inUse tells whether the block bitmap of some reading has a block as in use.
func (s *scrubber) inUse(d *drawer, block uint64) bool {
	for i := range s.readings {
		r := &s.readings[i]
		geo := r.Geometry
		if geo.GroupCount == 0 || block < uint64(geo.FirstDataBlock) || block >= geo.BlocksCount || int(geo.BlockSize) != s.blockSize {
			continue
		}
		g := geo.GroupOf(block)
		if d.usage.reading != i+1 || d.usage.group != g {
			s.readUsage(d, i, g)
		}
		bit := (block - geo.GroupFirstBlock(g)) / uint64(geo.ClusterSize/geo.BlockSize)
		if b := d.usage.bitmap; bit/8 < uint64(len(b)) && b[bit/8]>>(bit%8)&1 != 0 {
			return true
		}
	}
	return false
}

// readUsage reads the block bitmap of a group.
func (s *scrubber) readUsage(d *drawer, i int, g uint32) {
	r := &s.readings[i]
	geo := r.Geometry
	u := &d.usage
	u.reading, u.group = i+1, g
	u.bitmap = slices.Grow(u.bitmap[:0], s.blockSize)[:s.blockSize]
	r.ReadBlock(r.DescBlock(g/geo.DescsPerBlock()), u.bitmap)
	desc := ext.GroupDesc(u.bitmap[g%geo.DescsPerBlock()*geo.DescSize:][:geo.DescSize])
	if n := desc.BlockBitmap(); desc.Flags()&ext.BgBlockUninit == 0 || !r.Super.HasDescChecksums() {
		r.ReadBlock(n, u.bitmap)
	} else {
		clear(u.bitmap)
	}
}
