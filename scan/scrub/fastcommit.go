package scrub

import "e2qcow/ext"

// Of the fast-commit area there is left what decides how a recovery goes: the
// tags up to the last good tail; where there is none, up to the tag that ends
// the scan, which e2fsck reports.

// fastCommits finds the end of the fast commits, and what their checksums
// change by.
func (r *journalReader) fastCommits() {
	x := r.index
	first, end := x.jsb.FastCommitArea()
	scan := ext.NewFastCommitScan(r.recovery.End)
	var edit ext.FastCommitEdit
	for n := first; n < end && r.ctx.Err() == nil; n++ {
		r.load(n, r.before)
		x.fast = append(x.fast, edit)
		if !scan.Block(r.before, nil) {
			break
		}
		edit.Block(r.before, len(r.before), x.fastCommitTag)
	}
	x.fastEnd = scan.End()
}

// fastCommit scrubs a block that has no place in the log.
func (x *journalIndex) fastCommit(n uint32, data []byte) {
	if x.jsb == nil {
		clear(data)
		return
	}
	first, _ := x.jsb.FastCommitArea()
	if n < first || uint64(n-first) >= uint64(len(x.fast)) || n-first > x.fastEnd.Block {
		clear(data)
		return
	}
	end := len(data)
	if n-first == x.fastEnd.Block {
		end = min(end, x.fastEnd.Offset)
	}
	edit := x.fast[n-first]
	edit.Block(data, end, x.fastCommitTag)
}

func (x *journalIndex) fastCommitTag(t *ext.FastCommitTag) {
	switch t.Type {
	case ext.FastCommitCreate, ext.FastCommitLink, ext.FastCommitUnlink:
		x.scrub.name(t.Parent, t.Name)
	case ext.FastCommitInode:
		x.scrub.inode(t.Inode, t.Raw)
	}
}
