package scrub

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"unicode/utf16"

	"e2qcow/ext"
	"e2qcow/scan"
)

// structures are all tables of rules.
var structures = []*structure{
	superblockFields, mmpFields, descFields, inodeFields, extentHeaderFields, extentFields, extentIndexFields,
	direntFields, direntTailFields, xattrHeaderFields, xattrEntryFields,
	quotaHeaderFields, quotaLeafFields, quotaEntryFields,
	journalHeaderFields, journalSuperblockFields, journalSuperblockV1Fields, journalTagFields, journalTag3Fields,
	journalRevokeFields, journalCommitFields, fastCommitFields, fastCommitHeadFields, fastCommitTailFields,
	fastCommitAddRangeFields, fastCommitDelRangeFields, fastCommitNameFields, fastCommitInodeFields,
}

// canaries are texts in forms in which contents lie on disks, to fill a
// structure with.
func canaries(n int) map[string][]byte {
	const text = "QzkT7mWrandomWordsOfSomebody,notToBeRead;"
	var wide []byte
	for _, c := range utf16.Encode([]rune(text)) {
		wide = binary.LittleEndian.AppendUint16(wide, c)
	}
	short := []byte("Qs7word\x00\x01\x02\x03\x04\x05\x06Name9\x00\x00")
	fill := func(unit []byte) []byte { return bytes.Repeat(unit, n/len(unit)+1)[:n] }
	return map[string][]byte{"text": fill([]byte(text)), "utf-16": fill(wide), "short words": fill(short), "ones": fill([]byte{0xFF})}
}

// longest returns the longest run of bytes in old that stands somewhere in
// fresh, of those with four different bytes at least.
func longest(old, fresh []byte) (run []byte) {
	for i := range old {
		for n := len(run) + 1; i+n <= len(old) && n <= 64 && bytes.Contains(fresh, old[i:i+n]); n++ {
			if counts(old[i : i+n]) {
				run = old[i : i+n]
			}
		}
	}
	return run
}

// TestTables has fields ascend without overlapping, and end in the structure.
func TestTables(t *testing.T) {
	for _, st := range structures {
		end := 0
		for _, f := range st.fields {
			if f.off < end || f.off+f.size > st.size {
				t.Errorf("%s: %s lies at %#x, %d bytes", st.name, f.name, f.off, f.size)
			}
			if end = f.off + f.size; f.rule == bounded && f.possible == nil {
				t.Errorf("%s: %s is bounded by nothing", st.name, f.name)
			}
		}
	}
}

// TestRules fills every byte of each structure, and asks the table which may
// come through: numbers of what is genuine, and nothing of what is garbage.
func TestRules(t *testing.T) {
	s := newScrubber(false)
	d := s.keys.get()
	for _, st := range structures {
		for form, old := range canaries(st.size) {
			for _, how := range []standing{genuine, plausible, doubtful, garbage} {
				fresh := make([]byte, st.size)
				st.write(d, &s.lim, fresh, old, how)
				rest := bytes.Clone(fresh)
				for _, f := range st.fields {
					was, is := old[f.off:f.off+f.size], fresh[f.off:f.off+f.size]
					clear(rest[f.off : f.off+f.size])
					same := bytes.Equal(was, is)
					switch {
					case f.rule == checksum, f.rule == drawn, f.rule == part, f.rule == place:
						if !allZero(is) {
							t.Errorf("%s, %s: %s is %x, though another rule writes it", st.name, form, f.name, is)
						}
					case how == genuine && f.rule != unset:
						if !same {
							t.Errorf("%s, %s: %s became %x", st.name, form, f.name, is)
						}
					case f.rule == bounded && how != garbage && f.possible(&s.lim, uintOf(st.order, was)):
						if !same {
							t.Errorf("%s, %s: %s is possible, and became %x", st.name, form, f.name, is)
						}
					case f.rule == number && how == plausible && (f.possible == nil || f.possible(&s.lim, uintOf(st.order, was))):
						if !same {
							t.Errorf("%s, %s: %s is within reason, and became %x", st.name, form, f.name, is)
						}
					case f.size >= 4 && same && textual(was):
						t.Errorf("%s, %s, %d: %s stays %x", st.name, form, how, f.name, is)
					}
					if f.possible != nil && how != doubtful && f.possible(&s.lim, uintOf(st.order, was)) != f.possible(&s.lim, uintOf(st.order, is)) {
						t.Errorf("%s, %s, %d: %s was %x, and is %x", st.name, form, how, f.name, was, is)
					}
				}
				if !allZero(rest) {
					t.Errorf("%s, %s: %x stands in no field", st.name, form, rest)
				}
			}
		}
	}
}

