package scrub

import "e2qcow/ext"

// Of the fast-commit area there is left what decides how a recovery goes: the
// tags up to the last good tail. Where there is none, the tags up to the one
// that ends the scan, which e2fsck reports, without their values.

// fastCommitSums are the checksums of the fast commit that a block begins in, up
// to that block: as it was, and as it is scrubbed.
type fastCommitSums struct{ before, after uint32 }

// fastCommits finds the end of the fast commits, and what their checksums are at
// the beginning of each block.
func (r *journalReader) fastCommits(d *drawer) {
	x := r.index
	first, end := x.jsb.FastCommitArea()
	x.fastFirst, x.fastNext = first, r.recovery.End
	scan := ext.NewFastCommitScan(r.recovery.End)
	for n := first; n < end && r.ctx.Err() == nil; n++ {
		r.load(n, r.before)
		if !scan.Block(r.before, nil) {
			break
		}
	}
	x.fastEnd, x.fastValid = scan.End(), scan.Blocks() > 0
	var sums fastCommitSums
	for n := first; n < end && n-first <= x.fastEnd.Block && r.ctx.Err() == nil; n++ {
		r.load(n, r.before)
		x.fast = append(x.fast, sums)
		sums = x.writeFastCommits(d, r.before, len(r.before), sums)
	}
}

// fastCommit scrubs a block that has no place in the log.
func (x *journalIndex) fastCommit(d *drawer, n uint32, data []byte) {
	if n < x.fastFirst || uint64(n-x.fastFirst) >= uint64(len(x.fast)) {
		clear(data)
		return
	}
	end := len(data)
	if n-x.fastFirst == x.fastEnd.Block {
		end = min(end, x.fastEnd.Offset)
	}
	x.writeFastCommits(d, data, end, x.fast[n-x.fastFirst])
}

// writeFastCommits scrubs a block of fast commits up to an offset. It takes and
// returns the checksums at its beginning and its end.
func (x *journalIndex) writeFastCommits(d *drawer, block []byte, end int, sums fastCommitSums) fastCommitSums {
	d.source = append(d.source[:0], block...)
	old := d.source
	clear(block)
	const head = 4
	for off := 0; off+head <= end; {
		t, ok := ext.DecodeFastCommit(old[off:])
		n := head + len(t.Value)
		if !ok || n > end-off {
			x.lastFastCommit(d, block[off:off+head], old[off:], ok)
			break
		}
		fastCommitFields.write(d, x.scrub.lim, block[off:off+head], old[off:off+head], genuine)
		covered := n
		if t.Type == ext.FastCommitTail {
			covered = head + 4
		}
		sums.before = ext.CRC32C(sums.before, old[off:off+covered])
		x.fastCommitValue(d, &t, block[off+head:off+n])
		sums.after = ext.CRC32C(sums.after, block[off:off+covered])
		if t.Type == ext.FastCommitTail {
			le.PutUint32(block[off+head+4:], d.sumOf(t.Checksum, sums.after, t.Checksum == sums.before))
			sums = fastCommitSums{}
		}
		off += n
	}
	return sums
}

// lastFastCommit writes the head of the tag that ends a scan: it stays one that
// makes no sense, if it is such.
func (x *journalIndex) lastFastCommit(d *drawer, head, old []byte, sense bool) {
	const length = 2
	fastCommitFields.write(d, x.scrub.lim, head[:length], old[:length], plausible)
	switch n := le.Uint16(old[length:]); {
	case !possibleFastCommit(nil, uint64(le.Uint16(old))):
	case !sense && int(n) > len(old)-len(head):
		le.PutUint16(head[length:], 1<<16-1) // as much too long
	default:
		le.PutUint16(head[length:], n)
	}
}

// fastCommitValue scrubs the value of a tag into value, which is zero.
func (x *journalIndex) fastCommitValue(d *drawer, t *ext.FastCommitTag, value []byte) {
	write := func(st *structure) {
		st.write(d, x.scrub.lim, value[:st.size], t.Value[:st.size], plausible)
	}
	switch t.Type {
	case ext.FastCommitHead:
		write(fastCommitHeadFields)
		le.PutUint32(value[4:], x.fastTransaction(d, t.Transaction))
		return
	case ext.FastCommitTail:
		le.PutUint32(value, x.fastTransaction(d, t.Transaction))
		return
	}
	if !x.fastValid {
		return
	}
	switch t.Type {
	case ext.FastCommitAddRange:
		write(fastCommitAddRangeFields)
	case ext.FastCommitDelRange:
		write(fastCommitDelRangeFields)
	case ext.FastCommitCreate, ext.FastCommitLink, ext.FastCommitUnlink:
		write(fastCommitNameFields)
		name := value[fastCommitNameFields.size:]
		copy(name, t.Name)
		x.scrub.name(t.Parent, name)
	case ext.FastCommitInode:
		write(fastCommitInodeFields)
		raw := value[fastCommitInodeFields.size:]
		copy(raw, t.Raw)
		x.scrub.inode(t.Inode, raw)
	}
}

// fastTransaction scrubs the number of the transaction that fast commits are on
// top of. Another than the log's end stays another.
func (x *journalIndex) fastTransaction(d *drawer, n uint32) uint32 {
	if n == x.fastNext {
		return n
	}
	return uint32(d.noise(uint64(n), 4, func(v uint64) bool { return v != uint64(x.fastNext) }))
}
