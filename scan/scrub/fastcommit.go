package scrub

import "e2qcow/ext"

// Of the fast-commit area there is left what decides how a recovery goes: the
// tags up to the last good tail. Where there is none, the tags up to the one
// that ends the scan, which e2fsck reports, without their values.

// fastCommits finds the end of the fast commits, and what their checksums
// change by.
func (r *journalReader) fastCommits() {
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
	var edit ext.FastCommitEdit
	for n := first; n < end && n-first <= x.fastEnd.Block && r.ctx.Err() == nil; n++ {
		r.load(n, r.before)
		x.fast = append(x.fast, edit)
		edit.Block(r.before, len(r.before), x.fastCommitTag)
	}
}

// fastCommit scrubs a block that has no place in the log.
func (x *journalIndex) fastCommit(n uint32, data []byte) {
	if n < x.fastFirst || uint64(n-x.fastFirst) >= uint64(len(x.fast)) {
		clear(data)
		return
	}
	end := len(data)
	if n-x.fastFirst == x.fastEnd.Block {
		end = min(end, x.fastEnd.Offset)
	}
	edit := x.fast[n-x.fastFirst]
	edit.Block(data, end, x.fastCommitTag)
}

func (x *journalIndex) fastCommitTag(t *ext.FastCommitTag) {
	switch t.Type {
	case ext.FastCommitCreate, ext.FastCommitLink, ext.FastCommitUnlink:
		if x.fastValid {
			x.scrub.name(t.Parent, t.Name)
			return
		}
	case ext.FastCommitInode:
		if x.fastValid {
			x.scrub.inode(t.Inode, t.Raw)
			return
		}
	case ext.FastCommitHead:
		if t.Features != 0 {
			clear(t.Value[4:]) // what ends the scan
		}
		return
	case ext.FastCommitTail:
		if t.Transaction != x.fastNext {
			clear(t.Value[4:])
		}
		return
	}
	if !x.fastValid {
		clear(t.Value)
	}
}