// TestContentsOverStructures has contents of files lie over blocks of every
// kind: nothing that could be a word comes through.
func TestContentsOverStructures(t *testing.T) {
	const most = 4 // bytes
	for k := range scan.Claimed {
		for _, sums := range []bool{false, true} {
			for form, old := range canaries(1024) {
				if form == "ones" {
					continue
				}
				s := newScrubber(false)
				s.sums = sums
				s.tables = []scan.TableRun{{Start: 0, Count: 100, First: 1, InodeSize: 256, BlockSize: 1024}}
				fresh := bytes.Clone(old)
				s.blockAs(s.keys.get(), k, 7, fresh)
				if run := longest(old, fresh); len(run) > most {
					t.Errorf("%v, %s, checksums %v: %q is left", k, form, sums, run)
				}
			}
		}
	}
}

// TestContentsInHalf has contents of files lie over a half of a sound structure.
func TestContentsInHalf(t *testing.T) {
	sound := map[scan.Kind][]byte{}
	table := make([]byte, 1024)
	for at := 0; at < len(table); at += 256 {
		in := ext.Inode(table[at : at+256])
		le.PutUint16(in, ext.ModeRegular|0o644)
		le.PutUint16(in[0x1A:], 1)
		le.PutUint32(in[0x04:], 3000)
		le.PutUint32(in[0x1C:], 6)
		le.PutUint16(in[inodeExtraSizeOffset:], 32)
		for i := range 3 {
			le.PutUint32(in[ext.IBlockOffset+4*i:], uint32(3000+i))
		}
	}
	sound[scan.InodeTable] = table
	pointers := make([]byte, 1024)
	for i := range 256 {
		le.PutUint32(pointers[4*i:], uint32(1000+i))
	}
	sound[scan.IndirectBlock] = pointers
	sound[scan.BlockBitmap] = bytes.Repeat([]byte{0xFF}, 1024)
	for k, block := range sound {
		for _, sums := range []bool{false, true} {
			for form, canary := range canaries(512) {
				for _, at := range []int{0, 64, 256, 300, 512} {
					if form == "ones" {
						continue
					}
					s := newScrubber(false)
					s.sums = sums
					s.lim.blocks = 1 << 31 // any four letters are the number of a block
					s.tables = []scan.TableRun{{Start: 0, Count: 100, First: 1, InodeSize: 256, BlockSize: 1024}}
					fresh := bytes.Clone(block)
					copy(fresh[at:], canary)
					s.blockAs(s.keys.get(), k, 7, fresh)
					if run := longest(canary, fresh); len(run) > 4 {
						t.Errorf("%v, %s at %d, checksums %v: %q is left", k, form, at, sums, run)
					}
				}
			}
		}
	}
}

// TestSums has a checksum that is right stay right, none stay none, and a wrong
// one tell nothing: with another key it is wrong by another difference.
func TestSums(t *testing.T) {
	s := newScrubber(false)
	d := s.keys.get()
	const was, is = 0x11223344, 0x55667788
	if got := d.sumOf(was, is, true); got != is {
		t.Errorf("a right one became %#x", got)
	}
	if got := d.sumOf(0, is, false); got != 0 {
		t.Errorf("none became %#x", got)
	}
	seen := map[uint32]bool{}
	for key := range byte(20) {
		k := newKeyring([KeySize]byte{key}).get()
		got := k.sumOf(was, is, false)
		if uint16(got) == is&0xFFFF || got>>16 == is>>16 || got == was || seen[got] {
			t.Errorf("a wrong one became %#x", got)
		}
		seen[got] = true
	}
}

// TestNoise has a number become another of as many bits, on its side of a limit.
func TestNoise(t *testing.T) {
	d := newKeyring([KeySize]byte{7}).get()
	for _, limit := range []uint64{1, 2, 100, 1 << 16, 1 << 31, 1<<32 - 1} {
		for _, v := range []uint64{1, 2, 7, 99, 100, 101, 0x61626364, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			name := fmt.Sprintf("%#x, limit %#x", v, limit)
			fits := func(x uint64) bool { return x >= limit == (v >= limit) }
			if got := d.noise(v, 4, fits); got == 0 || got >= 1<<32 || v >= limit && got < limit {
				t.Errorf("%s: %#x", name, got)
			}
		}
	}
	if d.noise(0, 4, nil) != 0 {
		t.Error("zero is not zero")
	}
}
