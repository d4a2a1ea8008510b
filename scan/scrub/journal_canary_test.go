package scrub

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"e2qcow/ext"
)

// canaryJournal is what scrubs a journal on a filesystem so large that any four
// letters are the number of a block, none of which is known.
func canaryJournal() journalScrub {
	s := newScrubber(false)
	s.lim.blocks, s.lim.blockSize = 1<<40, testBlockSize
	return journalScrub{
		keys: s.keys, lim: &s.lim, blocks: 1 << 40,
		known:    func(n uint64) bool { return n < 1<<20 },
		metadata: func(_ uint64, b []byte) { clear(b) },
		uuid:     s.journalUUID,
		name:     func(parent uint32, name []byte) { s.replacer(s.keys.get(), parent).entry(name, 0) },
		inode:    func(ino uint32, in ext.Inode) { s.inode(s.keys.get(), ino, in) },
	}
}

// maxCanary is the longest run of a canary that a number can hold, in bytes.
const maxCanary = 4

// leftOf returns what is left of a canary, without the zeros around it.
func leftOf(canary, fresh []byte) []byte { return bytes.Trim(longest(canary, fresh), "\x00") }

// TestJournalCanaries fills every byte of each block of a log with canaries, but
// for its header, under wrong checksums and right ones.
func TestJournalCanaries(t *testing.T) {
	t.Parallel()
	const header = 12
	for _, form := range ringForms {
		probe := newRing(32, 3, 20, form.compat, form.incompat)
		probe.fill(t)
		recovery, _ := probe.recovered(t)
		for name, canary := range canaries(testBlockSize) {
			for _, b := range recovery.Log {
				for _, from := range []int{header, 16, 28, 48, 60, 512} {
					for _, mend := range []bool{false, true} {
						if name == "ones" {
							continue
						}
						r := newRing(32, 3, 20, form.compat, form.incompat)
						r.fill(t)
						block := r.block(b.Block)
						copy(block[from:], canary[from:])
						if mend && r.sums() {
							switch b.Kind {
							case ext.JournalCommit:
								be.PutUint32(block[16:], r.superblock(t).CommitChecksum(block))
							case ext.JournalRevoke:
								be.PutUint32(block[12:], 16) // else it is a sound list of numbers, which stay
								r.mendTail(t, block)
							default:
								r.mendTail(t, block)
							}
						}
						out, _ := scrubRing(t, r, canaryJournal())
						if run := leftOf(canary[from:], out.block(b.Block)); len(run) > maxCanary {
							t.Errorf("%x %x, block %d, kind %d, %s from byte %d, right %v: %q is left", form.compat, form.incompat, b.Block, b.Kind, name, from, mend, run)
						}
					}
				}
			}
		}
	}
}

// TestJournalSuperblockCanaries fills the superblock of a journal.
func TestJournalSuperblockCanaries(t *testing.T) {
	t.Parallel()
	for _, form := range ringForms {
		for _, version := range []uint32{1, 2, 3, 4, 7} {
			for name, canary := range canaries(testBlockSize) {
				for _, at := range []int{4, 8, 12, 0x24, 0x30, 0x40, 0x44, 0x50, 0x5C, 0x100, 0x200} {
					if name == "ones" {
						continue
					}
					r := newRing(32, 3, 20, form.compat, form.incompat)
					be.PutUint32(r.data[4:], version)
					be.PutUint32(r.data[0x40:], 3)
					copy(r.block(0)[at:], canary[at:])
					r.mendSuperblock()
					s := canaryJournal()
					block := r.block(0)
					journalSuperblock(s.keys.get(), s.lim, block, s.uuid)
					if run := leftOf(canary[at:], block); len(run) > maxCanary {
						t.Errorf("%x %x, version %d, %s from byte %d: %q is left", form.compat, form.incompat, version, name, at, run)
					}
				}
			}
		}
	}
}

