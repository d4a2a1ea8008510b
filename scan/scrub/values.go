package scrub

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"e2qcow/ext"
	"e2qcow/scan"
)

// maxValue is the size in bytes of the largest value that is read: that of the
// largest that a scan takes.
const maxValue = 1 << 24

// sparseValues is how many bytes of values are read beyond what values have of
// blocks.
const sparseValues = 64 << 20

// sparseExtents is how many extents of values are followed beyond what values
// have of blocks.
const sparseExtents = 1 << 16

// valueNodes returns how many nodes the extent tree of a value may have, if each
// is half full.
func valueNodes(size uint64, blockSize int) int {
	const least, header, extent = 8, 12, 12
	return least + 2*int(size/uint64(blockSize))/((blockSize-header)/extent)
}

// readValues reads the values of attributes that have inodes of their own, for
// their words and for how their hashes change. A value is drawn block by block.
// No two values have a block in common and none has holes, unless damaged: of
// such no more is read, and no more extents are followed, than twice what there
// can be.
func (s *scrubber) readValues(ctx context.Context, res *scan.Result) error {
	s.values = valueHashes{}
	d := s.keys.get()
	defer s.keys.put(d)
	old, block := make([]byte, s.blockSize), make([]byte, s.blockSize)
	left := 2*s.m.Blocks(scan.XattrValue)*uint64(s.blockSize) + sparseValues
	extents := int(2*s.m.Blocks(scan.XattrValue)) + sparseExtents
	for _, ino := range slices.Sorted(maps.Keys(s.index.values)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, r := range res.Readings() {
			in, ok := r.ReadInode(ino)
			if !ok {
				continue
			}
			h := valueHash{stored: le.Uint32(ext.XattrValueHashField(in))}
			if _, known := s.values.of(ino, h.stored); known {
				continue // as in another reading
			}
			if in.Size() > min(maxValue, left) || int(r.Geometry.BlockSize) != s.blockSize {
				if holdsValue(in) {
					h.change = h.stored ^ d.sumOf(h.stored, 0, false)
				}
				s.values[ino] = append(s.values[ino], h)
				continue
			}
			left -= in.Size()
			file := r.MapFile(in, valueNodes(in.Size(), s.blockSize))
			if extents -= len(file); extents < 0 {
				return nil
			}
			before, after := s.readValue(d, &r, in, file, old, block)
			switch {
			case h.stored == before:
				h.change = before ^ after
			case in.Flags()&ext.FlagEaInode != 0 && h.stored != le.Uint32(in[0x0C:]): // else it is a time, as i_ctime is
				h.change = h.stored ^ d.sumOf(h.stored, after, false)
			}
			s.values[ino] = append(s.values[ino], h)
		}
	}
	return nil
}

// readValue reads one value, and returns its hash, as it is and as it will be.
func (s *scrubber) readValue(d *drawer, r *scan.Reading, in ext.Inode, file []ext.Extent, old, block []byte) (before, after uint32) {
	before = r.Super.ChecksumSeed()
	after = before ^ s.seeds.block
	left := in.Size()
	next := uint64(0) // block of the value
	hash := func(old, block []byte) {
		n := min(left, uint64(len(block)))
		before, after = ext.XattrValueHash(before, old[:n]), ext.XattrValueHash(after, block[:n])
		left -= n
		next++
	}
	for _, x := range file {
		for i := range uint64(x.Len) {
			at := uint64(x.Logical) + i
			if at < next || left == 0 {
				continue
			}
			for next < at && left > 0 { // a hole
				clear(block)
				hash(block, block)
			}
			if left == 0 || !s.m.Contains(scan.XattrValue, x.Start+i) {
				continue
			}
			r.ReadBlock(x.Start+i, old)
			s.words.add(old)
			copy(block, old)
			s.block(d, x.Start+i, block)
			hash(old, block)
		}
	}
	for left > 0 {
		clear(block)
		hash(block, block)
	}
	return before, after
}

// readTargets reads the targets of symlinks that have blocks of their own, for
// their words.
func (x *Index) readTargets(ctx context.Context, res *scan.Result) error {
	block := make([]byte, res.BlockSize())
	for run := range res.Map.RunsOf(scan.Symlink) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i := range run.Count {
			if _, err := res.View().ReadAt(block, int64(run.Start+i)*int64(len(block))); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			pathWords(untilNUL(block), x.words.add)
		}
	}
	return nil
}

// noteValues notes the inodes that hold values of attributes.
func (x *Index) noteValues(r ext.XattrReader) {
	for r.Next() {
		if ino := r.Entry().ValueInode; ino != 0 {
			x.mu.Lock()
			x.values[ino] = struct{}{}
			x.mu.Unlock()
		}
	}
}
