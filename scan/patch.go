package scan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/buffer"
	"e2qcow/internal/ranges"
	"e2qcow/internal/zero"
)

// A Patch is the data that gives a filesystem, which was damaged or changed
// since, the metadata of this one again: the blocks of the map, also those that
// are zero, except
//
//   - of a block with slack only what is structure, so that on the device what
//     lies beside it stays: the boot sector before the superblock, contents that
//     moved into the rest of a block
//   - nothing that the source lacks: it may be an image that was made without
//     copies, as those of e2image, or of tables only. Of what cannot be zero, no
//     block that is; of a journal, indirect blocks or quota none if all are
//   - nothing that could not be read
//
// Other than a [View] it fails where the source cannot be read. Its methods are
// safe for concurrent use.
type Patch struct {
	view   *View
	runs   *runIndex
	lost   []Range
	absent uint64
}

// Blocks of these kinds are never zero in a complete image. The primary
// superblock and its descriptors are always part of the patch.
var neverZero = [...]Kind{Superblock, GroupDescs, Mmp, ExtentNode, Directory, Symlink, EncryptedSymlink, Xattr, XattrValue, Claimed}

// Of these kinds some blocks may be zero, but not all.
var notAllZero = [...]Kind{Journal, IndirectBlock, Quota, OrphanFile}

// Patch returns the data to write. It reads the blocks that cannot be zero.
func (r *Result) Patch(ctx context.Context) (*Patch, error) {
	p := &Patch{view: r.view}
	var absent blockSet
	for _, kind := range neverZero {
		err := r.eachZero(ctx, kind, func(block uint64, isZero bool) bool {
			if isZero && !r.primary(block) {
				absent.add(block, 1)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	for _, kind := range notAllZero {
		all := true
		err := r.eachZero(ctx, kind, func(_ uint64, isZero bool) bool {
			all = all && isZero
			return all
		})
		if err != nil {
			return nil, err
		}
		if all {
			only := r.only(kind)
			absent.union(&only)
		}
	}
	p.absent = absent.count()
	all := r.Map.all()
	all.remove(&absent)
	p.runs = newRunIndex(all.runs())
	p.lost = r.Unreadable()
	if damage := image.DamageOf(r.dev.r); damage != nil {
		return nil, damage
	}
	return p, nil
}

// only returns the blocks that are of one kind and no other.
func (r *Result) only(kind Kind) blockSet {
	var s blockSet
	s.union(&r.Map.sets[kind])
	for k := range r.Map.sets {
		if Kind(k) != kind {
			s.remove(&r.Map.sets[k])
		}
	}
	return s
}

// eachZero tells visit of each block that is of one kind and no other whether
// it is zero, until that returns false.
func (r *Result) eachZero(ctx context.Context, kind Kind, visit func(block uint64, isZero bool) bool) error {
	only := r.only(kind)
	bs := uint64(r.view.blockSize)
	piece := buffer.New(r.view.Advice().Request)
	defer piece.Free()
	buf := piece.Bytes
	for start, end := range only.runs() {
		for start < end {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n := min(end-start, uint64(len(buf))/bs)
			r.dev.read(buf[:n*bs], int64(start*bs))
			for i := range n {
				if !visit(start+i, zero.IsZero(buf[i*bs:][:bs])) {
					return nil
				}
			}
			start += n
		}
	}
	return nil
}

// primary reports whether a block holds the primary superblock, or descriptors
// that belong to it.
func (r *Result) primary(block uint64) bool {
	bs := uint64(r.view.blockSize)
	if block == ext.SuperblockOffset/bs {
		return true
	}
	if r.super == nil {
		return false
	}
	geo, err := r.super.Geometry()
	if err != nil || uint64(geo.BlockSize) != bs {
		return false
	}
	if n := uint64(geo.LinearDescBlocks()); n > 0 {
		if start := geo.DescBlock(0, 0); block >= start && block-start < n {
			return true
		}
	}
	if i := geo.GroupOf(block) / geo.DescsPerBlock(); geo.MetaBg(i) {
		return block == geo.DescBlock(0, i)
	}
	return false
}

// Absent returns how many blocks the source was found to lack.
func (p *Patch) Absent() uint64 { return p.absent }

// Size returns the size of the image in bytes, as that of a View.
func (p *Patch) Size() int64 { return p.view.size }

// NextRun returns the bounds in bytes of the first run at or after off, to the
// byte; io.EOF where there is none.
func (p *Patch) NextRun(off int64) (start, end int64, err error) {
	v := p.view
	for off < v.size {
		s, e, ok := p.runs.next(uint64(off / v.blockSize))
		if !ok || int64(s)*v.blockSize >= v.size {
			break
		}
		start, end := max(off, int64(s)*v.blockSize), min(v.size, int64(e)*v.blockSize)
		if first, _, ok := v.slack.blocks.next(uint64(start / v.blockSize)); ok {
			slack := max(first, uint64(start/v.blockSize))
			switch at := int64(slack) * v.blockSize; {
			case at > start:
				end = min(end, at)
			default:
				from, to := p.structure(slack)
				start, end = max(start, at+from), min(at+to, end)
				off = at + v.blockSize
			}
		}
		if start, end = p.readable(start, end); start < end {
			return start, end, nil
		}
		off = max(off, end)
	}
	return 0, 0, io.EOF
}

// structure returns which bytes of a block with slack are structure.
func (p *Patch) structure(block uint64) (from, to int64) {
	v := p.view
	b := make([]byte, v.blockSize)
	v.dev.read(b, int64(block)*v.blockSize)
	to = int64(v.slack.used(block, b))
	switch {
	case block == 0 && v.slack.superblocks.contains(0):
		from = ext.SuperblockOffset
	case v.slack.terminated(block) && to < v.blockSize:
		to++ // e2fsck looks for the NUL behind a target
	}
	return from, to
}

// readable returns the first readable part of [start, end). If the part is
// empty, the search continues at its end.
func (p *Patch) readable(start, end int64) (int64, int64) {
	i := ranges.Find(p.lost, start)
	for ; i < len(p.lost) && p.lost[i].Start <= start; i++ {
		start = min(p.lost[i].End, end)
	}
	if i < len(p.lost) {
		end = min(end, max(p.lost[i].Start, start))
	}
	return start, end
}

// ReadAt reads the source as io.ReaderAt does, whether in a run or not.
func (p *Patch) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= p.view.size {
		return 0, io.EOF
	}
	end := error(nil)
	if rest := p.view.size - off; int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	n, err := p.view.dev.r.ReadAt(b, off)
	if n == len(b) {
		return n, end
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read at %d: %w", off+int64(n), err)
}
