package diff

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"e2qcow/ext"
	"e2qcow/scan"
)

// A blockRun is a run of blocks that differ.
type blockRun struct{ start, count uint64 }

// maxRuns bounds the runs that differ, 16 bytes each.
const maxRuns = 1 << 20

// findBlocks finds the blocks that differ: of those that can, and are of a kind
// that is wanted.
func (c *comparison) findBlocks() error {
	bs := int64(c.d.BlockSize)
	next := c.candidates()
	var pending []span
	bytesPending, compared, total := int64(0), int64(0), c.mayDiffer()
	flush := func() error {
		err := c.compareSpans(pending)
		compared += bytesPending
		if c.opt.Progress != nil {
			c.opt.Progress(min(compared, total), total)
		}
		pending, bytesPending = pending[:0], 0
		return err
	}
	for off := int64(0); ; {
		start, end, err := next(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("finding what differs: %w", err)
		}
		if start < off || end <= start {
			return fmt.Errorf("finding what differs: a run of bytes %d to %d behind byte %d", start, end, off)
		}
		start, end = start/bs*bs, end+(bs-end%bs)%bs
		for off = max(start, off); off < end; {
			stop := min(end, off+maxSpan)
			pending = append(pending, span{start: off, end: stop})
			bytesPending += stop - off
			off = stop
			if len(pending) >= 256 || bytesPending >= 64*maxSpan {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := c.ctx.Err(); err != nil {
			return fmt.Errorf("comparing the filesystems: %w", err)
		}
	}
	return flush()
}

// mayDiffer estimates how many bytes findBlocks compares.
func (c *comparison) mayDiffer() int64 {
	a, b := c.side[0], c.side[1]
	switch {
	case c.opt.Changes != nil:
		return 0
	case c.opt.Contents:
		return max(a.size, b.size)
	}
	first, _ := a.res.ReadBytes()
	second, _ := b.res.ReadBytes()
	return max(first, second)
}

// maxSpan is how many bytes are compared at once.
const maxSpan = 1 << 20

// A span is a part of both images that may differ.
type span struct {
	start, end int64
	runs       []blockRun
}

// compareSpans compares spans, some at once, and keeps what differs in order.
func (c *comparison) compareSpans(spans []span) error {
	var g errgroup.Group
	g.SetLimit(max(1, c.threads()))
	for i := range spans {
		g.Go(func() error {
			c.compareSpan(&spans[i])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range spans {
		for _, r := range spans[i].runs {
			c.addRun(r)
		}
	}
	return nil
}

func (c *comparison) threads() int {
	if n := c.opt.Scan.Threads; n > 0 {
		return min(n, 16)
	}
	return 2
}

// addRun keeps a run of blocks that differ.
func (c *comparison) addRun(r blockRun) {
	if n := len(c.runs); n > 0 && c.runs[n-1].start+c.runs[n-1].count == r.start {
		c.runs[n-1].count += r.count
		return
	}
	if len(c.runs) == maxRuns {
		c.d.Omitted["blocks"] += r.count
		return
	}
	c.runs = append(c.runs, r)
}

// compareSpan finds the blocks of a span that differ: by their sums where there
// are any, else by reading.
func (c *comparison) compareSpan(s *span) {
	bs := int64(c.d.BlockSize)
	add := func(off int64) {
		block := uint64(off / bs)
		if n := len(s.runs); n > 0 && s.runs[n-1].start+s.runs[n-1].count == block {
			s.runs[n-1].count++
			return
		}
		s.runs = append(s.runs, blockRun{block, 1})
	}
	for off := s.start; off < s.end; {
		if n := equalPage(c.side[0].sums, c.side[1].sums, off); n > 0 && n%bs == 0 {
			off += n
			continue
		}
		equal, known := compareSums(c.side[0].sums, c.side[1].sums, off, off+bs)
		if known {
			if !equal {
				add(off)
			}
			off += bs
			continue
		}
		end := off + bs
		for end < s.end {
			if _, known := compareSums(c.side[0].sums, c.side[1].sums, end, end+bs); known {
				break
			}
			end += bs
		}
		c.compareBytes(off, end, add)
		off = end
	}
}

// compareBytes reads a part of both images and calls add with each block that
// differs.
func (c *comparison) compareBytes(start, end int64, add func(off int64)) {
	bs := int64(c.d.BlockSize)
	a, b := make([]byte, end-start), make([]byte, end-start)
	c.side[0].read(a, start)
	c.side[1].read(b, start)
	if bytes.Equal(a, b) {
		return
	}
	for at := int64(0); at < int64(len(a)); at += bs {
		if !bytes.Equal(a[at:at+bs], b[at:at+bs]) {
			add(start + at)
		}
	}
}

// parseBlocks goes through the blocks that differ, and has each decoded by what
// it is on either side.
func (c *comparison) parseBlocks() error {
	bs := uint64(c.d.BlockSize)
	most := max(1, maxSpan/bs)
	var bufs [2][]byte
	for i := range bufs {
		bufs[i] = make([]byte, most*bs)
	}
	for _, run := range c.runs {
		for start, left := run.start, run.count; left > 0; {
			n := min(left, most)
			for i, s := range c.side {
				s.read(bufs[i][:n*bs], int64(start*bs))
			}
			for k := range n {
				c.parseBlock(start+k, bufs[0][k*bs:(k+1)*bs:(k+1)*bs], bufs[1][k*bs:(k+1)*bs:(k+1)*bs])
			}
			start, left = start+n, left-n
			if err := c.ctx.Err(); err != nil {
				return fmt.Errorf("comparing the filesystems: %w", err)
			}
		}
	}
	return nil
}

// A pair is a block as both images have it, and what it is there.
type pair struct {
	block uint64
	data  [2][]byte
	kinds [2]kindSet
}

// either tells whether the block is of a kind on one of the sides.
func (p *pair) either(kind scan.Kind) bool { return (p.kinds[0] | p.kinds[1]).has(kind) }

// slackKinds are the kinds whose blocks may end in what is nobody's: an image of
// the metadata has zeros there.
const slackKinds kindSet = 1<<scan.Superblock | 1<<scan.InodeTable | 1<<scan.Symlink | 1<<scan.EncryptedSymlink | 1<<scan.XattrValue

// parseBlock takes in a block that differs.
func (c *comparison) parseBlock(block uint64, a, b []byte) {
	p := &pair{block, [2][]byte{a, b}, [2]kindSet{c.side[0].kinds(block), c.side[1].kinds(block)}}
	if c.opt.Changes == nil && !c.opt.Contents && p.kinds[0]&p.kinds[1]&slackKinds != 0 {
		for i, s := range c.side {
			_, _ = s.res.View().ReadAt(p.data[i], int64(block)*int64(len(p.data[i]))) // what it lacks is zero
		}
		if bytes.Equal(p.data[0], p.data[1]) {
			return
		}
	}
	c.countBlock(p)
	if p.either(scan.Superblock) {
		c.superblock(p)
	}
	if p.either(scan.GroupDescs) {
		c.descriptors(p)
	}
	if p.either(scan.BlockBitmap) || p.either(scan.InodeBitmap) {
		c.bitmapBlocks[block] = true
	}
	if p.either(scan.InodeTable) {
		c.inodeTable(p)
	}
	if p.either(scan.Mmp) {
		c.d.MMP = append(c.d.MMP, compareFields(ext.MMPFields, p.data[0], p.data[1], "")...)
	}
	if p.either(scan.ExtentNode) || p.either(scan.IndirectBlock) {
		c.node(p)
	}
	if p.either(scan.Directory) {
		c.directory(p)
	}
	if p.either(scan.Symlink) || p.either(scan.EncryptedSymlink) {
		c.symlink(p)
	}
	if p.either(scan.Xattr) {
		c.attributeBlock(p)
	}
	c.quota = c.quota || p.either(scan.Quota)
	c.orphans = c.orphans || p.either(scan.OrphanFile)
}

// countBlock lists a block that differs.
func (c *comparison) countBlock(p *pair) {
	before, after := p.kinds[0].first(), p.kinds[1].first()
	c.d.Blocks++
	c.d.Kinds[cmp.Or(after, before, noKind)]++
	if n := len(c.d.Runs); n > 0 {
		last := &c.d.Runs[n-1]
		if last.Start+last.Count == p.block && last.Before == before && last.After == after {
			last.Count++
			return
		}
	}
	if c.room("runs", 1) {
		c.d.Runs = append(c.d.Runs, Run{p.block, 1, before, after})
	}
}

// noKind is what a block is called that is no metadata on either side.
const noKind = "no known kind"