// TestFastCommitCanaries fills the value of each tag of a fast commit, under a
// right checksum and a wrong one. Of a right one the numbers of its tags stay.
func TestFastCommitCanaries(t *testing.T) {
	t.Parallel()
	tables := map[ext.FastCommitType]*structure{
		ext.FastCommitAddRange: fastCommitAddRangeFields, ext.FastCommitDelRange: fastCommitDelRangeFields,
		ext.FastCommitCreate: fastCommitNameFields, ext.FastCommitLink: fastCommitNameFields, ext.FastCommitUnlink: fastCommitNameFields,
		ext.FastCommitInode: fastCommitInodeFields, ext.FastCommitPad: nil, ext.FastCommitTail: fastCommitTailFields,
		ext.FastCommitHead: fastCommitHeadFields, 0: nil, 10: nil, 0x6151: nil,
	}
	for name, canary := range canaries(testBlockSize) {
		if name == "ones" {
			continue
		}
		for typ, table := range tables {
			for _, length := range []int{4, 16, 40, 164, 300, 30000} {
				for _, right := range []bool{false, true} {
					r := newRing(1100, 1, 20, 0, ext.JournalIncompatFastCommit)
					be.PutUint32(r.data[0x54:], 64)
					r.fill(t)
					first, _ := r.superblock(t).FastCommitArea()
					b := r.block(first)
					copy(b, canary)
					putCanaryCommit(b, typ, length, right)
					was := bytes.Clone(b)
					s := canaryJournal()
					s.lim.blocks = testBlocks
					x, err := newJournalIndex(context.Background(), r.superblock(t), testBlockSize, r.blocks(), r.read, s)
					if err != nil {
						t.Fatal(err)
					}
					x.block(first, b)
					if table != nil && x.fastValid && length >= table.size {
						for _, f := range table.fields { // what the table says stays
							if f.rule == number {
								at := 16 + f.off
								clear(b[at : at+f.size])
							}
						}
					}
					const value = 16
					if run := leftOf(was[value:], b[value:min(value+length, len(b))]); len(run) > maxCanary {
						t.Errorf("%s, tag %d of %d bytes, right %v: %q is left", name, typ, length, right, run)
					}
					if want := right && length <= 300 && 1 <= typ && typ <= 9; x.fastValid && !want {
						t.Errorf("tag %d of %d bytes, right %v: taken", typ, length, right)
					}
				}
			}
		}
	}
}

// putCanaryCommit makes a fast commit of a block that is full of canaries: a
// head, a tag whose value is what stands there, and a tail.
func putCanaryCommit(b []byte, typ ext.FastCommitType, length int, right bool) {
	const sequence = 9
	tag := func(at int, typ ext.FastCommitType, length int) int {
		le.PutUint16(b[at:], uint16(typ))
		le.PutUint16(b[at+2:], uint16(length))
		return at + 4 + length
	}
	tag(0, ext.FastCommitHead, 8)
	le.PutUint32(b[4:], 0)
	le.PutUint32(b[8:], sequence)
	at := tag(12, typ, length)
	if at+12 > len(b) {
		return
	}
	if typ == ext.FastCommitAddRange && length >= 16 || typ == ext.FastCommitDelRange && length >= 12 {
		le.PutUint32(b[16:], 12) // an inode
	}
	crc := ext.CRC32C(0, b[:at])
	tag(at, ext.FastCommitTail, 8)
	if !right {
		return
	}
	le.PutUint32(b[at+4:], sequence)
	le.PutUint32(b[at+8:], ext.CRC32C(crc, b[at:at+8]))
}

// FuzzJournalBlocks scrubs the blocks of a log with nothing to change but the
// UUID of the journal: whatever they hold, recovery reads the same in them, and
// believes the same of them.
func FuzzJournalBlocks(f *testing.F) {
	for i, form := range ringForms {
		r := newRing(32, 3, 20, form.compat, form.incompat)
		r.fill(f)
		f.Add(bytes.Clone(r.block(20)), i)
		f.Add(bytes.Clone(r.block(25)), i)
		f.Add(bytes.Clone(r.block(26)), i)
	}
	f.Fuzz(func(t *testing.T, b []byte, form int) {
		const device = 1 << 60
		jsb := &ext.JournalSuperblock{Incompat: ringForms[uint(form)%uint(len(ringForms))].incompat, MaxLen: 32, BlockSize: testBlockSize}
		fresh := *jsb
		fresh.UUID = [16]byte{1, 2, 3}
		s := journalScrub{keys: newKeyring([KeySize]byte{9}), lim: &limits{blockSize: testBlockSize}, blocks: device}
		x := &journalIndex{scrub: s, jsb: jsb, fresh: &fresh}
		d := s.keys.get()
		block := func() []byte {
			block := make([]byte, testBlockSize)
			copy(block, b)
			return block
		}
		tagsOf := func(jsb *ext.JournalSuperblock, b []byte) (list []uint64) {
			for r := jsb.Tags(b); r.Next(); {
				list = append(list, min(r.Tag().Block*testBlockSize/testBlockSize, device))
			}
			return list
		}
		old, descriptor := block(), block()
		x.descriptor(d, descriptor, func() journalRole { return journalRole{} })
		if was, is := tagsOf(jsb, old), tagsOf(&fresh, descriptor); !slices.Equal(was, is) || jsb.VerifyBlock(old) != fresh.VerifyBlock(descriptor) {
			t.Errorf("descriptor: the tags were %v and are %v", was, is)
		}
		revokesOf := func(jsb *ext.JournalSuperblock, b []byte) string {
			var list []uint64
			err := jsb.Revokes(b, func(n uint64) { list = append(list, min(n*testBlockSize/testBlockSize, device)) })
			return fmt.Sprint(list, err == nil)
		}
		revoke := block()
		x.revokes(d, revoke)
		if was, is := revokesOf(jsb, old), revokesOf(&fresh, revoke); was != is {
			t.Errorf("revoke block: it named %v and names %v", was, is)
		}
		commit := block()
		x.commit(d, commit, 0)
		if jsb.VerifyCommit(old) != fresh.VerifyCommit(commit) {
			t.Error("commit block: believed before or after")
		}
	})
}
