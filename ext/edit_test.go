package ext

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// editForms are features of a journal that its blocks depend on.
var editForms = []uint32{
	0,
	JournalIncompat64bit,
	JournalIncompatCsumV2,
	JournalIncompatCsumV2 | JournalIncompat64bit,
	JournalIncompatCsumV3 | JournalIncompat64bit,
}

// tagsOf returns the tags of a descriptor.
func tagsOf(j *JournalSuperblock, block []byte) (tags []JournalTag) {
	for r := j.Tags(block); r.Next(); {
		tags = append(tags, r.Tag())
	}
	return tags
}

// revokesOf returns what a revoke block names, and whether recovery takes it.
func revokesOf(j *JournalSuperblock, block []byte) (list []uint64, ok bool) {
	err := j.Revokes(block, func(n uint64) { list = append(list, n) })
	return list, err == nil
}

// FuzzJournalEdit gives a journal another UUID: whatever its blocks hold,
// recovery reads the same in them, and believes the same of them.
func FuzzJournalEdit(f *testing.F) {
	const size = 1024
	for form, incompat := range editForms {
		j := &JournalSuperblock{Incompat: incompat}
		block := make([]byte, size)
		be := binary.BigEndian
		be.PutUint32(block, journalMagic)
		be.PutUint32(block[8:], 7)
		be.PutUint32(block[journalHeaderLen:], journalRevokeStart+32)
		for i := journalRevokeStart; i < 200; i++ {
			block[i] = byte(i)
		}
		f.Add(block, form)
		if j.blockChecksums() {
			block = bytes.Clone(block)
			be.PutUint32(block[size-journalTailLen:], j.BlockChecksum(block))
			f.Add(block, form)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, form int) {
		j := &JournalSuperblock{Incompat: editForms[uint(form)%uint(len(editForms))]}
		e := j.Edit([16]byte{1, 2, 3})
		fresh := func() []byte {
			block := make([]byte, size)
			copy(block, b)
			return block
		}

		block := fresh()
		tags, sound := tagsOf(j, block), j.VerifyBlock(block)
		e.Descriptor(block, func(*JournalTag) {})
		if got := tagsOf(e.to, block); !slices.Equal(got, tags) || e.to.VerifyBlock(block) != sound {
			t.Errorf("descriptor: %v, believed %v; %v, %v before", got, e.to.VerifyBlock(block), tags, sound)
		}

		block = fresh()
		revokes, sound := revokesOf(j, block)
		e.Revokes(block, func(n uint64) uint64 { return n })
		if got, ok := revokesOf(e.to, block); !slices.Equal(got, revokes) || ok != sound {
			t.Errorf("revoke block: %v, taken %v; %v, %v before", got, ok, revokes, sound)
		}

		block = fresh()
		sound = j.VerifyCommit(block)
		e.Commit(block, 0)
		if e.to.VerifyCommit(block) != sound {
			t.Errorf("commit block: believed %v before", sound)
		}

		block = fresh()
		before, err := DecodeJournalSuperblock(block)
		EditJournalSuperblock(block, nil)
		if after, newErr := DecodeJournalSuperblock(block); (err == nil) != (newErr == nil) || err == nil && after.checksumOK != before.checksumOK {
			t.Errorf("superblock: %+v, %v; %+v, %v before", after, newErr, before, err)
		}
	})
}

// FuzzFastCommitEdit rewrites fast commits with nothing to change: recovery
// reads the same tags, and takes as many.
func FuzzFastCommitEdit(f *testing.F) {
	for _, b := range sampleFastCommits().blocks {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		scan := func(b []byte) (types []FastCommitType, s *FastCommitScan) {
			s = NewFastCommitScan(7)
			s.Block(b, func(t *FastCommitTag) { types = append(types, t.Type) })
			return types, s
		}
		types, before := scan(b)
		if before.End().Block > 0 || before.End().Offset > len(b) {
			t.Fatalf("of %d bytes it ends at %+v", len(b), before.End())
		}
		edited := bytes.Clone(b)
		new(FastCommitEdit).Block(edited, before.End().Offset, func(*FastCommitTag) {})
		got, after := scan(edited)
		if after.Tags() != before.Tags() || after.Blocks() != before.Blocks() || len(got) < int(before.Tags()) ||
			!slices.Equal(got[:before.Tags()], types[:before.Tags()]) {
			t.Errorf("%v, %d taken; %v, %d before", got, after.Tags(), types, before.Tags())
		}
	})
}

// FuzzViews asks the views of structures of any contents for their parts: those
// lie within them, and a checksum that is put back is as it was.
func FuzzViews(f *testing.F) {
	f.Add(make([]byte, 256))
	f.Add(bytes.Repeat([]byte{0xFF}, 1024))
	root := make([]byte, 1024)
	root[direntHeaderLen] = '.'
	copy(root[direntMinLen+direntHeaderLen:], "..")
	root[2*direntMinLen+5] = dxInfoLen
	binary.LittleEndian.PutUint16(root[dxRootStart:], 124)
	binary.LittleEndian.PutUint16(root[dxRootStart+2:], 2)
	f.Add(root)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range []func([]byte) (IndexBlock, bool){DecodeIndexRoot, DecodeIndexNode} {
			x, ok := decode(b)
			if !ok {
				continue
			}
			parts := len(x.Limits()) + len(x.Block(0))
			for i := 1; i < x.Count(); i++ {
				parts += len(x.Hash(i)) + len(x.Block(i))
			}
			if x.start+parts > len(b) {
				t.Errorf("%d bytes: %d up to the last entry", len(b), x.start+parts)
			}
		}
		if len(b) >= goodOldInodeSize {
			in := Inode(bytes.Clone(b))
			SetInodeChecksum(in, 0xDEADBEEF)
			SetInodeChecksum(in, StoredInodeChecksum(Inode(b)))
			if !bytes.Equal(in, b) {
				t.Error("a checksum put back is another")
			}
		}
	})
}
