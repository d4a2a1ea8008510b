package scan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"e2qcow/ext"
	"e2qcow/internal/zero"
)

// A Patch is what has to be written over a filesystem that was damaged since,
// or came to differ, to give it the metadata of this one: the blocks of the
// map, also those that are zero, but
//
//   - of a block with slack only what is structure, so that on the device what
//     lies beside it stays: the boot sector before the superblock, contents that
//     moved into the rest of a block
//   - no block that is zero where structure cannot be: a copy of the superblock
//     or of descriptors, extent nodes, directories, attributes. The source is an
//     image that was made without them, as e2image makes them
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

// never is the kinds of blocks that are never zero, beside the copies of
// superblock and descriptors.
var never = [kinds]bool{Superblock: true, GroupDescs: true, Mmp: true, ExtentNode: true, Directory: true, Xattr: true, XattrValue: true}

// Patch returns what there is to write. It reads the blocks that cannot be zero.
func (r *Result) Patch(ctx context.Context) (*Patch, error) {
	p := &Patch{view: r.view, lost: r.Unreadable()}
	var absent blockSet
	buf := make([]byte, max(requestSize, r.view.blockSize))
	perRead := uint64(len(buf)) / uint64(r.view.blockSize)
	for run := range r.Map.Runs() {
		if !never[run.Kind] {
			continue
		}
		for run.Count > 0 {
			n := min(run.Count, perRead)
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			if err := p.findAbsent(&absent, r, buf, Run{run.Start, n, run.Kind}); err != nil {
				return nil, err
			}
			run.Start, run.Count = run.Start+n, run.Count-n
		}
	}
	p.absent = absent.count()
	all := r.Map.all()
	all.remove(&absent)
	p.runs = newRunIndex(all.runs())
	return p, nil
}

// findAbsent adds the blocks of a run that are zero, but for the primary
// superblock and its descriptors.
func (p *Patch) findAbsent(absent *blockSet, r *Result, buf []byte, run Run) error {
	bs := uint64(p.view.blockSize)
	b := buf[:run.Count*bs]
	p.view.dev.read(b, int64(run.Start*bs))
	for i := range run.Count {
		if block := run.Start + i; zero.IsZero(b[i*bs:][:bs]) && !r.primary(block) {
			absent.add(block, 1)
		}
	}
	return nil
}

// primary tells whether a block holds the primary superblock, or descriptors
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

// readable cuts what could not be read from [start, end). What is left may be
// empty and then ends where a search goes on.
func (p *Patch) readable(start, end int64) (int64, int64) {
	for _, l := range p.lost {
		switch {
		case l.End <= start:
		case l.Start > start:
			return start, min(end, l.Start)
		default:
			start = min(l.End, end)
		}
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
	switch {
	case n == len(b):
		return n, end
	case err == nil || errors.Is(err, io.EOF):
		return n, fmt.Errorf("read at %d: %w", off+int64(n), io.ErrUnexpectedEOF)
	}
	return n, err
}
